import { expect, it, onTestFinished } from "vitest";
import { temporaryDirectory } from "../store/disks.ts";
import { Errands, type Phase, type Victim } from "./errands.ts";

// One offload for each process that can be killed under it; all phases of all of them come with `npm run test:offloads`.

const ROWS = {
  together: [
    ["uploading", "laptop", "done"],
    ["running", "sandbox", "error"],
  ],
  apart: [
    ["returning", "relay", "done"],
    ["running", "controller", "error"],
  ],
} as const satisfies Record<string, readonly (readonly [Phase, Victim, end: string])[]>;

it("an offload under which a process is killed ends well or says why, and leaves nothing behind", async () => {
  const seed = Date.now() % 2 ** 31;
  const play = async (layout: keyof typeof ROWS, directory: string) => {
    const errands = await Errands.open(directory, seed, layout);
    onTestFinished(() => errands.end());
    for (const [phase, victim, end] of ROWS[layout]) {
      const { view } = await errands.row(phase, victim);
      expect(view.status, `${phase}, ${victim}, seed ${seed}`).toBe(end);
    }
    await errands.close();
  };
  const [together, apart] = [await temporaryDirectory(), await temporaryDirectory()];
  await Promise.all([play("together", together), play("apart", apart)]);
}, 120_000);

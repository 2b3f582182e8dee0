import { expect, it, onTestFinished } from "vitest";
import { temporaryDirectory } from "../store/disks.ts";
import { Errands, type Phase, type Victim } from "./errands.ts";

// Two offloads of which a process is killed; all phases of all processes come with `npm run test:offloads`.

const ROWS = [
  ["uploading", "laptop", "done"],
  ["running", "sandbox", "error"],
] as const satisfies readonly (readonly [Phase, Victim, end: string])[];

it("an offload under which a process is killed ends well or says why, and leaves nothing behind", async () => {
  const seed = Date.now() % 2 ** 31;
  const errands = await Errands.open(await temporaryDirectory(), seed, "together");
  onTestFinished(() => errands.end());
  for (const [phase, victim, end] of ROWS) {
    const { view } = await errands.row(phase, victim);
    expect(view.status, `${phase}, ${victim}, seed ${seed}`).toBe(end);
  }
  await errands.close();
}, 120_000);

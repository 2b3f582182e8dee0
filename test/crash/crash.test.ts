import { expect, it, onTestFinished } from "vitest";
import { temporaryDirectory } from "../store/disks.ts";
import { CrashLoop, type Phase } from "./loop.ts";

// A little of the crash loop; hundreds of deaths, in every phase, come with `npm run test:crash`.

const PHASES = ["rollover", "opening", "cluster"] as const satisfies readonly Phase[];

it("whatever is killed when: accepted messages arrive once and in order, and every home opens as it was", async () => {
  const seed = Date.now() % 2 ** 31;
  const loop = await CrashLoop.open(await temporaryDirectory(), seed);
  onTestFinished(() => loop.end());
  try {
    for (const phase of PHASES) await loop.round(phase);
    await loop.close();
  } catch (cause) {
    throw new Error(`seed ${seed}: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
  const { rounds, kills, accepted, received, pairings } = loop.tally;
  expect({ rounds, pairings }).toEqual({ rounds: PHASES.length, pairings: 0 });
  expect(Object.values(kills).reduce((sum, each) => sum + each, 0)).toBeGreaterThanOrEqual(PHASES.length - 1);
  expect(received).toBeGreaterThanOrEqual(accepted);
}, 120_000);

/** Whole worlds from a seed: nothing accepted is lost, whatever dies when. `npm run simulate -- --help` says more. */
import { expect, it } from "vitest";
import { run } from "./run.ts";

const SEEDS = 30;
const PORTION = 10;
const portions = Array.from({ length: SEEDS / PORTION }, (_, portion) => 1 + portion * PORTION);

it.each(portions)(`keeps every promise in ${PORTION} worlds from seed %i on`, { timeout: 120_000 }, async (first) => {
  for (let seed = first; seed < first + PORTION; seed++) {
    const { violations } = await run({ seed });
    expect(violations, `npm run simulate -- --seed ${seed} --trace`).toEqual([]);
  }
});

it("is the same run for the same seed", async () => {
  const [once, again] = [await run({ seed: 2 }), await run({ seed: 2 })];
  expect(again).toEqual(once);
});

/**
 * Whole worlds from a seed: nothing accepted is lost, whatever dies when. A few of them; hundreds come with `npm run simulate`,
 * whose --help says more.
 */
import { expect, it } from "vitest";
import { run } from "./run.ts";

const SEEDS = Array.from({ length: 10 }, (_, index) => 1 + index);

it.each(SEEDS)("keeps every promise in the world of seed %i", { timeout: 120_000 }, async (seed) => {
  const { violations } = await run({ seed });
  expect(violations, `npm run simulate -- --seed ${seed} --trace`).toEqual([]);
});

it("is the same run for the same seed", async () => {
  const [once, again] = [await run({ seed: 2 }), await run({ seed: 2 })];
  expect(again).toEqual(once);
});

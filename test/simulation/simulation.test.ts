/** Whole worlds from a seed: nothing accepted is lost, whatever dies when. `npm run simulate -- --help` says more. */
import { expect, it } from "vitest";
import { run } from "./run.ts";

const SEEDS = [1, 2, 3, 5, 6];

it("keeps every promise in every world", { timeout: 120_000 }, async () => {
  for (const seed of SEEDS) {
    const { violations } = await run({ seed });
    expect(violations, `npm run simulate -- --seed ${seed}`).toEqual([]);
  }
});

it("is the same run for the same seed", async () => {
  const [once, again] = [await run({ seed: 2 }), await run({ seed: 2 })];
  expect(again).toEqual(once);
});

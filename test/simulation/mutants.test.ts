/** What the simulation is worth: it finds deliberate breakages. `npm run simulate -- --mutants` says by which seed. */
import { expect, it } from "vitest";
import { hunt } from "./hunt.ts";
import { MUTANTS } from "./mutants.ts";

it.each(MUTANTS)("shows that $breakage", { timeout: 600_000 }, async (mutant) => {
  expect(await hunt(mutant, mutant.shownBy ?? 1, 1_000)).toBeDefined();
});

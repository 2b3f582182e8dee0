/** A bounded part of `npm run fuzz`, the same cases every time. */
import { describe, expect, test } from "vitest";
import { newTally, runCase } from "./fuzz.ts";
import { targets } from "./targets.ts";

const SEED = 2026;
const CASES = 60;
/** Their samples are right at another place only: frames without an envelope, lines of another number. */
const ELSEWHERE = new Set(["envelope", "journal-lines"]);

describe("a parser gives a value of its type or its own error", () => {
  test.each(targets.map((target) => ({ name: target.name, target })))("$name", async ({ target }) => {
    const tally = newTally();
    for (let index = 0; index < CASES; index++) await runCase(target, SEED, index, tally);
    expect(tally.findings).toEqual([]);
  });

  test.each(targets.map((target) => ({ name: target.name, target })))("$name takes its samples", async ({ target }) => {
    for (const sample of target.samples) {
      const outcome =
        target.kind === "bytes"
          ? await target.take(sample instanceof Uint8Array ? sample : new Uint8Array())
          : await target.take(target.kind === "json" ? JSON.stringify(sample) : String(sample));
      if (!ELSEWHERE.has(target.name)) expect({ sample, outcome }).toEqual({ sample, outcome: "taken" });
    }
  });
});

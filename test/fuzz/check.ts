/** What every target asks of what a parser gave. */
import { isDeepStrictEqual } from "node:util";
import type { z } from "zod";
import { safeParse } from "../../src/parse.ts";
import type { Outcome, Target } from "./fuzz.ts";

export function json(text: string): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) };
  } catch {
    // Whoever reads JSON says so in its own way; what follows is about what is JSON.
    return undefined;
  }
}

/** Whether two values are equal; undefined when they lie too deep to be compared. */
function equal(a: unknown, b: unknown): boolean | undefined {
  try {
    return isDeepStrictEqual(a, b);
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

export function assertEqual(a: unknown, b: unknown, what: string): void {
  if (equal(a, b) === false) throw new Error(what);
}

/** A target for a schema: what it gives it takes again as it is, so that it is of its type and in its bounds. */
export function schemaTarget(
  name: string,
  schema: z.ZodType,
  samples: readonly unknown[],
  also: (value: unknown) => void = () => undefined,
): Target {
  return {
    name,
    kind: "json",
    samples,
    take(text): Outcome {
      const parsed = json(text);
      if (!parsed) return "refused";
      const result = safeParse(schema, parsed.value);
      if (!result.success) return "refused";
      assertEqual(schema.parse(result.data), result.data, "what the schema gave it does not take again");
      also(result.data);
      return "taken";
    },
  };
}

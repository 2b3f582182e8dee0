import type { Mutant } from "./mutant.ts";
import { run } from "./run.ts";

// The hunt for a mutant: worlds run with something broken in the program, until one of them shows it.

export interface Found {
  readonly seed: number;
  readonly violation: string;
}

/** The first seed that shows the mutant; undefined when none of so many does. */
export async function hunt({ tampering, apply }: Mutant, first: number, seeds: number): Promise<Found | undefined> {
  for (let seed = first; seed < first + seeds; seed++) {
    const repair = apply?.();
    try {
      const [violation] = (await run({ seed, tampering })).violations;
      if (violation !== undefined) return { seed, violation };
    } catch (error) {
      return { seed, violation: String(error) };
    } finally {
      repair?.();
    }
  }
  return undefined;
}

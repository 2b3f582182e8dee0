import type { Tampering } from "./process.ts";

// A deliberate breakage of the program, from outside, for the time of a run.

export interface Mutant {
  readonly name: string;
  /** What is broken. */
  readonly breakage: string;
  /** This world shows it, sooner than most or as one of few: the hunt in `npm test` begins there. */
  readonly shownBy?: number;
  readonly tampering?: Tampering;
  /** Breaks it; gives what repairs it. */
  readonly apply?: () => () => void;
}

/** A method replaced by another that is made of it. */
export function replacing<T extends object, K extends keyof T>(prototype: T, name: K, make: (original: T[K]) => T[K]) {
  return () => {
    const original = prototype[name];
    prototype[name] = make(original);
    return () => {
      prototype[name] = original;
    };
  };
}

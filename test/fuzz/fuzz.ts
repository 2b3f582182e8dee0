/**
 * The fuzzer: gives a parser inputs that are almost right, and holds it to what a parser promises: a value of its type or
 * its own error, in bounded time. Every case follows from a seed, a target and a number, so each can be repeated alone.
 */
import { CryptoError } from "../../src/crypto/index.ts";
import { MeshError } from "../../src/errors.ts";
import { Chance, mutateBytes, mutateJson, mutateText } from "./mutate.ts";

/** What a parser made of an input. Anything but these is a finding, as is every error that is not the parser's own. */
export type Outcome = "taken" | "refused";

interface Base<S, I> {
  /** As it is named on the command line. */
  readonly name: string;
  /** Inputs that the parser takes. */
  readonly samples: readonly S[];
  /** Gives the input to the parser, and throws when what comes out is not of its type or beyond its bounds. */
  readonly take: (input: I) => Outcome | Promise<Outcome>;
}

/** `json` samples are values and reach the parser as JSON text. */
export type Target =
  | ({ readonly kind: "json" } & Base<unknown, string>)
  | ({ readonly kind: "text" } & Base<string, string>)
  | ({ readonly kind: "bytes" } & Base<Uint8Array, Uint8Array>);

export interface Finding {
  readonly target: string;
  readonly seed: number;
  readonly case: number;
  readonly problem: string;
  /** The beginning of the input; bytes as hex. */
  readonly input: string;
}

export interface Tally {
  cases: number;
  taken: number;
  refused: number;
  /** The longest that one case took, in milliseconds. */
  slowest: number;
  readonly findings: Finding[];
}

/** No input that fits the mutator's sizes may cost a parser more than this. */
export const CASE_MS_MAX = 2_000;
/** After so many findings a target is known to be broken. */
const FINDINGS_MAX = 5;
const SHOWN = 400;

/** Another number for every target and case. */
function seedOf(seed: number, target: string, index: number): number {
  let mixed = seed ^ Math.imul(index + 1, 0x9e3779b1);
  for (const letter of target) mixed = Math.imul(mixed ^ letter.charCodeAt(0), 0x01000193);
  return mixed;
}

/** Runs the parser as it is called: what it throws that is its own is a refusal. */
export async function attempt(parse: () => unknown): Promise<Outcome> {
  try {
    await parse();
    return "taken";
  } catch (error) {
    if (error instanceof MeshError && error.code !== "internal") return "refused";
    if (error instanceof CryptoError) return "refused";
    throw error;
  }
}

function shown(input: string | Uint8Array): string {
  const text = typeof input === "string" ? JSON.stringify(input) : Buffer.from(input).toString("hex");
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}… (${text.length} characters)` : text;
}

/** The input of one case. */
function inputOf(target: Target, seed: number, index: number): string | Uint8Array {
  const chance = new Chance(seedOf(seed, target.name, index));
  if (target.kind === "bytes") return mutateBytes(chance, target.samples);
  if (target.kind === "text") return mutateText(chance, target.samples);
  // Most often the structure stays JSON; sometimes its text is what breaks.
  const text = mutateJson(chance, target.samples);
  return chance.below(8) === 0 ? mutateText(chance, [text]) : text;
}

/** Runs one case of a target and counts it. */
export async function runCase(target: Target, seed: number, index: number, tally: Tally): Promise<void> {
  const input = inputOf(target, seed, index);
  const begun = performance.now();
  let problem: string | undefined;
  try {
    const outcome =
      target.kind === "bytes"
        ? await target.take(typeof input === "string" ? Buffer.from(input) : input)
        : await target.take(typeof input === "string" ? input : "");
    tally[outcome]++;
  } catch (error) {
    problem = error instanceof Error ? `${error.name}: ${error.message}`.slice(0, SHOWN) : String(error);
  }
  const took = performance.now() - begun;
  tally.cases++;
  tally.slowest = Math.max(tally.slowest, took);
  if (problem === undefined) return;
  tally.findings.push({ target: target.name, seed, case: index, problem, input: shown(input) });
}

export const newTally = (): Tally => ({ cases: 0, taken: 0, refused: 0, slowest: 0, findings: [] });

/** Whether there is any use in giving a target more cases. */
export const isBroken = (tally: Tally): boolean => tally.findings.length >= FINDINGS_MAX;

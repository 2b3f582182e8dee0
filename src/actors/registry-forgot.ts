import { type ErrorCode, MeshError } from "../errors.ts";
import type { PairingContext } from "../machines/pairing/events.ts";
import { FORGOTTEN_TOLD_MS } from "../machines/pairing/limits.ts";

// How people are told that the registry had forgotten this laptop.

/** The last time that a registry forgot this laptop. Times are ISO 8601. */
export interface Forgetting {
  readonly at: string;
  /** When this laptop was registered again; null before that. */
  readonly again: string | null;
  /** Why the registry has not taken it back, as a sentence with what to do; null when that is not known. */
  readonly problem: string | null;
}

/** Null when its registry never forgot this laptop. */
export function forgettingOf(pairing: PairingContext): Forgetting | null {
  const { forgotten, rejoining } = pairing;
  if (!forgotten) return null;
  const { at, again } = forgotten;
  return {
    at: new Date(at).toISOString(),
    again: again === null ? null : new Date(again).toISOString(),
    problem: rejoining ? problemOf(pairing) : null,
  };
}

/** Why a step failed, as a sentence with what to do; null when none did. */
export const problemOf = ({
  failure,
}: {
  readonly failure: { readonly code: ErrorCode; readonly detail: string } | null;
}): string | null => failure && new MeshError(failure.code, failure.detail || undefined).message;

/** A time to the minute, in the form of server logs. */
const minuteOf = (iso: string) => `${iso.slice(0, 16).replace("T", " ")} UTC`;

/** The report for a person; undefined when there is nothing to report, or it was resolved more than FORGOTTEN_TOLD_MS ago. */
export function forgettingText(forgotten: Forgetting | null, now: number): string | undefined {
  if (!forgotten) return undefined;
  const { at, again, problem } = forgotten;
  const noticed = `The registry had forgotten this laptop, which was noticed at ${minuteOf(at)}`;
  if (problem !== null) return `${noticed}. It does not take this laptop back: ${problem}`;
  if (again === null) return `${noticed}. This laptop is registering again now.`;
  return now - Date.parse(again) < FORGOTTEN_TOLD_MS
    ? `${noticed}. It was registered again at ${minuteOf(again)}.`
    : undefined;
}

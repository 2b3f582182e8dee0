import { AUTH_SKEW_MAX_MS } from "../limits.ts";
import { CONNECTS_REMEMBERED_MAX } from "./limits.ts";

// The connects that let somebody in. A connect signs nothing but its time, so a recorded one would be good again, for as long as
// that time is close enough, once its owner has gone.

export interface Replays {
  /** Whether this connect has let somebody in before. */
  isKnown(did: string, timestamp: string): boolean;
  remember(did: string, timestamp: string, provenAt: number): void;
}

export function openReplays(now: () => number, kept: number = CONNECTS_REMEMBERED_MAX): Replays {
  /** The time that each signed, in the order in which they came. */
  const known = new Map<string, number>();
  const keyOf = (did: string, timestamp: string) => `${did} ${timestamp}`;
  return {
    isKnown: (did, timestamp) => known.has(keyOf(did, timestamp)),
    remember(did, timestamp, provenAt) {
      known.set(keyOf(did, timestamp), provenAt);
      // Each is good until its time is too far away. One that signed a later time than those behind it keeps them a little longer.
      for (const [key, signedAt] of known) {
        if (known.size <= kept && now() - signedAt <= AUTH_SKEW_MAX_MS) break;
        known.delete(key);
      }
    },
  };
}

import type { Caller } from "./address.ts";
import { LOCAL_RATE_FACTOR, RATE_LIMITS, RATES_KEPT_MAX } from "./limits.ts";

// How often something may happen, by agent and by address: token buckets, as many as are remembered. What is done above each:
//
//   frames, bytes            the socket is not read until the bucket has refilled: slower, and nothing is lost
//   connects, registrations, other requests   refused, with the limit's name and when to come again
//   bundles                  given without a one-time prekey. A session can be opened without one, with a little less forward
//                            secrecy in its first message; a refusal would let whoever drains an agent keep everyone from it

/** So much at once, and so much a minute after that. */
export interface Rate {
  readonly burst: number;
  readonly perMinute: number;
}

export type Limit = keyof typeof RATE_LIMITS;
export type Rates = Readonly<Record<Limit, Rate>>;
export const LIMITS = Object.keys(RATE_LIMITS) as readonly Limit[];

/** What is left, and when that was so. */
interface Bucket {
  level: number;
  at: number;
}

export interface Meter {
  /** Takes one from a bucket that has it. 0 when it was taken, else the milliseconds until it can be. */
  take(limit: Limit, key: string, caller: Caller | undefined): number;
  /** Takes what has happened already, into debt if need be. The milliseconds until that is paid. */
  spend(limit: Limit, key: string, amount: number, caller: Caller | undefined): number;
}

export interface MeterOptions {
  readonly now: () => number;
  /** In place of those of limits.ts, for everyone alike. */
  readonly rates?: Partial<Rates> | undefined;
  /** Told each time a limit is met. */
  readonly onMet?: ((limit: Limit, key: string) => void) | undefined;
  /** Agents or addresses that are remembered of each limit. */
  readonly kept?: number | undefined;
}

export function openMeter({ now, rates = {}, onMet, kept = RATES_KEPT_MAX }: MeterOptions): Meter {
  const buckets = new Map<Limit, Map<string, Bucket>>(LIMITS.map((limit) => [limit, new Map()]));
  /** Whoever sends much is the newest again and again: then nothing need be moved. */
  const newest = new Map<Limit, Bucket>();

  /** The bucket as it is now; of those that are remembered it is the newest. */
  function bucketOf(limit: Limit, key: string, { burst, perMinute }: Rate): Bucket {
    const all = buckets.get(limit) ?? new Map<string, Bucket>();
    const time = now();
    const known = all.get(key);
    const bucket = known ?? { level: burst, at: time };
    bucket.level = Math.min(burst, bucket.level + (Math.max(0, time - bucket.at) * perMinute) / 60_000);
    bucket.at = time;
    if (newest.get(limit) === bucket) return bucket;
    newest.set(limit, bucket);
    all.delete(key);
    all.set(key, bucket);
    const [longestAgo] = all.keys();
    if (longestAgo !== undefined && all.size > kept) all.delete(longestAgo);
    return bucket;
  }

  /** Takes an amount, into debt only if it may be. The milliseconds until there is so much. */
  function draw(limit: Limit, key: string, amount: number, caller: Caller | undefined, intoDebt: boolean): number {
    const given = rates[limit];
    const rate = given ?? RATE_LIMITS[limit];
    // This machine's own pay less of each, unless someone said what each is to pay.
    const cost = given === undefined && (caller?.isLocal ?? true) ? amount / LOCAL_RATE_FACTOR : amount;
    const bucket = bucketOf(limit, key, rate);
    const lack = cost - bucket.level;
    if (intoDebt || lack <= 0) bucket.level -= cost;
    if (lack <= 0) return 0;
    onMet?.(limit, key);
    return Math.max(1, Math.ceil((lack * 60_000) / rate.perMinute));
  }

  return {
    take: (limit, key, caller) => draw(limit, key, 1, caller, false),
    spend: (limit, key, amount, caller) => draw(limit, key, amount, caller, true),
  };
}

/** What a refusal says: which limit it was, and when to come again. */
export function refusalText(limit: Limit, waitMs: number): string {
  return `${limit}: too many in short order. Come again in ${Math.ceil(waitMs / 1000)} s.`;
}

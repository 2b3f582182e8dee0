/**
 * MKSKIPPED (Double Ratchet sections 2.6 and 3.5): the keys of messages that were passed over, kept for when they come.
 *
 * They live beside the ratchet state, because a store keeps and drops them one at a time.
 */
import { base64url } from "../bytes.ts";
import { CryptoError } from "../errors.ts";
import { type Chain, type ChainStep, kdfCk } from "./chain-key.ts";

/** MAX_SKIP: how many keys one jump may skip in a chain. */
export const SKIP_MAX = 100;
/** How many skipped keys one session keeps in all. */
export const SKIPPED_KEYS_MAX = 2000;

/** Message keys (32 bytes) by `skippedKeyId`, in the order in which they were added: the first is the oldest. */
export type SkippedKeys = ReadonlyMap<string, Uint8Array>;

/** What one decryption does to the skipped keys. */
export interface SkippedChange {
  /** The skipped key that was consumed. */
  readonly used?: string;
  /** Keys to keep from now on, oldest first. */
  readonly skippedAdded: readonly (readonly [string, Uint8Array])[];
  /** The oldest keys, to be dropped so that the limit holds. */
  readonly evicted: readonly string[];
}

/** The name under which a skipped key is kept: `<base64url of dh>:<n>`. */
export function skippedKeyId(dh: Uint8Array, n: number): string {
  return `${base64url.encode(dh)}:${n}`;
}

/** The skipped keys after a change; the same map when there is none. */
export function applySkipped(skipped: SkippedKeys, change: SkippedChange): SkippedKeys {
  if (change.used === undefined && change.skippedAdded.length === 0 && change.evicted.length === 0) return skipped;
  const next = new Map(skipped);
  if (change.used !== undefined) next.delete(change.used);
  for (const [id, key] of change.skippedAdded) next.set(id, key);
  for (const id of change.evicted) next.delete(id);
  return next;
}

/** Throws CryptoError `too_many_skipped` when going from message number `from` to `until` would skip too many keys. */
export function assertSkippable(from: number, until: number): void {
  if (until - from > SKIP_MAX) {
    throw new CryptoError("too_many_skipped", `the message lies more than ${SKIP_MAX} messages ahead`);
  }
}

/**
 * SkipMessageKeys: walks a chain up to message number `until`, keeping the keys on the way. The caller asserts the
 * bound first.
 */
export function skipMessageKeys(
  dh: Uint8Array,
  chain: Chain,
  until: number,
): { readonly chain: Chain; readonly skipped: [string, Uint8Array][] } {
  const skipped: [string, Uint8Array][] = [];
  let current = chain;
  while (current.n < until) {
    const step: ChainStep = kdfCk(current);
    skipped.push([skippedKeyId(dh, current.n), step.messageKey]);
    current = step.chain;
  }
  return { chain: current, skipped };
}

/**
 * Makes room for newly skipped keys under a limit: the oldest go first.
 *
 * Refusing instead would be worse. Frames that a relay lost leave keys that nobody ever fetches, so a cache that
 * refuses when full ends the session at the next gap, for good; and old keys are the very ones that should not lie
 * around (section 6.4). Only an authentic message reaches this point, so a stranger cannot push keys out.
 */
export function makeRoom(
  skipped: SkippedKeys,
  added: readonly (readonly [string, Uint8Array])[],
  skippedMax: number,
): Pick<SkippedChange, "skippedAdded" | "evicted"> {
  const surplus = skipped.size + added.length - skippedMax;
  if (surplus <= 0) return { skippedAdded: added, evicted: [] };
  const evicted = [...skipped.keys().take(surplus)];
  return { skippedAdded: added.slice(surplus - evicted.length), evicted };
}

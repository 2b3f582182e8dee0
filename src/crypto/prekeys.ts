/**
 * Prekeys (X3DH section 2.4): the keys that an agent publishes so that others can start a session while it is away.
 *
 * Key ids are the caller's: non-negative safe integers that are never used twice, across restarts too.
 */
import { CryptoError } from "./errors.ts";
import { type Identity, sign } from "./identity.ts";
import { KEY_BYTES, type KeyPair, type Random, x25519KeyPair } from "./suite.ts";

/** SPK: a key pair of middling life, signed with the identity key. */
export interface SignedPreKey {
  readonly keyId: number;
  readonly keyPair: KeyPair;
  /** Ed25519 over the 32 raw bytes of `keyPair.public`; 64 bytes. */
  readonly signature: Uint8Array;
}

/** OPK: a key pair for one session. */
export interface OneTimePreKey {
  readonly keyId: number;
  readonly keyPair: KeyPair;
}

/** Whether a value can be a prekey's id: a non-negative safe integer. */
export function isKeyId(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

/**
 * A fresh signed prekey; takes 32 bytes of randomness.
 *
 * @throws CryptoError `key_invalid` on a bad key id
 */
export function generateSignedPreKey(identity: Identity, keyId: number, random: Random): SignedPreKey {
  assertKeyId(keyId);
  const keyPair = x25519KeyPair(random(KEY_BYTES));
  return { keyId, keyPair, signature: sign(identity, keyPair.public) };
}

/**
 * `count` fresh one-time prekeys with the ids `firstId`, `firstId + 1`, …; takes 32 bytes of randomness each.
 *
 * @throws CryptoError `key_invalid` on a bad key id, the one after the last included
 */
export function generateOneTimePreKeys(firstId: number, count: number, random: Random): OneTimePreKey[] {
  assertKeyId(firstId);
  assertKeyId(firstId + count);
  return Array.from({ length: count }, (_, at) => ({
    keyId: firstId + at,
    keyPair: x25519KeyPair(random(KEY_BYTES)),
  }));
}

function assertKeyId(keyId: number): void {
  if (!isKeyId(keyId)) throw new CryptoError("key_invalid", "a prekey id is a non-negative safe integer");
}

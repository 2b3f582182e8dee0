/**
 * X3DH, the Extended Triple Diffie-Hellman agreement (revision 1), over X25519 and HKDF-SHA256.
 *
 * The initiator knows a prekey bundle and makes an ephemeral key; the responder learns the initiator's identity key
 * and ephemeral key from the knock. Both come to the same shared key and associated data.
 */

import { type PreKeyBundle, verifyBundle } from "./bundle.ts";
import { concat, utf8 } from "./bytes.ts";
import type { Identity } from "./identity.ts";
import type { OneTimePreKey, SignedPreKey } from "./prekeys.ts";
import { hkdfSha256, KEY_BYTES, type KeyPair, X3DH_INFO, x25519 } from "./suite.ts";

/** Which key derivation a peer speaks: "current", or "npm4" for `@microsoft/agent-governance-sdk` 3.7.0 and 4.0.0. */
export type Kdf = "current" | "npm4";
export const KDFS: readonly Kdf[] = ["current", "npm4"];

const ZEROS = new Uint8Array(KEY_BYTES);
/** F of X3DH section 2.2: for X25519, 32 bytes FF, so that the input can never be an encoded point. */
const F = new Uint8Array(KEY_BYTES).fill(0xff);
const INFO = utf8.encode(X3DH_INFO);

/**
 * KDF of X3DH section 2.2.
 *
 * @param dhs DH1 ‖ DH2 ‖ DH3 [‖ DH4], 32 bytes each
 * @returns SK, 32 bytes
 */
export function x3dhKdf(dhs: Uint8Array, kdf: Kdf = "current"): Uint8Array {
  // npm 4.0.0 puts F in the place of the salt; the paper has a zero salt and F before the input.
  return kdf === "npm4" ? hkdfSha256(F, dhs, INFO, KEY_BYTES) : hkdfSha256(ZEROS, concat(F, dhs), INFO, KEY_BYTES);
}

/**
 * AD of X3DH section 3.3: utf8(`<initiator DID>|<responder DID>`) ‖ IK_i ‖ IK_r. The initiator comes first in both
 * directions of the session.
 *
 * @param ikInitiator X25519, 32 bytes
 * @param ikResponder X25519, 32 bytes
 */
export function associatedData(
  initiatorDid: string,
  responderDid: string,
  ikInitiator: Uint8Array,
  ikResponder: Uint8Array,
): Uint8Array {
  return concat(utf8.encode(`${initiatorDid}|${responderDid}`), ikInitiator, ikResponder);
}

/** What both sides hold after X3DH. */
export interface Agreement {
  /** SK, 32 bytes, secret: the ratchet's first root key. */
  readonly sharedKey: Uint8Array;
  /** AD, bound into every message of the session. */
  readonly associatedData: Uint8Array;
}

/** What the initiator holds, and must tell the responder in its knock. */
export interface InitiatorAgreement extends Agreement {
  /** EK_i, X25519, 32 bytes. */
  readonly ephemeralPublic: Uint8Array;
  /** Id of the one-time prekey that was used; absent when the bundle had none. */
  readonly oneTimeKeyId?: number;
}

/**
 * The initiator's side (X3DH section 3.3). Checks the bundle against `bundle.did` first, which must be the DID that
 * the caller set out to reach.
 *
 * @param ephemeral EK_i: a fresh key pair, for this session only
 * @throws CryptoError all that `verifyBundle` throws; `key_invalid` when a prekey is of low order
 */
export function initiate(options: {
  readonly identity: Identity;
  readonly bundle: PreKeyBundle;
  readonly ephemeral: KeyPair;
  readonly kdf?: Kdf | undefined;
}): InitiatorAgreement {
  const { identity, bundle, ephemeral, kdf } = options;
  verifyBundle(bundle.did, bundle);
  const { identityKey, signedPreKey, oneTimePreKey } = bundle;
  const dhs = [
    x25519(identity.dhSecret, signedPreKey.publicKey),
    x25519(ephemeral.secret, identityKey),
    x25519(ephemeral.secret, signedPreKey.publicKey),
  ];
  if (oneTimePreKey !== undefined) dhs.push(x25519(ephemeral.secret, oneTimePreKey.publicKey));
  return {
    sharedKey: x3dhKdf(concat(...dhs), kdf),
    associatedData: associatedData(identity.did, bundle.did, identity.dhPublic, identityKey),
    ephemeralPublic: ephemeral.public,
    ...(oneTimePreKey === undefined ? {} : { oneTimeKeyId: oneTimePreKey.keyId }),
  };
}

/**
 * The responder's side (X3DH section 3.4).
 *
 * It proves nothing of the initiator by itself: that `initiatorIdentityKey` belongs to `initiatorDid` is for the caller
 * to check (`didOf` and `dhPublicOf` of the initiator's Ed25519 key), and the first message that decrypts is the proof
 * that the initiator holds it.
 *
 * @param oneTimePreKey the one that the knock names; absent when it names none. Delete it after use
 * @param initiatorIdentityKey IK_i, X25519, 32 bytes
 * @param ephemeralKey EK_i, X25519, 32 bytes
 * @throws CryptoError `key_invalid` when a key has the wrong size or is of low order
 */
export function respond(options: {
  readonly identity: Identity;
  readonly signedPreKey: SignedPreKey;
  readonly oneTimePreKey?: OneTimePreKey | undefined;
  readonly initiatorDid: string;
  readonly initiatorIdentityKey: Uint8Array;
  readonly ephemeralKey: Uint8Array;
  readonly kdf?: Kdf | undefined;
}): Agreement {
  const { identity, signedPreKey, oneTimePreKey, initiatorDid, initiatorIdentityKey, ephemeralKey, kdf } = options;
  const dhs = [
    x25519(signedPreKey.keyPair.secret, initiatorIdentityKey),
    x25519(identity.dhSecret, ephemeralKey),
    x25519(signedPreKey.keyPair.secret, ephemeralKey),
  ];
  if (oneTimePreKey !== undefined) dhs.push(x25519(oneTimePreKey.keyPair.secret, ephemeralKey));
  return {
    sharedKey: x3dhKdf(concat(...dhs), kdf),
    associatedData: associatedData(initiatorDid, identity.did, initiatorIdentityKey, identity.dhPublic),
  };
}

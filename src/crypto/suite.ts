/**
 * The cipher suite `AGENTMESH_X25519_CHACHA20POLY1305_SHA256`: its names, labels, sizes and primitives.
 *
 * Everything above this file speaks of keys and messages; everything below it is @noble and node:crypto. X25519 is
 * RFC 7748, ChaCha20-Poly1305 RFC 8439, HKDF RFC 5869, HMAC RFC 2104.
 */
import { CryptoError } from "./errors.ts";
import { primitives } from "./primitives/chosen.ts";

/** The suite's name, as peers announce it. */
export const SUITE = "AGENTMESH_X25519_CHACHA20POLY1305_SHA256";
/** HKDF info of X3DH (X3DH section 2.2). */
export const X3DH_INFO = "AgentMesh_X3DH_v1";
/** HKDF info of the root KDF (Double Ratchet section 5.2). */
export const RATCHET_INFO = "AgentMesh_Ratchet_v1";

/** Bytes of a seed, a secret key, a public key, a root, chain or message key, and a SHA-256 hash. */
export const KEY_BYTES = 32;
/** Bytes of an Ed25519 signature. */
export const SIGNATURE_BYTES = 64;
/** Bytes of a ChaCha20-Poly1305 nonce. */
export const NONCE_BYTES = 12;
/** Bytes of a Poly1305 tag. */
export const TAG_BYTES = 16;

/** Where randomness comes from: gives `length` fresh unpredictable bytes that the caller may keep. */
export type Random = (length: number) => Uint8Array;

/** An X25519 key pair, 32 bytes each. */
export interface KeyPair {
  readonly secret: Uint8Array;
  readonly public: Uint8Array;
}

/** SHA-256 (FIPS 180-4): 32 bytes. */
export function sha256(message: Uint8Array): Uint8Array {
  return primitives.sha256(message);
}

/** HMAC-SHA256 (RFC 2104) under a key of any length: 32 bytes. */
export function hmacSha256(key: Uint8Array, message: Uint8Array): Uint8Array {
  return primitives.hmacSha256(key, message);
}

/**
 * HKDF-SHA256, extract then expand (RFC 5869), with its arguments in the RFC's order.
 *
 * @param length bytes wanted, 0 to 8160; more throws CryptoError `key_invalid`
 */
export function hkdfSha256(salt: Uint8Array, ikm: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  if (!Number.isInteger(length) || length < 0 || length > 255 * KEY_BYTES) {
    throw new CryptoError("key_invalid", "HKDF-SHA256 gives 0 to 8160 bytes");
  }
  const block = new Uint8Array(KEY_BYTES + info.length + 1);
  block.set(info, KEY_BYTES);
  const output = new Uint8Array(length);
  const prk = hmacSha256(salt, ikm);
  for (let at = 0, count = 1; at < length; at += KEY_BYTES, count++) {
    block[block.length - 1] = count;
    // T(1) is of info and counter alone; every later one has the one before it in front.
    const part = hmacSha256(prk, count === 1 ? block.subarray(KEY_BYTES) : block);
    block.set(part);
    output.set(at + KEY_BYTES <= length ? part : part.subarray(0, length - at), at);
  }
  return output;
}

const NOTHING = new Uint8Array();

/**
 * ChaCha20-Poly1305 (RFC 8439 section 2.8): `ciphertext ‖ tag16`, behind `head` if there is one.
 *
 * @param nonce12 12 bytes, never twice under one key
 * @param head bytes to put before the ciphertext, as they are
 * @throws CryptoError `key_invalid` when key or nonce has the wrong size
 */
export function aeadSeal(
  key: Uint8Array,
  nonce12: Uint8Array,
  plaintext: Uint8Array,
  aad: Uint8Array = NOTHING,
  head: Uint8Array = NOTHING,
): Uint8Array {
  assertAeadSizes(key, nonce12);
  return primitives.aeadSeal(key, nonce12, plaintext, aad, head);
}

/**
 * Opens what `aeadSeal` gave, with the same key, nonce and additional data.
 *
 * @throws CryptoError `not_authentic` when the tag does not verify, `key_invalid` when key or nonce has the wrong size
 */
export function aeadOpen(
  key: Uint8Array,
  nonce12: Uint8Array,
  ciphertext: Uint8Array,
  aad: Uint8Array = NOTHING,
): Uint8Array {
  assertAeadSizes(key, nonce12);
  if (ciphertext.length < TAG_BYTES) throw new CryptoError("not_authentic", "the ciphertext is shorter than its tag");
  const plaintext = primitives.aeadOpen(key, nonce12, ciphertext, aad);
  if (plaintext === undefined) throw new CryptoError("not_authentic", "the message is not authentic");
  return plaintext;
}

function assertAeadSizes(key: Uint8Array, nonce: Uint8Array): void {
  if (key.length !== KEY_BYTES) throw new CryptoError("key_invalid", "a ChaCha20-Poly1305 key has 32 bytes");
  if (nonce.length !== NONCE_BYTES) throw new CryptoError("key_invalid", "a ChaCha20-Poly1305 nonce has 12 bytes");
}

/**
 * X25519 (RFC 7748 section 5), refusing an all-zero result (section 6.1).
 *
 * @returns the 32 byte shared secret
 * @throws CryptoError `key_invalid` on a wrong size or a public key of low order
 */
export function x25519(secret: Uint8Array, publicKey: Uint8Array): Uint8Array {
  if (secret.length !== KEY_BYTES || publicKey.length !== KEY_BYTES) {
    throw new CryptoError("key_invalid", "an X25519 key has 32 bytes");
  }
  const shared = primitives.x25519(secret, publicKey);
  if (shared === undefined) throw new CryptoError("key_invalid", "the X25519 public key is of low order");
  return shared;
}

/**
 * The key pair of a 32 byte secret, which is copied as it is (X25519 clamps when it multiplies).
 *
 * @throws CryptoError `key_invalid` on a wrong size
 */
export function x25519KeyPair(secret32: Uint8Array): KeyPair {
  if (secret32.length !== KEY_BYTES) throw new CryptoError("key_invalid", "an X25519 secret key has 32 bytes");
  // Not slice, which of a Buffer is no copy.
  const secret = new Uint8Array(secret32);
  return { secret, public: primitives.x25519Public(secret) };
}

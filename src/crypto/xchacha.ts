/**
 * XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03): ChaCha20-Poly1305 with a nonce of 24 bytes, which may be drawn at random
 * for ever. It seals what is at rest; the wire does not use it.
 *
 * HChaCha20 makes a key of its own from the key and the nonce's first 16 bytes; what follows is the suite's own AEAD, so
 * large values are sealed as fast as it seals them.
 */
import { hchacha } from "@noble/ciphers/chacha.js";
import { utf8 } from "./bytes.ts";
import { CryptoError } from "./errors.ts";
import { aeadOpen, aeadSeal, KEY_BYTES } from "./suite.ts";

/** Bytes of an XChaCha20-Poly1305 nonce. */
export const XNONCE_BYTES = 24;
const HCHACHA_NONCE_BYTES = 16;

const SIGMA = words(utf8.encode("expand 32-byte k"));

/**
 * Seals a value: `nonce24 ‖ ciphertext ‖ tag16`.
 *
 * @param key 32 bytes
 * @param nonce24 never twice under one key
 * @throws CryptoError `key_invalid` when key or nonce has the wrong size
 */
export function xaeadSeal(key: Uint8Array, nonce24: Uint8Array, plaintext: Uint8Array, aad: Uint8Array): Uint8Array {
  const inner = derive(key, nonce24);
  return aeadSeal(inner.key, inner.nonce12, plaintext, aad, nonce24);
}

/**
 * Opens what `xaeadSeal` gave, with the same key and additional data.
 *
 * @throws CryptoError `not_authentic` when anything differs from what was sealed, `key_invalid` on a key of the wrong size
 */
export function xaeadOpen(key: Uint8Array, sealed: Uint8Array, aad: Uint8Array): Uint8Array {
  if (sealed.length < XNONCE_BYTES)
    throw new CryptoError("not_authentic", "the sealed value is shorter than its nonce");
  const inner = derive(key, sealed.subarray(0, XNONCE_BYTES));
  return aeadOpen(inner.key, inner.nonce12, sealed.subarray(XNONCE_BYTES), aad);
}

/** Section 2.3: HChaCha20(key, nonce[0..16]), and four zero bytes before what is left of the nonce. */
function derive(key: Uint8Array, nonce24: Uint8Array): { readonly key: Uint8Array; readonly nonce12: Uint8Array } {
  if (key.length !== KEY_BYTES) throw new CryptoError("key_invalid", "an XChaCha20-Poly1305 key has 32 bytes");
  if (nonce24.length !== XNONCE_BYTES) {
    throw new CryptoError("key_invalid", "an XChaCha20-Poly1305 nonce has 24 bytes");
  }
  const derived = new Uint8Array(KEY_BYTES);
  hchacha(SIGMA, words(key), words(nonce24.subarray(0, HCHACHA_NONCE_BYTES)), new Uint32Array(derived.buffer));
  const nonce12 = new Uint8Array(12);
  nonce12.set(nonce24.subarray(HCHACHA_NONCE_BYTES), 4);
  return { key: derived, nonce12 };
}

/** A copy as 32 bit words, in the byte order of memory: a view needs an offset that is a multiple of four. */
function words(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(new Uint8Array(bytes).buffer);
}

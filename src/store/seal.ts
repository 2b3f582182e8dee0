import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";

// Sealing at rest: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), whose 24-byte nonces may be drawn at random for ever.

export const SEAL_KEY_SIZE = 32;
const NONCE_SIZE = 24;

export type Random = (length: number) => Uint8Array;

/** nonce (24) ‖ ciphertext ‖ tag (16). `place` is authenticated with it: a sealed value opens only where it was put. */
export function seal(key: Uint8Array, plaintext: Uint8Array, place: string, random: Random): Uint8Array {
  const nonce = random(NONCE_SIZE);
  const sealed = xchacha20poly1305(key, nonce, Buffer.from(place, "utf8")).encrypt(plaintext);
  const out = new Uint8Array(NONCE_SIZE + sealed.length);
  out.set(nonce);
  out.set(sealed, NONCE_SIZE);
  return out;
}

/** @throws when the key, the place or any bit is not the one it was sealed with */
export function unseal(key: Uint8Array, sealed: Uint8Array, place: string): Uint8Array {
  const cipher = xchacha20poly1305(key, sealed.subarray(0, NONCE_SIZE), Buffer.from(place, "utf8"));
  return cipher.decrypt(sealed.subarray(NONCE_SIZE));
}

const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, "utf8"));

/** The same for text, as base64. */
export const sealText = (key: Uint8Array, text: string, place: string, random: Random): string =>
  Buffer.from(seal(key, bytesOf(text), place, random)).toString("base64");

export const unsealText = (key: Uint8Array, sealed: string, place: string): string =>
  Buffer.from(unseal(key, new Uint8Array(Buffer.from(sealed, "base64")), place)).toString("utf8");

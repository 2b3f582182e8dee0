import { utf8, XNONCE_BYTES, xaeadOpen, xaeadSeal } from "../crypto/index.ts";

// Sealing at rest: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), whose 24-byte nonces may be drawn at random for ever.

export const SEAL_KEY_SIZE = 32;

export type Random = (length: number) => Uint8Array;

/** nonce (24) ‖ ciphertext ‖ tag (16). `place` is authenticated with it: a sealed value opens only where it was put. */
export function seal(key: Uint8Array, plaintext: Uint8Array, place: string, random: Random): Uint8Array {
  return xaeadSeal(key, random(XNONCE_BYTES), plaintext, utf8.encode(place));
}

/** @throws when the key, the place or any bit is not the one it was sealed with */
export function unseal(key: Uint8Array, sealed: Uint8Array, place: string): Uint8Array {
  return xaeadOpen(key, sealed, utf8.encode(place));
}

const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, "utf8"));

/** The same for text, as base64. */
export const sealText = (key: Uint8Array, text: string, place: string, random: Random): string =>
  Buffer.from(seal(key, bytesOf(text), place, random)).toString("base64");

export const unsealText = (key: Uint8Array, sealed: string, place: string): string =>
  Buffer.from(unseal(key, new Uint8Array(Buffer.from(sealed, "base64")), place)).toString("utf8");

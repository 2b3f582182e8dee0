/** The primitives by @noble: audited, plain JavaScript, the same on every machine. What they say is right. */
import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { ed25519, x25519 } from "@noble/curves/ed25519.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import type { Primitives } from "./primitives.ts";

const TAG_BYTES = 16;

export const noble: Primitives = {
  sha256: (message) => sha256(message),
  hmacSha256: (key, message) => hmac(sha256, key, message),

  aeadSeal(key, nonce12, plaintext, aad, head) {
    const out = new Uint8Array(head.length + plaintext.length + TAG_BYTES);
    out.set(head);
    chacha20poly1305(key, nonce12, aad).encrypt(plaintext, out.subarray(head.length));
    return out;
  },

  aeadOpen(key, nonce12, sealed, aad) {
    try {
      return chacha20poly1305(key, nonce12, aad).decrypt(sealed);
    } catch {
      // Sizes were checked: what is left to fail is the tag.
      return undefined;
    }
  },

  x25519(secret, publicKey) {
    try {
      return x25519.getSharedSecret(secret, publicKey);
    } catch {
      // Sizes were checked: the public key is of low order.
      return undefined;
    }
  },

  x25519Public: (secret) => x25519.getPublicKey(secret),
  ed25519Public: (seed) => ed25519.getPublicKey(seed),
  ed25519Sign: (seed, message) => ed25519.sign(message, seed),

  ed25519Verify(publicKey, message, signature) {
    try {
      // noble's default is ZIP 215, made for consensus: it takes non-canonical points and keys of small order.
      return ed25519.verify(signature, message, publicKey, { zip215: false });
    } catch {
      // "Never throws" is the promise; what noble cannot read does not verify.
      return false;
    }
  },
};

/**
 * The primitives below the suite, which exist twice: by @noble everywhere, and by node:crypto where it is faster.
 *
 * Both give the same bytes and refuse the same inputs; `test/crypto/primitives.test.ts` holds them equal. Sizes are the
 * suite's to check: nothing here is called with a key, nonce, seed or signature of the wrong size, or with a ciphertext
 * shorter than its tag. No argument is changed or kept, and every result is a plain Uint8Array of its own.
 */
export interface Primitives {
  /** FIPS 180-4: 32 bytes. */
  sha256(message: Uint8Array): Uint8Array;

  /** RFC 2104 under a key of any length: 32 bytes. */
  hmacSha256(key: Uint8Array, message: Uint8Array): Uint8Array;

  /** ChaCha20-Poly1305, RFC 8439: `head ‖ ciphertext ‖ tag16`. The head is neither sealed nor authenticated. */
  aeadSeal(
    key: Uint8Array,
    nonce12: Uint8Array,
    plaintext: Uint8Array,
    aad: Uint8Array,
    head: Uint8Array,
  ): Uint8Array<ArrayBuffer>;

  /** The plaintext of `ciphertext ‖ tag16`; undefined when the tag does not verify. */
  aeadOpen(key: Uint8Array, nonce12: Uint8Array, sealed: Uint8Array, aad: Uint8Array): Uint8Array | undefined;

  /** RFC 7748: the shared secret, 32 bytes; undefined when it would be all zero. */
  x25519(secret: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined;

  /** The X25519 public key of a secret key, 32 bytes. */
  x25519Public(secret: Uint8Array): Uint8Array;

  /** RFC 8032 section 5.1.5: the Ed25519 public key of a seed, 32 bytes. */
  ed25519Public(seed: Uint8Array): Uint8Array;

  /** RFC 8032 section 5.1.6: 64 bytes. */
  ed25519Sign(seed: Uint8Array, message: Uint8Array): Uint8Array;

  /** RFC 8032 section 5.1.7. Keys of small order and non-canonical encodings do not verify. Never throws. */
  ed25519Verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean;
}

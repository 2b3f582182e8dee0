/**
 * An agent's identity: one 32 byte seed, an Ed25519 key to sign with (RFC 8032), and the same key in Montgomery form
 * to agree with (RFC 7748 section 4.1; X3DH calls it IK).
 */
import { ed25519 } from "@noble/curves/ed25519.js";
import { didOf } from "./did.ts";
import { CryptoError } from "./errors.ts";
import { primitives } from "./primitives/chosen.ts";
import { KEY_BYTES, SIGNATURE_BYTES, x25519KeyPair } from "./suite.ts";

const { Fp } = ed25519.Point;

/** All keys are 32 raw bytes. `seed` and `dhSecret` are secret. */
export interface Identity {
  /** `did:mesh:` and 32 hex digits, of `publicKey`. */
  readonly did: string;
  /** The Ed25519 seed (RFC 8032 section 5.1.5), from which everything else follows. */
  readonly seed: Uint8Array;
  /** Ed25519. */
  readonly publicKey: Uint8Array;
  /** X25519: the clamped first half of SHA-512 of the seed. */
  readonly dhSecret: Uint8Array;
  /** X25519: the Montgomery form of `publicKey`. */
  readonly dhPublic: Uint8Array;
}

/**
 * The identity that a seed stands for.
 *
 * @param seed 32 random bytes, copied
 * @throws CryptoError `key_invalid` on a wrong size
 */
export function identityFromSeed(seed: Uint8Array): Identity {
  if (seed.length !== KEY_BYTES) throw new CryptoError("key_invalid", "an identity seed has 32 bytes");
  // Not slice, which of a Buffer is no copy.
  const own = new Uint8Array(seed);
  const publicKey = primitives.ed25519Public(own);
  const dh = x25519KeyPair(ed25519.utils.toMontgomerySecret(own));
  return { did: didOf(publicKey), seed: own, publicKey, dhSecret: dh.secret, dhPublic: dh.public };
}

/** The Ed25519 signature of a message (RFC 8032 section 5.1.6): 64 bytes, always the same for the same message. */
export function sign(identity: Identity, message: Uint8Array): Uint8Array {
  return primitives.ed25519Sign(identity.seed, message);
}

/**
 * Whether an Ed25519 signature verifies (RFC 8032 section 5.1.7). Never throws: a key or signature of the wrong size,
 * off the curve, of small order or not in canonical form does not verify.
 */
export function verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== KEY_BYTES || signature.length !== SIGNATURE_BYTES) return false;
  return primitives.ed25519Verify(publicKey, message, signature);
}

/**
 * The X25519 identity key that belongs to an Ed25519 public key: its Montgomery form, 32 bytes.
 *
 * @throws CryptoError `key_invalid` on a wrong size, no point, a non-canonical point, or a point of small order
 */
export function dhPublicOf(ed25519PublicKey: Uint8Array): Uint8Array {
  try {
    const point = ed25519.Point.fromBytes(ed25519PublicKey, false);
    // u = (1 + y) / (1 - y), RFC 7748 section 4.1; y = 1 is of small order.
    if (!point.isSmallOrder()) return Fp.toBytes(Fp.div(Fp.add(Fp.ONE, point.y), Fp.sub(Fp.ONE, point.y)));
  } catch {
    // Falls through to the one refusal: the caller cannot use the key, whatever is wrong with it.
  }
  throw new CryptoError("key_invalid", "the Ed25519 public key is not a usable point");
}

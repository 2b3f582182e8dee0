/**
 * The mesh's names: `did:mesh:` and the first 32 hex digits of SHA-256 over the raw Ed25519 public key.
 *
 * A DID is a fingerprint of 128 bits: whoever shows a key that hashes to it is its holder.
 */
import { base58 } from "./base58.ts";
import { hex } from "./bytes.ts";
import { CryptoError } from "./errors.ts";
import { KEY_BYTES, sha256 } from "./suite.ts";

/** The one form on the wire: 41 characters. */
export const DID_PATTERN = /^did:mesh:[0-9a-f]{32}$/;

/** Whether a text is a DID in the form of the wire. */
export function isDid(text: string): boolean {
  return DID_PATTERN.test(text);
}

/**
 * The DID of an Ed25519 public key (32 raw bytes).
 *
 * @throws CryptoError `key_invalid` on a wrong size
 */
export function didOf(publicKey: Uint8Array): string {
  if (publicKey.length !== KEY_BYTES) throw new CryptoError("key_invalid", "an Ed25519 public key has 32 bytes");
  return `did:mesh:${hex.encode(sha256(publicKey).subarray(0, 16))}`;
}

const AMID_BYTES = 20;
const amid = base58(AMID_BYTES);

/**
 * The older name of an Ed25519 public key: base58btc of the first 20 bytes of the same SHA-256.
 *
 * @throws CryptoError `key_invalid` on a wrong size
 */
export function amidOf(publicKey: Uint8Array): string {
  if (publicKey.length !== KEY_BYTES) throw new CryptoError("key_invalid", "an Ed25519 public key has 32 bytes");
  return amid.encode(sha256(publicKey).subarray(0, AMID_BYTES));
}

/** The DID of the key that an AMID names: both begin one hash. Undefined when the text is no AMID. */
export function didOfAmid(text: string): string | undefined {
  try {
    return `did:mesh:${hex.encode(amid.decode(text).subarray(0, 16))}`;
  } catch (error) {
    // It is in no such encoding: a text of another kind.
    if (!(error instanceof CryptoError)) throw error;
    return undefined;
  }
}

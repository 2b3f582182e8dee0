/**
 * The prekey bundle (X3DH section 3.2): what a registry says about an agent, and every reason not to believe it.
 *
 * A registry is not trusted. The DID is a hash of the Ed25519 key, the X25519 key is the Ed25519 key in another form,
 * and the signed prekey carries a signature: so whoever knows the DID can check all but the one-time prekey, which
 * X3DH leaves unsigned (section 4.1: a false one makes a session that nobody can read, not one that another can).
 */
import { equalBytes } from "./bytes.ts";
import { didOf } from "./did.ts";
import { CryptoError } from "./errors.ts";
import { dhPublicOf, verify } from "./identity.ts";
import { isKeyId } from "./prekeys.ts";
import { KEY_BYTES, SIGNATURE_BYTES } from "./suite.ts";

/** All keys are 32 raw bytes. */
export interface PreKeyBundle {
  /** Whose bundle this is meant to be: the DID that was asked for. */
  readonly did: string;
  /** IK: X25519. */
  readonly identityKey: Uint8Array;
  /** Ed25519. */
  readonly identityKeyEd: Uint8Array;
  readonly signedPreKey: {
    readonly keyId: number;
    /** SPK: X25519. */
    readonly publicKey: Uint8Array;
    /** Ed25519 over the 32 raw bytes of `publicKey`; 64 bytes. */
    readonly signature: Uint8Array;
  };
  /** Absent when the registry had none left. */
  readonly oneTimePreKey?:
    | {
        readonly keyId: number;
        /** OPK: X25519. */
        readonly publicKey: Uint8Array;
      }
    | undefined;
}

/**
 * Makes every check of a bundle, cheapest first.
 *
 * @param did whom the caller wants to reach
 * @throws CryptoError `bundle_invalid` when a size or key id is wrong, `did_mismatch` when the bundle or its Ed25519 key
 *   is another agent's, `key_invalid` when the Ed25519 key is no usable point, `identity_mismatch` when the X25519 key is
 *   not the Ed25519 key's, `signature_invalid` when the signed prekey's signature does not verify
 */
export function verifyBundle(did: string, bundle: PreKeyBundle): void {
  const { identityKey, identityKeyEd, signedPreKey, oneTimePreKey } = bundle;
  assertSize("identity key", identityKey, KEY_BYTES);
  assertSize("Ed25519 identity key", identityKeyEd, KEY_BYTES);
  assertSize("signed prekey", signedPreKey.publicKey, KEY_BYTES);
  assertSize("signed prekey's signature", signedPreKey.signature, SIGNATURE_BYTES);
  assertKeyId("signed prekey", signedPreKey.keyId);
  if (oneTimePreKey !== undefined) {
    assertSize("one-time prekey", oneTimePreKey.publicKey, KEY_BYTES);
    assertKeyId("one-time prekey", oneTimePreKey.keyId);
  }
  if (bundle.did !== did || didOf(identityKeyEd) !== did) {
    throw new CryptoError("did_mismatch", "the prekey bundle does not belong to the DID");
  }
  if (!equalBytes(dhPublicOf(identityKeyEd), identityKey)) {
    throw new CryptoError("identity_mismatch", "the bundle's X25519 key does not belong to its Ed25519 key");
  }
  if (!verify(identityKeyEd, signedPreKey.publicKey, signedPreKey.signature)) {
    throw new CryptoError("signature_invalid", "the signed prekey's signature does not verify");
  }
}

function assertSize(what: string, bytes: Uint8Array, size: number): void {
  if (bytes.length !== size) throw new CryptoError("bundle_invalid", `the bundle's ${what} has not ${size} bytes`);
}

function assertKeyId(what: string, keyId: number): void {
  if (!isKeyId(keyId)) throw new CryptoError("bundle_invalid", `the bundle's ${what} has an impossible key id`);
}

/**
 * What can go wrong in this folder, and nothing else. A caller decides by `code`, never by the text.
 *
 * | code | what happened |
 * | --- | --- |
 * | `encoding` | text or bytes are not in the encoding that they should be in |
 * | `key_invalid` | a key, nonce or key id has the wrong size, or is no usable point |
 * | `did_mismatch` | the DID does not belong to the Ed25519 key |
 * | `identity_mismatch` | the X25519 identity key does not belong to the Ed25519 key |
 * | `signature_invalid` | the signed prekey's signature does not verify |
 * | `bundle_invalid` | a prekey bundle has a field of the wrong shape or size |
 * | `header_invalid` | a message header is out of bounds, or its ratchet key is no usable point |
 * | `not_authentic` | the tag does not verify: forged, damaged, or sealed for another session |
 * | `too_many_skipped` | the message lies further ahead than the ratchet agrees to skip |
 * | `key_used` | the message number was consumed before: a duplicate |
 * | `not_ready` | the ratchet cannot send: nothing was received yet, or the sending chain is exhausted |
 */
export type CryptoErrorCode =
  | "encoding"
  | "key_invalid"
  | "did_mismatch"
  | "identity_mismatch"
  | "signature_invalid"
  | "bundle_invalid"
  | "header_invalid"
  | "not_authentic"
  | "too_many_skipped"
  | "key_used"
  | "not_ready";

/** The one error of `src/crypto`. Its message never holds key material. */
export class CryptoError extends Error {
  readonly code: CryptoErrorCode;

  constructor(code: CryptoErrorCode, message: string) {
    super(message);
    this.name = "CryptoError";
    this.code = code;
  }
}

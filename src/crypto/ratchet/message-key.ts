/**
 * A message key and the one message that it seals (ENCRYPT and DECRYPT of Double Ratchet section 3.1).
 *
 * On the wire a ciphertext is `nonce12 ‖ ct ‖ tag16`, and the tag also covers AD ‖ header.
 */
import { CryptoError } from "../errors.ts";
import { aeadOpen, aeadSeal, NONCE_BYTES, TAG_BYTES } from "../suite.ts";
import { appendHeader, type Header } from "./header.ts";

/**
 * Seals a message. The same arguments give the same bytes, so a sender that kept them can rebuild a frame exactly.
 * Never seal two plaintexts with one message key and nonce.
 *
 * @param messageKey 32 bytes
 * @param nonce 12 bytes
 * @returns `nonce ‖ ct ‖ tag`, 28 bytes more than the plaintext
 * @throws CryptoError `key_invalid` or `header_invalid` on wrong sizes
 */
export function sealMessage(
  messageKey: Uint8Array,
  nonce: Uint8Array,
  associatedData: Uint8Array,
  header: Header,
  plaintext: Uint8Array,
): Uint8Array {
  return aeadSeal(messageKey, nonce, plaintext, appendHeader(associatedData, header), nonce);
}

/**
 * Opens what `sealMessage` gave.
 *
 * @throws CryptoError `not_authentic` when anything differs from what was sealed, `header_invalid` on a bad header
 */
export function openMessage(
  messageKey: Uint8Array,
  associatedData: Uint8Array,
  header: Header,
  ciphertext: Uint8Array,
): Uint8Array {
  if (ciphertext.length < NONCE_BYTES + TAG_BYTES) {
    throw new CryptoError("not_authentic", "the ciphertext is shorter than its nonce and tag");
  }
  const nonce = ciphertext.subarray(0, NONCE_BYTES);
  const sealed = ciphertext.subarray(NONCE_BYTES);
  return aeadOpen(messageKey, nonce, sealed, appendHeader(associatedData, header));
}

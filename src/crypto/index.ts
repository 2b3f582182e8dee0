/** The protocol's own parts under the protocol's own names: suite, identity, prekeys, X3DH, the Double Ratchet. */
export { type PreKeyBundle, verifyBundle } from "./bundle.ts";
export { base64, base64url, concat, type Encoding, equalBytes, hex, utf8 } from "./bytes.ts";
export { amidOf, DID_PATTERN, didOf, didOfAmid, isDid } from "./did.ts";
export { CryptoError, type CryptoErrorCode } from "./errors.ts";
export { dhPublicOf, type Identity, identityFromSeed, sign, verify } from "./identity.ts";
export {
  generateOneTimePreKeys,
  generateSignedPreKey,
  isKeyId,
  type OneTimePreKey,
  type SignedPreKey,
} from "./prekeys.ts";
export { type Algorithm, nativeInUse, usePrimitives } from "./primitives/chosen.ts";
export type { Chain } from "./ratchet/chain-key.ts";
export {
  type Decrypted,
  decrypt,
  type Encrypted,
  encrypt,
  type Incoming,
  initiatorRatchet,
  type RatchetState,
  responderRatchet,
} from "./ratchet/double-ratchet.ts";
export {
  COUNTER_MAX,
  decodeHeader,
  encodeHeader,
  HEADER_BYTES,
  type Header,
  validateHeader,
} from "./ratchet/header.ts";
export { openMessage, sealMessage } from "./ratchet/message-key.ts";
export { parseRatchet, type RatchetJson, serializeRatchet } from "./ratchet/serialize.ts";

export {
  applySkipped,
  SKIP_MAX,
  SKIPPED_KEYS_MAX,
  type SkippedChange,
  type SkippedKeys,
  skippedKeyId,
} from "./ratchet/skipped-keys.ts";
export { type Party, safetyNumber } from "./safety-number.ts";
export {
  aeadOpen,
  aeadSeal,
  hkdfSha256,
  hmacSha256,
  KEY_BYTES,
  type KeyPair,
  NONCE_BYTES,
  RATCHET_INFO,
  type Random,
  SIGNATURE_BYTES,
  SUITE,
  sha256,
  TAG_BYTES,
  X3DH_INFO,
  x25519,
  x25519KeyPair,
} from "./suite.ts";
export {
  type Agreement,
  associatedData,
  type InitiatorAgreement,
  initiate,
  KDFS,
  type Kdf,
  respond,
  x3dhKdf,
} from "./x3dh.ts";
export { XNONCE_BYTES, xaeadOpen, xaeadSeal } from "./xchacha.ts";

/** RK, the root key, and KDF_RK (Double Ratchet sections 3.1 and 5.2). */
import { utf8 } from "../bytes.ts";
import { hkdfSha256, KEY_BYTES, RATCHET_INFO } from "../suite.ts";

const INFO = utf8.encode(RATCHET_INFO);

/** What one turn of the DH ratchet gives: the next root key and a new chain's first key, 32 bytes each. */
export interface RootStep {
  readonly rootKey: Uint8Array;
  readonly chainKey: Uint8Array;
}

/**
 * KDF_RK(rk, dh_out): HKDF-SHA256 with the root key as salt; 64 bytes, cut in two.
 *
 * @param rootKey 32 bytes
 * @param dhOutput the X25519 shared secret, 32 bytes
 */
export function kdfRk(rootKey: Uint8Array, dhOutput: Uint8Array): RootStep {
  const keys = hkdfSha256(rootKey, dhOutput, INFO, 2 * KEY_BYTES);
  return { rootKey: keys.slice(0, KEY_BYTES), chainKey: keys.slice(KEY_BYTES) };
}

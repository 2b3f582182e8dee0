/** CK, a chain key, and KDF_CK (Double Ratchet sections 3.1 and 5.2). */
import { hmacSha256 } from "../suite.ts";

const MESSAGE_KEY = Uint8Array.of(1);
const NEXT_CHAIN_KEY = Uint8Array.of(2);

/** A chain: the key from which message number `n` and all later ones follow. */
export interface Chain {
  /** CK, 32 bytes. */
  readonly key: Uint8Array;
  /** Ns or Nr: the number of the next message. */
  readonly n: number;
}

/** What one step of a chain gives: the message key of its number, and the chain after it. */
export interface ChainStep {
  readonly messageKey: Uint8Array;
  readonly chain: Chain;
}

/** KDF_CK(ck): HMAC-SHA256(ck, 01) is the message key, HMAC-SHA256(ck, 02) the next chain key; 32 bytes each. */
export function kdfCk(chain: Chain): ChainStep {
  return {
    messageKey: hmacSha256(chain.key, MESSAGE_KEY),
    chain: { key: hmacSha256(chain.key, NEXT_CHAIN_KEY), n: chain.n + 1 },
  };
}

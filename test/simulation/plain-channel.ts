import {
  applySkipped,
  CryptoError,
  decrypt,
  encrypt,
  hex,
  type RatchetState,
  skippedKeyId,
} from "../../src/crypto/index.ts";
import type { Random } from "../../src/crypto/suite.ts";

// A session as the reference clients keep it: on our ratchet, with their fault. Theirs moves before a frame is authenticated. So a
// frame that is forged or comes twice makes it deaf to the rest of the chain, and one of an older chain breaks it for good.

export interface Sealed {
  readonly header: { readonly dh: Uint8Array; readonly pn: number; readonly n: number };
  readonly ciphertext: Uint8Array;
}

export class PlainChannel {
  readonly #associatedData: Uint8Array;
  #state: RatchetState;
  #skipped: ReadonlyMap<string, Uint8Array> = new Map();
  /** The other side's ratchet key whose chain it can read no further. */
  #deafTo: string | undefined;
  #isBroken = false;

  constructor(state: RatchetState, associatedData: Uint8Array) {
    this.#state = state;
    this.#associatedData = associatedData;
  }

  /** @throws CryptoError `not_ready` when the other side knocked and has not said anything yet */
  send(plaintext: Uint8Array, random: Random): Sealed {
    const { state, header, ciphertext } = encrypt(this.#state, {
      associatedData: this.#associatedData,
      plaintext,
      random,
    });
    this.#state = state;
    // Its root key is not the other side's any more: what it seals nobody can read.
    return this.#isBroken ? { header, ciphertext: ciphertext.map((byte) => byte ^ 1) } : { header, ciphertext };
  }

  /** The plaintext; undefined when it cannot read it. */
  receive({ header, ciphertext }: Sealed, random: Random): Uint8Array | undefined {
    const chain = hex.encode(header.dh);
    const isSkipped = this.#skipped.has(skippedKeyId(header.dh, header.n));
    if (!isSkipped && (this.#isBroken || this.#deafTo === chain)) return undefined;
    try {
      const incoming = { associatedData: this.#associatedData, header, ciphertext, random };
      const result = decrypt(this.#state, this.#skipped, incoming);
      this.#state = result.state;
      this.#skipped = applySkipped(this.#skipped, result);
      return result.plaintext;
    } catch (error) {
      if (!(error instanceof CryptoError)) throw error;
      const { peer, receiving } = this.#state;
      if (receiving !== null && peer !== null && hex.encode(peer) === chain) this.#deafTo = chain;
      else this.#isBroken = true;
      return undefined;
    }
  }
}

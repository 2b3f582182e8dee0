/**
 * The Double Ratchet as both reference clients have it: on the primitives of this project, with the clients' faults. Its state moves
 * before a message is authenticated, so a frame that was forged, or that comes a second time, breaks it for good.
 */
import { randomBytes } from "node:crypto";
import { equalBytes, hex, type KeyPair, skippedKeyId, x25519, x25519KeyPair } from "../../src/crypto/index.ts";
import { type Chain, kdfCk } from "../../src/crypto/ratchet/chain-key.ts";
import type { Header } from "../../src/crypto/ratchet/header.ts";
import { openMessage, sealMessage } from "../../src/crypto/ratchet/message-key.ts";
import { kdfRk } from "../../src/crypto/ratchet/root-key.ts";

const SKIP_MAX = 100;
const SKIPPED_KEYS_MAX = 2000;

export const random = (length: number): Uint8Array => new Uint8Array(randomBytes(length));
const newKeyPair = (): KeyPair => x25519KeyPair(random(32));

export interface SealedMessage {
  readonly header: Header;
  readonly ciphertext: Uint8Array;
}

export class Channel {
  readonly #associatedData: Uint8Array;
  #rootKey: Uint8Array;
  #self: KeyPair;
  #peer: Uint8Array | undefined;
  #sending: Chain | undefined;
  #receiving: Chain | undefined;
  #previousCount = 0;
  readonly #skipped = new Map<string, Uint8Array>();

  private constructor(associatedData: Uint8Array, rootKey: Uint8Array, self: KeyPair) {
    this.#associatedData = associatedData;
    this.#rootKey = rootKey;
    this.#self = self;
  }

  /** The side that knocks. */
  static initiator(associatedData: Uint8Array, sharedKey: Uint8Array, peerSignedPreKey: Uint8Array): Channel {
    const channel = new Channel(associatedData, sharedKey, newKeyPair());
    channel.#peer = peerSignedPreKey;
    channel.#sending = channel.#newChain(peerSignedPreKey);
    return channel;
  }

  /** The side that is knocked at: it cannot say anything before it has read something. */
  static responder(associatedData: Uint8Array, sharedKey: Uint8Array, signedPreKey: KeyPair): Channel {
    return new Channel(associatedData, sharedKey, signedPreKey);
  }

  #newChain(peer: Uint8Array): Chain {
    const { rootKey, chainKey } = kdfRk(this.#rootKey, x25519(this.#self.secret, peer));
    this.#rootKey = rootKey;
    return { key: chainKey, n: 0 };
  }

  /** @throws Error when nothing was read yet and the other side knocked */
  send(plaintext: Uint8Array): SealedMessage {
    if (!this.#sending) throw new Error("Send chain not initialized. Receive a message first.");
    const header: Header = { dh: this.#self.public, pn: this.#previousCount, n: this.#sending.n };
    const { messageKey, chain } = kdfCk(this.#sending);
    this.#sending = chain;
    return { header, ciphertext: sealMessage(messageKey, random(12), this.#associatedData, header, plaintext) };
  }

  /** @throws Error when it does not decrypt; what has moved by then stays as it is */
  receive({ header, ciphertext }: SealedMessage): Uint8Array {
    const id = skippedKeyId(header.dh, header.n);
    const skippedKey = this.#skipped.get(id);
    if (skippedKey) {
      this.#skipped.delete(id);
      return openMessage(skippedKey, this.#associatedData, header, ciphertext);
    }
    if (!this.#peer || !equalBytes(header.dh, this.#peer)) {
      this.#skip(header.pn);
      this.#turn(header.dh);
    }
    this.#skip(header.n);
    if (!this.#receiving) throw new Error(`no message can come under the key ${hex.encode(header.dh)}`);
    const { messageKey, chain } = kdfCk(this.#receiving);
    this.#receiving = chain;
    return openMessage(messageKey, this.#associatedData, header, ciphertext);
  }

  #turn(peer: Uint8Array): void {
    this.#previousCount = this.#sending?.n ?? 0;
    this.#peer = peer;
    this.#receiving = this.#newChain(peer);
    this.#self = newKeyPair();
    this.#sending = this.#newChain(peer);
  }

  #skip(until: number): void {
    if (!this.#receiving || !this.#peer) return;
    if (until - this.#receiving.n > SKIP_MAX) throw new Error("Too many skipped messages");
    while (this.#receiving.n < until) {
      const { messageKey, chain } = kdfCk(this.#receiving);
      this.#skipped.set(skippedKeyId(this.#peer, this.#receiving.n), messageKey);
      this.#receiving = chain;
      const [oldest] = this.#skipped.keys();
      if (this.#skipped.size > SKIPPED_KEYS_MAX && oldest !== undefined) this.#skipped.delete(oldest);
    }
  }
}

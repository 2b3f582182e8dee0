/**
 * The Double Ratchet (revision 1, sections 3.2 to 3.5), as pure functions over an immutable state.
 *
 * Nothing is ever mutated. A function gives the next state, and the caller keeps it or not: so a frame that does not
 * decrypt cannot have moved anything, and state and effect can be made durable together.
 *
 * The names of the paper: `rootKey` is RK, `self` DHs, `peer` DHr, `sending` CKs and Ns, `receiving` CKr and Nr,
 * `previousCount` PN, and MKSKIPPED is passed beside the state.
 */
import { equalBytes } from "../bytes.ts";
import { CryptoError } from "../errors.ts";
import { KEY_BYTES, type KeyPair, NONCE_BYTES, type Random, x25519, x25519KeyPair } from "../suite.ts";
import { type Chain, kdfCk } from "./chain-key.ts";
import { COUNTER_MAX, type Header, validateHeader } from "./header.ts";
import { openMessage, sealMessage } from "./message-key.ts";
import { kdfRk } from "./root-key.ts";
import {
  assertSkippable,
  makeRoom,
  SKIPPED_KEYS_MAX,
  type SkippedChange,
  type SkippedKeys,
  skipMessageKeys,
  skippedKeyId,
} from "./skipped-keys.ts";

/** One side of a session. All keys are 32 bytes; all but `self.public` and `peer` are secret. */
export interface RatchetState {
  readonly rootKey: Uint8Array;
  /** Our ratchet key pair. */
  readonly self: KeyPair;
  /** The peer's ratchet public key; null for a responder that has received nothing. */
  readonly peer: Uint8Array | null;
  /** Null for a responder that has received nothing. */
  readonly sending: Chain | null;
  /** Null until the first message has been received. */
  readonly receiving: Chain | null;
  /** How many messages our previous sending chain had. */
  readonly previousCount: number;
}

/** A sealed message and the state after it. */
export interface Encrypted {
  readonly state: RatchetState;
  readonly header: Header;
  /** 12 bytes; with `messageKey`, `header` and the plaintext, `sealMessage` gives `ciphertext` again. */
  readonly nonce: Uint8Array;
  /** 32 bytes, secret. */
  readonly messageKey: Uint8Array;
  /** `nonce ‖ ct ‖ tag`. */
  readonly ciphertext: Uint8Array;
}

/** An opened message, the state after it, and what it does to the skipped keys. */
export interface Decrypted extends SkippedChange {
  readonly state: RatchetState;
  readonly plaintext: Uint8Array;
  /** Whether the peer's ratchet key was a new one, so that the DH ratchet turned. */
  readonly turned: boolean;
}

/**
 * RatchetInitAlice (section 3.3): the state of the side that ran `initiate`. Takes 32 bytes of randomness.
 *
 * @param sharedKey SK of X3DH, 32 bytes
 * @param peerSignedPreKey the responder's signed prekey, which is its first ratchet key; 32 bytes
 * @throws CryptoError `key_invalid` on a wrong size or a key of low order
 */
export function initiatorRatchet(options: {
  readonly sharedKey: Uint8Array;
  readonly peerSignedPreKey: Uint8Array;
  readonly random: Random;
}): RatchetState {
  const { sharedKey, peerSignedPreKey, random } = options;
  assertSharedKey(sharedKey);
  const self = x25519KeyPair(random(KEY_BYTES));
  const { rootKey, chainKey } = kdfRk(sharedKey, x25519(self.secret, peerSignedPreKey));
  return {
    rootKey,
    self,
    peer: peerSignedPreKey.slice(),
    sending: { key: chainKey, n: 0 },
    receiving: null,
    previousCount: 0,
  };
}

/**
 * RatchetInitBob (section 3.3): the state of the side that ran `respond`. It cannot send before it has received.
 *
 * @param sharedKey SK of X3DH, 32 bytes
 * @param signedPreKeyPair the key pair of the signed prekey that the agreement used
 * @throws CryptoError `key_invalid` on a wrong size
 */
export function responderRatchet(options: {
  readonly sharedKey: Uint8Array;
  readonly signedPreKeyPair: KeyPair;
}): RatchetState {
  assertSharedKey(options.sharedKey);
  return {
    rootKey: options.sharedKey.slice(),
    self: options.signedPreKeyPair,
    peer: null,
    sending: null,
    receiving: null,
    previousCount: 0,
  };
}

/**
 * RatchetEncrypt (section 3.4). Takes 12 bytes of randomness, the nonce.
 *
 * @param associatedData AD of X3DH
 * @throws CryptoError `not_ready` when nothing was received yet (responder), or when the chain has sent 2^32 - 1
 *   messages: one more could no longer be counted by `pn`. The chain is renewed by the peer's next answer
 */
export function encrypt(
  state: RatchetState,
  options: { readonly associatedData: Uint8Array; readonly plaintext: Uint8Array; readonly random: Random },
): Encrypted {
  const { associatedData, plaintext, random } = options;
  if (state.sending === null) {
    throw new CryptoError("not_ready", "the responder of a session cannot send before it has received");
  }
  if (state.sending.n >= COUNTER_MAX) throw new CryptoError("not_ready", "the sending chain is exhausted");
  const header: Header = { dh: state.self.public, pn: state.previousCount, n: state.sending.n };
  const { messageKey, chain } = kdfCk(state.sending);
  const nonce = random(NONCE_BYTES);
  const ciphertext = sealMessage(messageKey, nonce, associatedData, header, plaintext);
  return { state: { ...state, sending: chain }, header, nonce, messageKey, ciphertext };
}

/** What `decrypt` takes beside the state and the skipped keys. */
export interface Incoming {
  /** AD of X3DH. */
  readonly associatedData: Uint8Array;
  readonly header: Header;
  /** `nonce ‖ ct ‖ tag`. */
  readonly ciphertext: Uint8Array;
  /** Gives 32 bytes when the ratchet turns; otherwise it is not called. */
  readonly random: Random;
  /** How many skipped keys to keep in all; 2000 unless said otherwise. */
  readonly skippedMax?: number | undefined;
}

/**
 * RatchetDecrypt (section 3.5). Gives the next state only when the tag verifies; when it throws, state and skipped keys
 * stay good as they are.
 *
 * A duplicate from the current receiving chain is `key_used`. Of a duplicate from an earlier chain nothing is left to
 * know it by: it looks like a new ratchet key and ends as `not_authentic` (or `too_many_skipped`).
 *
 * @throws CryptoError `header_invalid` on a bad header or a ratchet key of low order; `too_many_skipped` when the rest of
 *   the old chain, or the way into the current one, is more than 100 messages (found out before any key is derived);
 *   `key_used` on a message number that was consumed; `not_authentic` when the tag does not verify
 */
export function decrypt(state: RatchetState, skipped: SkippedKeys, incoming: Incoming): Decrypted {
  const { header, associatedData, ciphertext } = incoming;
  validateHeader(header);
  const id = skipped.size === 0 ? "" : skippedKeyId(header.dh, header.n);
  const skippedKey = skipped.get(id);
  if (skippedKey !== undefined) {
    const plaintext = openMessage(skippedKey, associatedData, header, ciphertext);
    return { state, plaintext, used: id, skippedAdded: [], evicted: [], turned: false };
  }
  if (state.peer === null || !equalBytes(header.dh, state.peer)) return decryptTurning(state, skipped, incoming);
  return decryptInChain(state, skipped, incoming);
}

/** The peer's ratchet key is the one we know: a step along the receiving chain. */
function decryptInChain(state: RatchetState, skipped: SkippedKeys, incoming: Incoming): Decrypted {
  const { header } = incoming;
  if (state.receiving === null) {
    // The peer key of a fresh initiator is a signed prekey, under which a responder never sends.
    throw new CryptoError("not_authentic", "no message can come under the peer's signed prekey");
  }
  if (header.n < state.receiving.n) throw new CryptoError("key_used", "the message was received before");
  assertSkippable(state.receiving.n, header.n);
  const { plaintext, chain, added } = openInChain(state.receiving, incoming);
  return {
    state: { ...state, receiving: chain },
    plaintext,
    ...makeRoom(skipped, added, incoming.skippedMax ?? SKIPPED_KEYS_MAX),
    turned: false,
  };
}

/**
 * The peer's ratchet key is a new one: the DH ratchet turns (DHRatchet, section 3.5). Its second half, a key pair and
 * a sending chain of our own, is made only after the message proved authentic: a forgery costs one X25519, not three.
 */
function decryptTurning(state: RatchetState, skipped: SkippedKeys, incoming: Incoming): Decrypted {
  const { header, random } = incoming;
  if (state.receiving !== null) assertSkippable(state.receiving.n, header.pn);
  assertSkippable(0, header.n);

  const received = kdfRk(state.rootKey, agreeWithHeader(state.self, header));
  const { plaintext, chain, added } = openInChain({ key: received.chainKey, n: 0 }, incoming);

  const left =
    state.peer === null || state.receiving === null
      ? []
      : skipMessageKeys(state.peer, state.receiving, header.pn).skipped;
  const self = x25519KeyPair(random(KEY_BYTES));
  const sent = kdfRk(received.rootKey, x25519(self.secret, header.dh));
  return {
    state: {
      rootKey: sent.rootKey,
      self,
      peer: header.dh.slice(),
      sending: { key: sent.chainKey, n: 0 },
      receiving: chain,
      previousCount: state.sending?.n ?? 0,
    },
    plaintext,
    ...makeRoom(skipped, [...left, ...added], incoming.skippedMax ?? SKIPPED_KEYS_MAX),
    turned: true,
  };
}

/** Walks a chain to the message's number and opens it there. */
function openInChain(from: Chain, { header, associatedData, ciphertext }: Incoming) {
  const { chain: reached, skipped: added } = skipMessageKeys(header.dh, from, header.n);
  const { messageKey, chain } = kdfCk(reached);
  return { plaintext: openMessage(messageKey, associatedData, header, ciphertext), chain, added };
}

function agreeWithHeader(self: KeyPair, header: Header): Uint8Array {
  try {
    return x25519(self.secret, header.dh);
  } catch {
    // The secret is ours and the size was checked: what is left is a key of low order.
    throw new CryptoError("header_invalid", "the header's ratchet key is of low order");
  }
}

function assertSharedKey(sharedKey: Uint8Array): void {
  if (sharedKey.length !== KEY_BYTES) throw new CryptoError("key_invalid", "a shared key has 32 bytes");
}

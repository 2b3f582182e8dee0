import { randomBytes } from "node:crypto";
import {
  applySkipped,
  decrypt,
  encrypt,
  generateOneTimePreKeys,
  generateSignedPreKey,
  identityFromSeed,
  initiate,
  initiatorRatchet,
  type PreKeyBundle,
  type Random,
  respond,
  responderRatchet,
  type SkippedKeys,
  x25519KeyPair,
} from "../src/crypto/index.ts";

// One session of two sides in one process, by ours and by each peer: what a row of the ratchet is measured on.

/** Seals at one side and opens at the other. */
export interface Conversation {
  forth(plaintext: Uint8Array<ArrayBuffer>): unknown;
  back(plaintext: Uint8Array<ArrayBuffer>): unknown;
}

/** Agrees on a key, both sides, so many times; what is prepared beforehand is not in `run`. */
export interface Agreements {
  prepare(count: number): void;
  run(): unknown;
}

export const random: Random = (length) => new Uint8Array(randomBytes(length));

export function ours(): Conversation {
  const sharedKey = random(32);
  const signedPreKeyPair = x25519KeyPair(random(32));
  const associatedData = random(147);
  const side = (state: ReturnType<typeof initiatorRatchet>) => ({ state, skipped: new Map() as SkippedKeys });
  const alice = side(initiatorRatchet({ sharedKey, peerSignedPreKey: signedPreKeyPair.public, random }));
  const bob = side(responderRatchet({ sharedKey, signedPreKeyPair }));
  const say = (from: typeof alice, to: typeof bob, plaintext: Uint8Array) => {
    const sent = encrypt(from.state, { associatedData, plaintext, random });
    from.state = sent.state;
    const { header, ciphertext } = sent;
    const got = decrypt(to.state, to.skipped, { associatedData, header, ciphertext, random });
    to.state = got.state;
    to.skipped = applySkipped(to.skipped, got);
  };
  return { forth: (plaintext) => say(alice, bob, plaintext), back: (plaintext) => say(bob, alice, plaintext) };
}

/** Both identities and the signed prekey are kept, as a node keeps them; bundle and one-time prekey are new every time. */
export function oursAgreeing(andFirstMessage: boolean): Agreements {
  const [alice, bob] = [identityFromSeed(random(32)), identityFromSeed(random(32))];
  const signedPreKey = generateSignedPreKey(bob, 1, random);
  let prepared: { bundle: PreKeyBundle; oneTimePreKey: ReturnType<typeof generateOneTimePreKeys>[number] }[] = [];
  const message = random(100);
  return {
    prepare(count) {
      prepared = generateOneTimePreKeys(0, count, random).map(({ keyId, keyPair }) => ({
        bundle: {
          did: bob.did,
          identityKey: bob.dhPublic.slice(),
          identityKeyEd: bob.publicKey.slice(),
          signedPreKey: {
            keyId: 1,
            publicKey: signedPreKey.keyPair.public.slice(),
            signature: signedPreKey.signature.slice(),
          },
          oneTimePreKey: { keyId, publicKey: keyPair.public.slice() },
        },
        // As it comes from the store: bytes that no key object belongs to.
        oneTimePreKey: { keyId, keyPair: { secret: keyPair.secret.slice(), public: keyPair.public.slice() } },
      }));
    },
    run() {
      const next = prepared.pop();
      if (!next) throw new Error("nothing is prepared");
      const { bundle, oneTimePreKey } = next;
      const mine = initiate({ identity: alice, bundle, ephemeral: x25519KeyPair(random(32)) });
      const theirs = respond({
        identity: bob,
        signedPreKey,
        oneTimePreKey,
        initiatorDid: alice.did,
        initiatorIdentityKey: alice.dhPublic.slice(),
        ephemeralKey: mine.ephemeralPublic.slice(),
      });
      if (!andFirstMessage) return;
      const { associatedData } = mine;
      const ratchet = initiatorRatchet({
        sharedKey: mine.sharedKey,
        peerSignedPreKey: bundle.signedPreKey.publicKey,
        random,
      });
      const { header, ciphertext } = encrypt(ratchet, { associatedData, plaintext: message, random });
      const other = responderRatchet({ sharedKey: theirs.sharedKey, signedPreKeyPair: signedPreKey.keyPair });
      decrypt(other, new Map(), { associatedData: theirs.associatedData, header, ciphertext, random });
    },
  };
}

// @microsoft/agent-governance-sdk 4.0.0, as far as it is used here.
interface AgtRatchet {
  encrypt(plaintext: Uint8Array, associatedData: Uint8Array): object;
  decrypt(message: object, associatedData: Uint8Array): Uint8Array;
}
interface AgtKeys {
  readonly identityKey: { readonly publicKey: Uint8Array };
  generateSignedPreKey(): unknown;
  generateOneTimePreKeys(count: number): readonly { readonly keyId: number }[];
  getPublicBundle(oneTimeKeyId: number): object;
  initiate(bundle: object): { readonly ephemeralPublicKey: Uint8Array; readonly usedOneTimeKeyId?: number };
  respond(identityKey: Uint8Array, ephemeralKey: Uint8Array, oneTimeKeyId: number | undefined): unknown;
}
export interface Agt {
  readonly DoubleRatchet: {
    initSender(sharedKey: Uint8Array, peer: Uint8Array): AgtRatchet;
    initReceiver(sharedKey: Uint8Array, pair: { privateKey: Uint8Array; publicKey: Uint8Array }): AgtRatchet;
  };
  readonly X3DHKeyManager: new (secret: Uint8Array, publicKey: Uint8Array) => AgtKeys;
}

export function agt({ DoubleRatchet }: Agt): Conversation {
  const [sharedKey, associatedData] = [random(32), random(64)];
  const pair = x25519KeyPair(random(32));
  const alice = DoubleRatchet.initSender(sharedKey, pair.public);
  const bob = DoubleRatchet.initReceiver(sharedKey, { privateKey: pair.secret, publicKey: pair.public });
  const say = (from: AgtRatchet, to: AgtRatchet, plaintext: Uint8Array) =>
    to.decrypt(from.encrypt(plaintext, associatedData), associatedData);
  return { forth: (plaintext) => say(alice, bob, plaintext), back: (plaintext) => say(bob, alice, plaintext) };
}

export function agtAgreeing({ X3DHKeyManager }: Agt): Agreements {
  const keys = () => {
    const { seed, publicKey } = identityFromSeed(random(32));
    return new X3DHKeyManager(seed, publicKey);
  };
  const [alice, bob] = [keys(), keys()];
  bob.generateSignedPreKey();
  let bundles: object[] = [];
  return {
    prepare(count) {
      bundles = bob.generateOneTimePreKeys(count).map(({ keyId }) => bob.getPublicBundle(keyId));
    },
    run() {
      const bundle = bundles.pop();
      if (!bundle) throw new Error("nothing is prepared");
      const mine = alice.initiate(bundle);
      bob.respond(alice.identityKey.publicKey, mine.ephemeralPublicKey, mine.usedOneTimeKeyId);
    },
  };
}

/** What the crypto tests share: repeatable randomness, two agents, two ratchets, and a look at errors. */
import {
  applySkipped,
  CryptoError,
  type CryptoErrorCode,
  concat,
  type Decrypted,
  decrypt,
  type Encrypted,
  encrypt,
  generateOneTimePreKeys,
  generateSignedPreKey,
  type Header,
  type Identity,
  identityFromSeed,
  initiate,
  initiatorRatchet,
  type OneTimePreKey,
  type PreKeyBundle,
  type Random,
  type RatchetState,
  respond,
  responderRatchet,
  type SignedPreKey,
  type SkippedKeys,
  sha256,
  utf8,
  x25519KeyPair,
} from "../../src/crypto/index.ts";

/** Repeatable randomness: SHA-256 of a seed and a counter. */
export function seeded(seed: string): Random {
  let counter = 0;
  return (length) => {
    let bytes: Uint8Array = new Uint8Array();
    while (bytes.length < length) bytes = concat(bytes, sha256(utf8.encode(`${seed} ${counter++}`)));
    return bytes.slice(0, length);
  };
}

/** Randomness for where none may be asked for. */
export const noRandom: Random = () => {
  throw new Error("randomness was asked for");
};

/** The code of the CryptoError that an action throws; any other outcome fails the test. */
export function codeOf(action: () => unknown): CryptoErrorCode {
  try {
    action();
  } catch (error) {
    if (error instanceof CryptoError) return error.code;
    throw error;
  }
  throw new Error("nothing was thrown");
}

/** A copy with one bit turned over. */
export function flip(bytes: Uint8Array, bit: number): Uint8Array {
  const copy = bytes.slice();
  const at = Math.floor(bit / 8);
  copy[at] = (copy[at] ?? 0) ^ (1 << (bit % 8));
  return copy;
}

export const alice: Identity = identityFromSeed(sha256(utf8.encode("alice")));
export const bob: Identity = identityFromSeed(sha256(utf8.encode("bob")));
export const bobSignedPreKey: SignedPreKey = generateSignedPreKey(bob, 7, seeded("signed prekey"));

const [oneTime] = generateOneTimePreKeys(41, 1, seeded("one-time prekey"));
if (oneTime === undefined) throw new Error("one key was asked for");
export const bobOneTimePreKey: OneTimePreKey = oneTime;

/** Bob's bundle, without a one-time prekey. */
export const bobBundle: PreKeyBundle = {
  did: bob.did,
  identityKey: bob.dhPublic,
  identityKeyEd: bob.publicKey,
  signedPreKey: {
    keyId: bobSignedPreKey.keyId,
    publicKey: bobSignedPreKey.keyPair.public,
    signature: bobSignedPreKey.signature,
  },
};

export const ephemeral = x25519KeyPair(seeded("ephemeral")(32));

/** Alice's and Bob's agreement by X3DH; the ratchets below begin from it. */
export const agreed = {
  alice: initiate({ identity: alice, bundle: bobBundle, ephemeral }),
  bob: respond({
    identity: bob,
    signedPreKey: bobSignedPreKey,
    initiatorDid: alice.did,
    initiatorIdentityKey: alice.dhPublic,
    ephemeralKey: ephemeral.public,
  }),
};

/** A sealed message as it crosses the wire. */
export interface Frame {
  readonly header: Header;
  readonly ciphertext: Uint8Array;
}

/** One side of a session that keeps what each step gives it. */
export interface Party {
  state: RatchetState;
  skipped: SkippedKeys;
  readonly random: Random;
  readonly associatedData: Uint8Array;
}

export function newAlice(seed = "alice"): Party {
  const random = seeded(`${seed}: alice's ratchet`);
  const { sharedKey, associatedData } = agreed.alice;
  const state = initiatorRatchet({ sharedKey, peerSignedPreKey: bobSignedPreKey.keyPair.public, random });
  return { state, skipped: new Map(), random, associatedData };
}

export function newBob(seed = "bob"): Party {
  const { sharedKey, associatedData } = agreed.bob;
  const state = responderRatchet({ sharedKey, signedPreKeyPair: bobSignedPreKey.keyPair });
  return { state, skipped: new Map(), random: seeded(`${seed}: bob's ratchet`), associatedData };
}

/** Encrypts, and keeps the state. */
export function send(party: Party, text: string): Encrypted {
  const { associatedData, random } = party;
  const sent = encrypt(party.state, { associatedData, plaintext: utf8.encode(text), random });
  party.state = sent.state;
  return sent;
}

/** Decrypts, and keeps nothing. */
export function attempt(party: Party, frame: Frame, skippedMax?: number): Decrypted {
  const { header, ciphertext } = frame;
  const { associatedData, random } = party;
  return decrypt(party.state, party.skipped, { associatedData, header, ciphertext, random, skippedMax });
}

/** Decrypts, and keeps state and skipped keys. */
export function receive(party: Party, frame: Frame, skippedMax?: number): string {
  const got = attempt(party, frame, skippedMax);
  party.state = got.state;
  party.skipped = applySkipped(party.skipped, got);
  return utf8.decode(got.plaintext);
}

/** A deep copy of all that a step could have changed. */
export function snapshot(party: Party): unknown {
  return structuredClone({ state: party.state, skipped: [...party.skipped] });
}

/** Two sides that have each heard from the other. */
export function settled(): { alice: Party; bob: Party } {
  const [alice, bob] = [newAlice(), newBob()];
  receive(bob, send(alice, "hello"));
  receive(alice, send(bob, "hello"));
  return { alice, bob };
}

import type { Agreements, Conversation } from "./sessions.ts";

// @signalapp/libsignal-client as the other side of the ratchet's rows. Its stores are maps that keep the objects as they are:
// nothing is serialized or written that its interface does not ask for.

type Bytes = Uint8Array<ArrayBuffer>;
interface PublicKey {
  serialize(): Bytes;
}
interface PrivateKey {
  getPublicKey(): PublicKey;
  sign(message: Bytes): Bytes;
}
interface KemPair {
  getPublicKey(): PublicKey;
}
interface Ciphertext {
  serialize(): Bytes;
}
type Address = object;

/** As far as it is used here. */
export interface Signal {
  readonly PrivateKey: { generate(): PrivateKey };
  readonly KEMKeyPair: { generate(): KemPair };
  readonly ProtocolAddress: { new: (name: string, device: number) => Address };
  readonly PreKeyBundle: { new: (...parts: readonly unknown[]) => object };
  readonly PreKeyRecord: { new: (id: number, publicKey: PublicKey, secret: PrivateKey) => object };
  readonly SignedPreKeyRecord: { new: (...parts: readonly unknown[]) => object };
  readonly KyberPreKeyRecord: { new: (id: number, time: number, pair: KemPair, signature: Bytes) => object };
  readonly SignalMessage: { deserialize(bytes: Bytes): object };
  readonly PreKeySignalMessage: { deserialize(bytes: Bytes): object };
  readonly SessionStore: new () => object;
  readonly IdentityKeyStore: new () => object;
  readonly PreKeyStore: new () => object;
  readonly SignedPreKeyStore: new () => object;
  readonly KyberPreKeyStore: new () => object;
  processPreKeyBundle(...parts: readonly unknown[]): Promise<void>;
  signalEncrypt(message: Bytes, ...parts: readonly unknown[]): Promise<Ciphertext>;
  signalDecrypt(message: object, ...parts: readonly unknown[]): Promise<Bytes>;
  signalDecryptPreKey(message: object, ...parts: readonly unknown[]): Promise<Bytes>;
}

const REGISTRATION = 5;
const PREKEY = 1;

/** The stores of one side, in memory. */
function party(signal: Signal, name: string) {
  const secret = signal.PrivateKey.generate();
  const [sessions, oneTime] = [new Map<Address, object>(), new Map<number, object>()];
  const records: { signed?: object; kyber?: object } = {};
  const store = <T extends object>(Base: new () => object, methods: T) => Object.assign(new Base(), methods);
  return {
    name,
    secret,
    records,
    oneTime,
    address: signal.ProtocolAddress.new(name, 1),
    sessions: store(signal.SessionStore, {
      saveSession: async (_: Address, record: object) => void sessions.set(signal, record),
      getSession: async () => sessions.get(signal) ?? null,
      getExistingSessions: async () => [...sessions.values()],
    }),
    forget: () => sessions.clear(),
    identities: store(signal.IdentityKeyStore, {
      getIdentityKey: async () => secret,
      getLocalRegistrationId: async () => REGISTRATION,
      saveIdentity: async () => 0,
      isTrustedIdentity: async () => true,
      getIdentity: async () => null,
    }),
    preKeys: store(signal.PreKeyStore, {
      savePreKey: async () => undefined,
      getPreKey: async (id: number) => oneTime.get(id),
      removePreKey: async (id: number) => void oneTime.delete(id),
    }),
    signedPreKeys: store(signal.SignedPreKeyStore, {
      saveSignedPreKey: async () => undefined,
      getSignedPreKey: async () => records.signed,
    }),
    kyberPreKeys: store(signal.KyberPreKeyStore, {
      saveKyberPreKey: async () => undefined,
      getKyberPreKey: async () => records.kyber,
      markKyberPreKeyUsed: async () => undefined,
    }),
  };
}
type Party = ReturnType<typeof party>;

/** Publishes signed prekeys once, and then a bundle for each one-time prekey. */
function publisher(signal: Signal, bob: Party): (id: number) => object {
  const [signed, kyber] = [signal.PrivateKey.generate(), signal.KEMKeyPair.generate()];
  const signature = bob.secret.sign(signed.getPublicKey().serialize());
  const kyberSignature = bob.secret.sign(kyber.getPublicKey().serialize());
  bob.records.signed = signal.SignedPreKeyRecord.new(PREKEY, 0, signed.getPublicKey(), signed, signature);
  bob.records.kyber = signal.KyberPreKeyRecord.new(PREKEY, 0, kyber, kyberSignature);
  return (id) => {
    const oneTime = signal.PrivateKey.generate();
    bob.oneTime.set(id, signal.PreKeyRecord.new(id, oneTime.getPublicKey(), oneTime));
    return signal.PreKeyBundle.new(
      REGISTRATION,
      1,
      id,
      oneTime.getPublicKey(),
      PREKEY,
      signed.getPublicKey(),
      signature,
      bob.secret.getPublicKey(),
      PREKEY,
      kyber.getPublicKey(),
      kyberSignature,
    );
  };
}

async function begin(signal: Signal, alice: Party, bob: Party, bundle: object, message: Bytes): Promise<void> {
  await signal.processPreKeyBundle(bundle, bob.address, alice.address, alice.sessions, alice.identities);
  const sent = await signal.signalEncrypt(message, bob.address, alice.address, alice.sessions, alice.identities);
  await signal.signalDecryptPreKey(
    signal.PreKeySignalMessage.deserialize(sent.serialize()),
    alice.address,
    bob.address,
    bob.sessions,
    bob.identities,
    bob.preKeys,
    bob.signedPreKeys,
    bob.kyberPreKeys,
  );
}

async function say(signal: Signal, from: Party, to: Party, plaintext: Bytes): Promise<void> {
  const sent = await signal.signalEncrypt(plaintext, to.address, from.address, from.sessions, from.identities);
  const message = signal.SignalMessage.deserialize(sent.serialize());
  await signal.signalDecrypt(message, from.address, to.address, to.sessions, to.identities);
}

/** A session that both sides have confirmed. */
export async function signalConversation(signal: Signal): Promise<Conversation> {
  const [alice, bob] = [party(signal, "alice"), party(signal, "bob")];
  await begin(signal, alice, bob, publisher(signal, bob)(1), new Uint8Array(3));
  await say(signal, bob, alice, new Uint8Array(3));
  return {
    forth: (plaintext) => say(signal, alice, bob, plaintext),
    back: (plaintext) => say(signal, bob, alice, plaintext),
  };
}

/** The agreement and the first message, which cannot be had apart. */
export function signalAgreeing(signal: Signal): Agreements {
  const [alice, bob] = [party(signal, "alice"), party(signal, "bob")];
  const publish = publisher(signal, bob);
  const message = new Uint8Array(100);
  let bundles: object[] = [];
  return {
    prepare(count) {
      bundles = Array.from({ length: count }, (_, id) => publish(id));
    },
    async run() {
      const bundle = bundles.pop();
      if (!bundle) throw new Error("nothing is prepared");
      alice.forget();
      bob.forget();
      await begin(signal, alice, bob, bundle, message);
    },
  };
}

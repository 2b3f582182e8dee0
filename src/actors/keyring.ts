import {
  base64,
  type Identity,
  identityFromSeed,
  KDFS,
  type Kdf,
  type OneTimePreKey,
  parseRatchet,
  type RatchetJson,
  type RatchetState,
  type SignedPreKey,
  type SkippedKeys,
  serializeRatchet,
  sign,
  x25519KeyPair,
} from "../crypto/index.ts";
import { MeshError } from "../errors.ts";
import type { Random } from "../store/seal.ts";
import type { SecretPatch, Secrets } from "../store/secrets.ts";
import type { Secret } from "../store/vault.ts";

// What the node keeps secret, by name, and the patches that change it. A patch takes effect with the commit it rides in.
//
//   identity                       Ed25519 seed
//   token/<controller>             a pairing token's secret, until it is consumed
//   content/<scope>                content key: seals bodies at rest
//   prekey/signed/<id>             X25519 secret of a signed prekey
//   prekey/one-time/<id>           X25519 secret of a one-time prekey
//   ratchet/<session>              a Double Ratchet's state but for its chains, and its associated data
//   sending/<session>              the chain that it sends with, moved by each message
//   receiving/<session>            the chain that it receives with
//   candidate/<session>/<kdf>/<id> a responder's whole ratchet for each KDF and signed prekey that the initiator may have used,
//                                  until a message settles which it was
//   skipped/<session>/<key id>     a message key set aside
//   sent/<peer>/<message>          the message key of a frame that the relay does not have yet

/** Whether a secret outlives the sessions. The others are only as good as the newest state of a ratchet. */
export const outlivesSessions = (name: string): boolean =>
  !/^(?:ratchet|sending|receiving|candidate|skipped|sent)\//.test(name);

export interface Ratchet {
  readonly state: RatchetState;
  readonly associatedData: Uint8Array;
  readonly skipped: SkippedKeys;
  /** Its chains still lie in its state, as the first version kept them. */
  readonly isWhole?: boolean;
}

/** What `ratchetPatch` keeps of a ratchet: the skipped keys are kept one by one. */
export type RatchetCore = Pick<Ratchet, "state" | "associatedData">;

const decode = (value: Secret | undefined) => (typeof value === "string" ? base64.decode(value) : undefined);

/** A secret that holds a ratchet: its state as `serializeRatchet` gives it, its associated data in base64. */
interface RatchetSecret {
  readonly state: Readonly<Record<string, Secret>>;
  readonly ad: string;
}
const isObject = (value: Secret | undefined): value is Readonly<Record<string, Secret>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const ratchetSecret = (value: Secret | undefined): RatchetSecret | undefined =>
  isObject(value) && isObject(value.state) && typeof value.ad === "string"
    ? { state: value.state, ad: value.ad }
    : undefined;

/** The chains stand apart: a message moves one of them, and the rest only when the ratchet turns. */
const CHAINS = ["sending", "receiving"] as const;

const chainSecret = (chain: RatchetJson["sending"]): Secret => chain && { ...chain };

const secretOf = (state: RatchetJson, associatedData: Uint8Array): Secret => ({
  state: {
    ...state,
    self: { ...state.self },
    sending: chainSecret(state.sending),
    receiving: chainSecret(state.receiving),
  },
  ad: base64.encode(associatedData),
});

/** Whether only chains differ between two states. States share what did not change. */
const isSameTurn = (before: RatchetState, after: RatchetState) =>
  before.rootKey === after.rootKey &&
  before.self === after.self &&
  before.peer === after.peer &&
  before.previousCount === after.previousCount;

const candidates = (session: string) => `candidate/${session}/`;
const isKdf = (text: string | undefined): text is Kdf => KDFS.some((kdf) => kdf === text);

export class Keyring {
  readonly #secrets: Secrets;
  readonly #random: Random;
  #ratchets = new Map<string, Ratchet>();
  #contentKeys = new Map<string, Uint8Array>();
  #newContentKeys = new Map<string, Uint8Array>();
  #identity: Identity | undefined;

  constructor(secrets: Secrets, random: Random) {
    this.#secrets = secrets;
    this.#random = random;
  }

  /** What was decided was lost: nothing remembered here may outlive it. */
  rollBack(): void {
    this.#ratchets = new Map();
    this.#contentKeys = new Map();
    this.#newContentKeys = new Map();
    this.#identity = undefined;
  }

  get hasIdentity(): boolean {
    return this.#secrets.get("identity") !== undefined;
  }

  /** @throws MeshError `not_paired` when there is none yet */
  get identity(): Identity {
    if (!this.#identity) {
      const seed = decode(this.#secrets.get("identity"));
      if (!seed) throw new MeshError("not_paired");
      this.#identity = identityFromSeed(seed);
    }
    return this.#identity;
  }

  /** The identity that is there, or the one of a seed (a new one, unless given) and the patch that keeps it. */
  identityOrNew(seed = this.#random(32)): { identity: Identity; patch: SecretPatch } {
    if (this.hasIdentity) return { identity: this.identity, patch: {} };
    return { identity: identityFromSeed(seed), patch: { identity: base64.encode(seed) } };
  }

  token(controller: string): string | undefined {
    const token = this.#secrets.get(`token/${controller}`);
    return typeof token === "string" ? token : undefined;
  }
  static tokenPatch = (controller: string, secret: string | null): SecretPatch => ({ [`token/${controller}`]: secret });

  // Content keys

  contentKey(scope: string): Uint8Array | undefined {
    const cached = this.#contentKeys.get(scope);
    if (cached) return cached;
    const key = decode(this.#secrets.get(`content/${scope}`));
    if (key) {
      this.#contentKeys.set(scope, key);
      this.#newContentKeys.delete(scope);
    }
    return key;
  }

  contentKeyOrNew(scope: string): { key: Uint8Array; patch: SecretPatch } {
    const name = `content/${scope}`;
    const known = this.contentKey(scope);
    if (known) return { key: known, patch: {} };
    // The same new key for every body until one of them is committed with it.
    const key = this.#newContentKeys.get(scope) ?? this.#random(32);
    this.#newContentKeys.set(scope, key);
    return { key, patch: { [name]: base64.encode(key) } };
  }

  // Prekeys

  signedPreKey(id: number): SignedPreKey | undefined {
    const secret = decode(this.#secrets.get(`prekey/signed/${id}`));
    if (!secret) return undefined;
    const keyPair = x25519KeyPair(secret);
    return { keyId: id, keyPair, signature: sign(this.identity, keyPair.public) };
  }

  oneTimePreKey(id: number): OneTimePreKey | undefined {
    const secret = decode(this.#secrets.get(`prekey/one-time/${id}`));
    return secret && { keyId: id, keyPair: x25519KeyPair(secret) };
  }

  /** How many one-time prekeys with ids from `first` up to `next` are not used yet, as far as this laptop knows. */
  oneTimePreKeysHeld(first: number, next: number): number {
    let held = 0;
    for (let id = first; id < next; id++) if (this.#secrets.get(`prekey/one-time/${id}`) !== undefined) held++;
    return held;
  }

  /** One-time prekeys that were not used up, as far as is known here. */
  get oneTimePreKeys(): number {
    return this.#secrets.names("prekey/one-time/").length;
  }

  static preKeysPatch(signed: SignedPreKey | undefined, oneTime: readonly OneTimePreKey[]): SecretPatch {
    const patch: Record<string, Secret> = {};
    if (signed) patch[`prekey/signed/${signed.keyId}`] = base64.encode(signed.keyPair.secret);
    for (const { keyId, keyPair } of oneTime) patch[`prekey/one-time/${keyId}`] = base64.encode(keyPair.secret);
    return patch;
  }
  /** Destroys signed prekeys, and the one-time ones with ids below a bound. */
  droppedPreKeysPatch(signed: readonly number[], oneTimeBelow: number): SecretPatch {
    const oneTime = this.#secrets
      .names("prekey/one-time/")
      .filter((name) => Number(name.slice(name.lastIndexOf("/") + 1)) < oneTimeBelow);
    return Object.fromEntries([...signed.map((id) => `prekey/signed/${id}`), ...oneTime].map((name) => [name, null]));
  }
  static consumedPatch = (oneTimeKeyId: number | null): SecretPatch =>
    oneTimeKeyId === null ? {} : { [`prekey/one-time/${oneTimeKeyId}`]: null };

  // Ratchets

  ratchet(session: string): Ratchet | undefined {
    const cached = this.#ratchets.get(session);
    if (cached) return cached;
    const secret = ratchetSecret(this.#secrets.get(`ratchet/${session}`));
    if (!secret) return undefined;
    const prefix = `skipped/${session}/`;
    const skipped = new Map<string, Uint8Array>();
    for (const name of this.#secrets.names(prefix)) {
      const key = decode(this.#secrets.get(name));
      if (key) skipped.set(name.slice(prefix.length), key);
    }
    const ratchet: Ratchet = { ...this.#coreOf(session, secret), skipped };
    this.#ratchets.set(session, ratchet);
    return ratchet;
  }

  #coreOf(session: string, { state, ad }: RatchetSecret): Omit<Ratchet, "skipped"> {
    const associatedData = base64.decode(ad);
    const isWhole = CHAINS.some((way) => (state[way] ?? null) !== null);
    if (isWhole) return { state: parseRatchet(state), associatedData, isWhole };
    const chains = CHAINS.map((way) => [way, this.#secrets.get(`${way}/${session}`) ?? null]);
    return { state: parseRatchet({ ...state, ...Object.fromEntries(chains) }), associatedData };
  }

  /** The ratchets that may read a session's next message: its own, or the candidates until a message settled which. */
  candidates(session: string): readonly { readonly ratchet: Ratchet; readonly kdf?: Kdf }[] {
    const ratchet = this.ratchet(session);
    if (ratchet) return [{ ratchet }];
    return this.#secrets.names(candidates(session)).flatMap((name) => {
      const secret = ratchetSecret(this.#secrets.get(name));
      const [kdf] = name.slice(candidates(session).length).split("/");
      if (!secret || !isKdf(kdf)) return [];
      const [state, associatedData] = [parseRatchet(secret.state), base64.decode(secret.ad)];
      return [{ kdf, ratchet: { state, associatedData, skipped: new Map<string, Uint8Array>() } }];
    });
  }

  /** The patch of a session that a knock opened: which KDF its initiator speaks is not known, nor always which prekey it used. */
  static candidatesPatch = (
    session: string,
    signed: readonly SignedPreKey[],
    ratchetOf: (kdf: Kdf, signed: SignedPreKey) => RatchetCore,
  ): SecretPatch =>
    Object.fromEntries(
      signed.flatMap((preKey) =>
        KDFS.map((kdf) => {
          const { state, associatedData } = ratchetOf(kdf, preKey);
          const name = `${candidates(session)}${kdf}/${preKey.keyId}`;
          return [name, secretOf(serializeRatchet(state), associatedData)];
        }),
      ),
    );
  /** The patch that goes with the first message of such a session: one candidate is moved on, none is kept. */
  settledPatch(session: string): SecretPatch {
    return Object.fromEntries(this.#secrets.names(candidates(session)).map((name) => [name, null]));
  }

  /**
   * The patch that moves a ratchet. The caller commits it in the same turn, and calls `moved` when it was accepted.
   * @param from what it moves from; a new ratchet has none
   */
  static ratchetPatch(
    session: string,
    { state, associatedData }: RatchetCore,
    from: Ratchet | undefined,
    change: { readonly added?: readonly (readonly [string, Uint8Array])[]; readonly gone?: readonly string[] } = {},
  ): SecretPatch {
    const json = serializeRatchet(state);
    const patch: Record<string, Secret> = {};
    const before = from?.isWhole ? undefined : from?.state;
    const isTurned = before === undefined || !isSameTurn(before, state);
    if (isTurned) patch[`ratchet/${session}`] = secretOf({ ...json, sending: null, receiving: null }, associatedData);
    for (const way of CHAINS)
      if (isTurned || before[way] !== state[way]) patch[`${way}/${session}`] = chainSecret(json[way]);
    for (const [id, key] of change.added ?? []) patch[`skipped/${session}/${id}`] = base64.encode(key);
    for (const id of change.gone ?? []) patch[`skipped/${session}/${id}`] = null;
    return patch;
  }
  moved(session: string, ratchet: Ratchet): void {
    this.#ratchets.set(session, { ...ratchet, isWhole: false });
  }

  /** Forgets a session: its ratchet, its skipped keys, and the message keys of frames that it sealed in vain. */
  forgetPatch(session: string, peer: string, sealed: readonly string[]): SecretPatch {
    const names = [
      ...["ratchet", ...CHAINS].map((kind) => `${kind}/${session}`),
      ...this.#secrets.names(candidates(session)),
      ...this.#secrets.names(`skipped/${session}/`),
      ...Keyring.sentNames(peer, sealed),
    ];
    return Object.fromEntries(names.map((name) => [name, null]));
  }
  /** A session was forgotten, and that is decided. */
  forgot(session: string): void {
    this.#ratchets.delete(session);
  }

  /** Destroys the words of a scope: its content key, and of a peer the message keys of frames that were sent or set aside. */
  forgetWordsPatch(scope: string, sessions: readonly string[] = []): SecretPatch {
    const names = [
      `content/${scope}`,
      ...this.#secrets.names(`sent/${scope}/`),
      ...sessions.flatMap((session) => this.#secrets.names(`skipped/${session}/`)),
    ];
    return Object.fromEntries(names.map((name) => [name, null]));
  }
  /** The words of a scope were destroyed, and that is decided. */
  forgotWords(scope: string, sessions: readonly string[] = []): void {
    this.#contentKeys.delete(scope);
    this.#newContentKeys.delete(scope);
    for (const session of sessions) this.#ratchets.delete(session);
  }

  sentKey(peer: string, id: string): Uint8Array | undefined {
    return decode(this.#secrets.get(sentName(peer, id)));
  }
  static sentKeyPatch = (peer: string, id: string, key: Uint8Array): SecretPatch => ({
    [sentName(peer, id)]: base64.encode(key),
  });
  /** The names of what is forgotten when the relay has a frame. */
  static sentNames = (peer: string, ids: readonly string[]): string[] => ids.map((id) => sentName(peer, id));

  /** Forgets the message keys of all frames but these, by peer and id: the relay has the others, and that is on disk. */
  forgetSent(inUse: ReadonlyMap<string, ReadonlySet<string>>): void {
    const gone = this.#secrets.names("sent/").filter((name) => {
      const [, peer = "", id = ""] = /^sent\/([^/]+)\/(.*)$/.exec(name) ?? [];
      return !inUse.get(peer)?.has(id);
    });
    this.#secrets.forget(gone);
  }
}

const sentName = (peer: string, id: string) => `sent/${peer}/${id}`;

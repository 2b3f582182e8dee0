/**
 * A plain client: in the manner of the TypeScript client or of the Python one, which `manners.ts` tells apart. It announces nothing
 * and keeps nothing on disk. Its keys and ciphers are this project's; what its ratchet does wrong is in `channel.ts`. It checks the
 * bundles of others as this project does, where the real ones check the prekey's signature alone.
 */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { WebSocket } from "ws";
import { z } from "zod";
import { type Clock, realClock } from "../../src/actors/ports.ts";
import {
  base64,
  base64url,
  generateOneTimePreKeys,
  generateSignedPreKey,
  type Identity,
  identityFromSeed,
  initiate,
  type OneTimePreKey,
  respond,
  type SignedPreKey,
  sign,
  utf8,
  x25519KeyPair,
} from "../../src/crypto/index.ts";
import { Knock, Message } from "../../src/wire/frame.ts";
import { DiscoverResponse, PreKeysResponse } from "../../src/wire/registry.ts";
import { atTheEnd } from "../ending.ts";
import { Channel, random } from "./channel.ts";
import { Happenings } from "./happenings.ts";
import { MANNERS, type Manner } from "./manners.ts";
import type { Frame } from "./relay.ts";
import type { Places } from "./servers.ts";

const HEARTBEAT_MS = 30_000;
const RECONNECT_MIN_MS = 1_000;
/** Another connection of the same identity took over: it does not come back. */
const REPLACED = 4006;

export interface ClientOptions {
  readonly manner?: keyof typeof MANNERS;
  readonly name?: string;
  /** What it registers beside its name. */
  readonly capabilities?: readonly string[];
  /** Of its identity. */
  readonly seed?: Uint8Array;
  readonly oneTimePreKeys?: number;
  /** Whether it proves that it holds its key, where its manner does otherwise: old clients can be made to. */
  readonly proves?: boolean;
  readonly clock?: Clock;
  /** Whether it lets a peer in that knocks; the Python client lets everyone in. */
  readonly accepts?: (peer: string) => boolean;
  /** Told of each message before anybody else. */
  readonly onMessage?: (message: Heard) => void;
}

export interface Heard {
  readonly from: string;
  readonly id: string;
  /** As the application of this client is given it. */
  readonly payload: unknown;
}

interface Asked {
  readonly body?: object;
  /** Whether the registry asks for an authorization. */
  readonly isAuthorized?: boolean;
}

const Headed = z.object({ id: z.string(), from: z.string(), header: z.unknown() });

/** What its process has in memory. */
interface Memory {
  readonly signed: SignedPreKey;
  readonly oneTime: Map<number, OneTimePreKey>;
  nextOneTimeId: number;
  readonly channels: Map<string, Channel>;
  /** Messages that came before their knock, with what lets go of each. */
  readonly early: Map<string, { readonly frame: Message; readonly disarm: () => void }[]>;
}

export class ReferenceClient {
  readonly identity: Identity;
  readonly name: string;
  /** What it read, in order. */
  readonly heard = new Happenings<Heard>();
  /** Frames that it sent, and frames that came. */
  readonly sent = new Happenings<Frame>();
  readonly came = new Happenings<Frame>();
  /** What its application is told went wrong. */
  readonly problems = new Happenings<string>();
  readonly #places: Places;
  readonly #options: ClientOptions;
  readonly #manner: Manner;
  readonly #clock: Clock;
  #memory: Memory;
  #socket: WebSocket | undefined;
  #attempts = 0;
  #isClosed = false;
  /** Takes back the next heartbeat or attempt to connect. */
  #disarm: () => void = () => undefined;
  /** Frames are dealt with one after the other. */
  #turn: Promise<void> = Promise.resolve();

  private constructor(places: Places, options: ClientOptions) {
    this.#places = places;
    this.#options = options;
    const manner = MANNERS[options.manner ?? "typescript"];
    this.#manner = { ...manner, proves: options.proves ?? manner.proves };
    this.#clock = options.clock ?? realClock;
    this.identity = identityFromSeed(options.seed ?? random(32));
    this.name = options.name ?? `client-${this.identity.did.slice(-8)}`;
    this.#memory = this.#newMemory();
  }

  /** Registered and connected; it is closed when the test ends. */
  static async open(places: Places, options: ClientOptions = {}): Promise<ReferenceClient> {
    const client = new ReferenceClient(places, options);
    atTheEnd(() => client.close());
    await client.#start();
    return client;
  }

  get did(): string {
    return this.identity.did;
  }

  hasSession(peer: string): boolean {
    return this.#memory.channels.has(peer);
  }

  /** How many messages of a peer wait for its knock. */
  waiting(peer: string): number {
    return this.#memory.early.get(peer)?.length ?? 0;
  }

  /** Resolves when all that came is dealt with. */
  async idle(): Promise<void> {
    await this.#turn;
  }

  /** Keys begin at 0 with each process. */
  #newMemory(): Memory {
    const oneTime = generateOneTimePreKeys(0, this.#options.oneTimePreKeys ?? this.#manner.oneTimePreKeys, random);
    return {
      signed: generateSignedPreKey(this.identity, 0, random),
      oneTime: new Map(oneTime.map((key) => [key.keyId, key])),
      nextOneTimeId: oneTime.length,
      channels: new Map(),
      early: new Map(),
    };
  }

  async #start(): Promise<void> {
    this.#isClosed = false;
    if (this.#manner.connectsFirst) await this.#connect();
    await this.#register();
    await this.#publish([...this.#memory.oneTime.values()]);
    if (!this.#manner.connectsFirst) await this.#connect();
  }

  /** Takes its leave, where it does that, and goes. What it has in memory stays. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#disarm();
    for (const entries of this.#memory.early.values()) for (const { disarm } of entries) disarm();
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket?.readyState !== WebSocket.OPEN) return;
    const ended = once(socket, "close");
    if (this.#manner.saysGoodbye) this.#write(socket, { v: 1, type: "disconnect", from: this.did });
    socket.close(1000);
    await ended;
  }

  /** Comes back after `close`, as the same process. The Python client registers anew, and has the keys of a new process. */
  async reconnect(): Promise<void> {
    this.#isClosed = false;
    if (!this.#manner.connectsFirst) {
      const { channels } = this.#memory;
      this.#memory = { ...this.#newMemory(), channels };
      await this.#start();
    } else await this.#connect();
  }

  /** Its process dies, and another one begins with the same identity: sessions, keys and what nobody acked are gone. */
  async restart(): Promise<void> {
    this.#isClosed = true;
    this.#disarm();
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket && socket.readyState !== WebSocket.CLOSED) {
      const ended = once(socket, "close");
      socket.terminate();
      await ended;
    }
    this.#memory = this.#newMemory();
    await this.#start();
  }

  // The registry

  #iso(): string {
    return new Date(this.#clock.now()).toISOString();
  }

  async #ask(method: string, path: string, { body, isAuthorized }: Asked = {}) {
    const time = this.#iso();
    const signature = base64url.encode(sign(this.identity, utf8.encode(time)));
    const response = await fetch(`${this.#places.registryUrl}${path}`, {
      method,
      headers: {
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...(isAuthorized || this.#manner.alwaysAuthorizes
          ? { authorization: `Ed25519-Timestamp ${this.did} ${time} ${signature}` }
          : {}),
      },
      ...(body === undefined ? {} : { body: this.#manner.write(body) }),
    });
    return { status: response.status, json: await response.text() };
  }

  async #register(): Promise<void> {
    const public_key = base64url.encode(this.identity.publicKey);
    const proof_timestamp = this.#iso();
    const proof = base64url.encode(sign(this.identity, utf8.encode(public_key + proof_timestamp)));
    const body = {
      ...(this.#manner.proves
        ? { public_key, proof, proof_timestamp }
        : { did: this.did, public_key: base64url.encode(this.identity.dhPublic) }),
      capabilities: [this.name, ...(this.#options.capabilities ?? [])],
      metadata: this.#manner.metadata(this.name),
    };
    const { status, json } = await this.#ask("POST", "/v1/agents", { body });
    if (status !== 201 && status !== 200 && status !== 409) throw new Error(`not registered: ${status} ${json}`);
  }

  async #publish(oneTime: readonly OneTimePreKey[]): Promise<void> {
    const { signed } = this.#memory;
    const body = {
      identity_key: base64url.encode(this.identity.dhPublic),
      identity_key_ed: base64url.encode(this.identity.publicKey),
      signed_pre_key: {
        key_id: signed.keyId,
        public_key: base64url.encode(signed.keyPair.public),
        signature: base64url.encode(signed.signature),
      },
      one_time_pre_keys: oneTime.map(({ keyId, keyPair }) => ({
        key_id: keyId,
        public_key: base64url.encode(keyPair.public),
      })),
    };
    const path = `/v1/agents/${this.#manner.inPath(this.did)}/prekeys`;
    const { status, json } = await this.#ask("PUT", path, { body, isAuthorized: true });
    if (status !== 200) throw new Error(`no prekeys published: ${status} ${json}`);
  }

  /** Tells the registry that it is there, as the runtimes of both clients do every 30 seconds. */
  async heartbeat(): Promise<void> {
    const path = `/v1/agents/${this.#manner.inPath(this.did)}/heartbeat`;
    await this.#ask("POST", path, { isAuthorized: true });
  }

  /** The agents that carry a name, as the registry lists them. */
  async find(name: string): Promise<string[]> {
    const query = new URLSearchParams({ capability: name, limit: String(this.#manner.discoverLimit) });
    const { status, json } = await this.#ask("GET", `/v1/discover?${query}`);
    if (status !== 200) throw new Error(`nobody found: ${status} ${json}`);
    return DiscoverResponse.parse(JSON.parse(json)).results.map(({ did }) => did);
  }

  // The relay

  async #connect(): Promise<void> {
    const socket = new WebSocket(`${this.#places.relayUrl}/ws`, { maxPayload: this.#manner.frameSizeMax });
    this.#socket = socket;
    socket.on("error", () => undefined); // The close that follows is what counts.
    socket.on("message", (data) => this.#received(socket, String(data)));
    socket.on("close", (code) => this.#ended(socket, code));
    socket.on("open", () => {
      this.#attempts = 0;
      const timestamp = this.#iso();
      const proof = {
        public_key: base64.encode(this.identity.publicKey),
        timestamp,
        signature: base64.encode(sign(this.identity, utf8.encode(timestamp))),
      };
      this.#write(socket, { v: 1, type: "connect", from: this.did, ...(this.#manner.proves ? proof : {}) });
      if (this.#manner.asksForPending) this.#write(socket, { v: 1, type: "fetch_pending", from: this.did });
      this.#beat(socket);
    });
    await once(socket, "open");
    // A relay says nothing to a good connect. It answers a ping behind it.
    const read = once(socket, "pong");
    socket.ping();
    await read;
  }

  #beat(socket: WebSocket): void {
    this.#disarm();
    this.#disarm = this.#clock.at(this.#clock.now() + HEARTBEAT_MS, () => {
      this.#write(socket, { v: 1, type: "heartbeat", from: this.did, ts: this.#iso() });
      this.#beat(socket);
    });
  }

  #ended(socket: WebSocket, code: number): void {
    if (this.#socket !== socket || this.#isClosed) return;
    this.#socket = undefined;
    this.#disarm();
    if (code === 1000 || code === REPLACED) return;
    const delay = Math.min(this.#manner.reconnectMaxMs, RECONNECT_MIN_MS * 2 ** this.#attempts++);
    this.#disarm = this.#clock.at(this.#clock.now() + delay, () => {
      this.#connect().catch((error: unknown) => this.problems.add(`not connected: ${String(error)}`));
    });
  }

  #write(socket: WebSocket, frame: Frame): void {
    if (socket.readyState !== WebSocket.OPEN) return;
    this.sent.add(frame);
    socket.send(this.#manner.write(frame));
  }

  #send(frame: Frame): void {
    if (!this.#socket) throw new Error("Not connected to relay");
    this.#write(this.#socket, frame);
  }

  // What it says

  /** Lets go of a session, as its application can have it do. */
  closeSession(peer: string): void {
    this.#memory.channels.delete(peer);
  }

  /** Sends a frame as it stands, as nobody's client does. */
  forge(frame: Frame): void {
    this.#send(frame);
  }

  /** Says something, after a knock where there is no session. @returns the id of the message's frame */
  async say(to: string, value: unknown, id: string = randomUUID()): Promise<string> {
    if (!this.#memory.channels.has(to)) await this.knock(to);
    const channel = this.#memory.channels.get(to);
    if (!channel) throw new Error(`No encrypted session with ${to}`);
    const { header, ciphertext } = channel.send(this.#manner.encode(value));
    this.#send({
      v: 1,
      type: "message",
      from: this.did,
      to,
      id,
      ts: this.#iso(),
      header: { dh: base64.encode(header.dh), pn: header.pn, n: header.n },
      ciphertext: base64.encode(ciphertext),
    });
    return id;
  }

  /** Opens a session, in which it may speak at once. @returns the id of the knock's frame */
  async knock(to: string): Promise<string> {
    const { status, json } = await this.#ask("GET", `/v1/agents/${this.#manner.inPath(to)}/prekeys`);
    if (status !== 200) throw new Error(`no prekey bundle for ${to}: ${status} ${json}`);
    const answer = PreKeysResponse.parse(JSON.parse(json));
    const signedPreKey = {
      keyId: answer.signed_pre_key.key_id,
      publicKey: base64url.decode(answer.signed_pre_key.public_key),
      signature: base64url.decode(answer.signed_pre_key.signature),
    };
    const oneTime = answer.one_time_pre_key;
    const agreement = initiate({
      identity: this.identity,
      bundle: {
        did: to,
        identityKey: base64url.decode(answer.identity_key),
        identityKeyEd: base64url.decode(answer.identity_key_ed ?? ""),
        signedPreKey,
        ...(oneTime && { oneTimePreKey: { keyId: oneTime.key_id, publicKey: base64url.decode(oneTime.public_key) } }),
      },
      ephemeral: x25519KeyPair(random(32)),
      kdf: this.#manner.kdf,
    });
    const channel = Channel.initiator(agreement.associatedData, agreement.sharedKey, signedPreKey.publicKey);
    const id = randomUUID();
    this.#send({
      v: 1,
      type: "knock",
      from: this.did,
      to,
      id,
      ts: this.#iso(),
      intent: { action: "establish_session" },
      establishment: {
        ik: base64.encode(this.identity.dhPublic),
        ek: base64.encode(agreement.ephemeralPublic),
        ...(agreement.oneTimeKeyId === undefined ? {} : { otk: agreement.oneTimeKeyId }),
      },
    });
    this.#memory.channels.set(to, channel);
    return id;
  }

  // What it hears

  #received(socket: WebSocket, text: string): void {
    const frame: Frame = JSON.parse(text);
    this.came.add(frame);
    this.#turn = this.#turn
      .then(() => (this.#socket === socket ? this.#handle(frame) : undefined))
      .catch((error: unknown) => this.problems.add(String(error)));
  }

  async #handle(frame: Frame): Promise<void> {
    if (frame.type === "knock") await this.#onKnock(Knock.parse(frame));
    else if (frame.type === "message") this.#onMessage(frame);
    else if (frame.type === "knock_reject" && this.#manner.endsOnFailure && frame.from !== undefined)
      this.#memory.channels.delete(frame.from);
  }

  async #onKnock(knock: Knock): Promise<void> {
    const { from } = knock;
    const { channels } = this.#memory;
    const { accepts = () => true } = this.#options;
    let isAccepted = !this.#manner.answersKnocks || accepts(from);
    // With a session the TypeScript client does not look at what a knock brings.
    if (isAccepted && (this.#manner.knockReplaces || !channels.has(from))) {
      const channel = this.#respond(knock);
      isAccepted = channel !== undefined;
      if (isAccepted && this.#manner.topUp > 0) await this.#topUp();
      if (channel) channels.set(from, channel);
    }
    if (!this.#manner.answersKnocks) return;
    const early = this.#memory.early.get(from) ?? [];
    this.#memory.early.delete(from);
    for (const { disarm } of early) disarm();
    const type = isAccepted ? "knock_accept" : "knock_reject";
    const reason = isAccepted ? {} : { reason: "policy_denied" };
    const answer = { v: 1, type, from: this.did, to: from, id: randomUUID(), knock_id: knock.id };
    this.#send({ ...answer, ...reason, ts: this.#iso() });
    if (isAccepted) for (const { frame } of early) this.#read(frame);
  }

  /** A channel from a knock; undefined when its one-time prekey is not there (any more). */
  #respond({ from, establishment: { ik, ek, otk } }: Knock): Channel | undefined {
    const { signed, oneTime } = this.#memory;
    const oneTimePreKey = typeof otk === "number" ? oneTime.get(otk) : undefined;
    if (typeof otk === "number" && !oneTimePreKey) {
      this.problems.add(`knock: One-time pre-key ${otk} not found or already consumed.`);
      return undefined;
    }
    if (oneTimePreKey) oneTime.delete(oneTimePreKey.keyId);
    const agreement = respond({
      identity: this.identity,
      signedPreKey: signed,
      oneTimePreKey,
      initiatorDid: from,
      initiatorIdentityKey: base64.decode(ik),
      ephemeralKey: base64.decode(ek),
      kdf: this.#manner.kdf,
    });
    return Channel.responder(agreement.associatedData, agreement.sharedKey, signed.keyPair);
  }

  /** Fresh one-time prekeys in the place of all that the registry had; the older ones are still known here. */
  async #topUp(): Promise<void> {
    const memory = this.#memory;
    const keys = generateOneTimePreKeys(memory.nextOneTimeId, this.#manner.topUp, random);
    memory.nextOneTimeId += keys.length;
    for (const key of keys) memory.oneTime.set(key.keyId, key);
    await this.#publish(keys);
  }

  #onMessage(json: Frame): void {
    const headed = Headed.safeParse(json).data;
    const frame = Message.safeParse(json).data;
    if (!headed || !frame) {
      // Plaintext among them: nobody's is taken.
      this.problems.add("decrypt: encrypted message missing ratchet header");
      return;
    }
    if (this.#memory.channels.has(frame.from)) this.#read(frame);
    else this.#keep(frame);
  }

  /** Before its knock a message waits a while, if at all; of too many the oldest is dropped. */
  #keep(frame: Message): void {
    const { messages, ms } = this.#manner.early;
    const entries = this.#memory.early.get(frame.from) ?? [];
    if (messages === 0) return;
    if (entries.length >= messages) entries.shift()?.disarm();
    const disarm = this.#clock.at(this.#clock.now() + ms, () => {
      const left = (this.#memory.early.get(frame.from) ?? []).filter((entry) => entry.frame !== frame);
      this.#memory.early.set(frame.from, left);
    });
    this.#memory.early.set(frame.from, [...entries, { frame, disarm }]);
  }

  #read({ from, id, header, ciphertext }: Message): void {
    const channel = this.#memory.channels.get(from);
    if (!channel) return;
    let plaintext: Uint8Array;
    try {
      plaintext = channel.receive({
        header: { ...header, dh: base64.decode(header.dh) },
        ciphertext: base64.decode(String(ciphertext)),
      });
    } catch (error) {
      if (this.#manner.endsOnFailure) this.#memory.channels.delete(from);
      this.problems.add(`session_desync: ${String(error)}`);
      return;
    }
    const message: Heard = { from, id, payload: this.#manner.decode(plaintext) };
    if (this.#manner.acks) this.#send({ v: 1, type: "ack", id });
    this.#options.onMessage?.(message);
    this.heard.add(message);
  }
}

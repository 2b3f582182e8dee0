import type { Socket } from "../../src/actors/ports.ts";
import { Registry } from "../../src/actors/registry.ts";
import { uuidFrom } from "../../src/actors/uuid.ts";
import {
  base64,
  generateOneTimePreKeys,
  generateSignedPreKey,
  type Identity,
  identityFromSeed,
  initiate,
  initiatorRatchet,
  type OneTimePreKey,
  respond,
  responderRatchet,
  type SignedPreKey,
  sign,
  utf8,
  x25519KeyPair,
} from "../../src/crypto/index.ts";
import { Knock, Message } from "../../src/wire/frame.ts";
import { urlsOf } from "./cluster.ts";
import { PlainChannel } from "./plain-channel.ts";
import { dumps } from "./plain-relay.ts";
import { Machine, Process } from "./process.ts";
import type { World } from "./world.ts";

// An agent with the Python client of kars: it acks nothing and answers no knock, each knock replaces its session with the sender,
// and all but its identity is in memory, so that it loses its sessions when it starts again and counts its prekeys from 0.

const NAME = "peter";
const HEARTBEAT_MS = 30_000;
const PONG_WAIT_MS = 10_000;
const RECONNECT_MIN_MS = 1_000;
const RECONNECT_MAX_MS = 30_000;
const REGISTER_AGAIN_MS = 2_000;
const ONE_TIME_PREKEYS = 10;

/** What its application was given. */
export interface Heard {
  readonly from: string;
  readonly words: string;
}

/** What one of its processes knows. */
interface Memory {
  readonly process: Process;
  readonly registry: Registry;
  readonly signed: SignedPreKey;
  readonly oneTime: Map<number, OneTimePreKey>;
  nextOneTimeId: number;
  readonly channels: Map<string, PlainChannel>;
  socket: Socket | undefined;
  /** Frames are dealt with one after the other, and so is what it says. */
  hearing: Promise<void>;
  saying: Promise<unknown>;
}

/** What is in JSON that an application said: a text, or an object with a text in it. */
function wordsOf(plaintext: Uint8Array): string {
  const json: unknown = JSON.parse(Buffer.from(plaintext).toString("utf8"));
  if (typeof json === "object" && json !== null && "content" in json) return String(json.content);
  return String(json);
}

export class PlainPeer {
  readonly name = NAME;
  readonly machine: Machine;
  readonly heard: Heard[] = [];
  readonly #identity: Identity;
  readonly #world: World;
  #memory: Memory | undefined;
  #incarnation = 0;

  constructor(world: World) {
    this.#world = world;
    this.machine = new Machine(NAME, world.around);
    this.#identity = identityFromSeed(world.dice.of(NAME).bytes(32));
  }

  get did(): string {
    return this.#identity.did;
  }
  get process(): Process | undefined {
    return this.#memory?.process;
  }
  /** Whether it is connected, as far as it knows. */
  get isOnline(): boolean {
    return this.#memory?.socket !== undefined;
  }

  start(): void {
    const { clock, dice, network, around } = this.#world;
    const process = new Process(NAME, this.machine, around, this.#incarnation++);
    const { random, clock: ticking } = process.ports;
    // The keys of a process that died would take the place of those of the next, whose ids are the same.
    const ports = { clock: ticking, network: network.of(process, false), signal: new AbortController().signal };
    const oneTime = generateOneTimePreKeys(0, ONE_TIME_PREKEYS, random);
    const memory: Memory = {
      process,
      registry: new Registry(ports, urlsOf(this.#world.plan).registry_url),
      signed: generateSignedPreKey(this.#identity, 0, random),
      oneTime: new Map(oneTime.map((key) => [key.keyId, key])),
      nextOneTimeId: oneTime.length,
      channels: new Map(),
      socket: undefined,
      hearing: Promise.resolve(),
      saying: Promise.resolve(),
    };
    this.#memory = memory;
    process.onDeath(() => {
      if (this.#memory !== memory) return;
      this.#memory = undefined;
      clock.in(dice.skewed(500, 20_000), () => {
        if (!this.#memory) this.start();
      });
    });
    this.#world.trace(`${NAME} starts`);
    this.#register(memory).then(
      () => process.isAlive && this.#connect(memory, 0),
      (error: unknown) => this.#world.violated(`${NAME} does not start: ${String(error)}`),
    );
  }

  /** Registers and publishes its keys, until that succeeds. */
  async #register(memory: Memory): Promise<void> {
    const { process, registry, signed, oneTime } = memory;
    while (process.isAlive) {
      try {
        await registry.register(this.#identity, [NAME], { display_name: NAME, runtime: "python" });
        await registry.publishPreKeys(this.#identity, signed, [...oneTime.values()]);
        return;
      } catch (error) {
        this.#world.trace(`${NAME} is not registered: ${String(error)}`);
        await this.#world.clock.sleep(REGISTER_AGAIN_MS);
      }
    }
  }

  // The relay

  #connect(memory: Memory, attempts: number): void {
    const { process } = memory;
    const { clock } = process.ports;
    let disarm: () => void = () => undefined;
    let isAnswered = true;
    const gone = (opened: boolean) => {
      disarm();
      memory.socket = undefined;
      const pause = Math.min(RECONNECT_MAX_MS, RECONNECT_MIN_MS * 2 ** (opened ? 0 : attempts));
      clock.at(clock.now() + pause, () => this.#connect(memory, opened ? 0 : attempts + 1));
    };
    const beat = () => {
      disarm = clock.at(clock.now() + HEARTBEAT_MS, () => {
        this.#write(socket, { v: 1, type: "heartbeat", from: this.did, ts: this.#iso() });
        isAnswered = false;
        socket.ping();
        disarm = clock.at(clock.now() + PONG_WAIT_MS, () => (isAnswered ? beat() : socket.close()));
      });
    };
    const socket = this.#world.network.of(process).dial(`${urlsOf(this.#world.plan).relay_url}/ws`, {
      opened: () => {
        memory.socket = socket;
        const timestamp = this.#iso();
        this.#write(socket, {
          v: 1,
          type: "connect",
          from: this.did,
          public_key: base64.encode(this.#identity.publicKey),
          timestamp,
          signature: base64.encode(sign(this.#identity, utf8.encode(timestamp))),
        });
        beat();
      },
      answered: () => {
        isAnswered = true;
      },
      received: (text) => {
        const frame: unknown = JSON.parse(text.toString());
        memory.hearing = memory.hearing.then(() => (process.isAlive ? this.#hear(memory, frame) : undefined));
      },
      closed: () => gone(memory.socket === socket),
    });
  }

  #write(socket: Socket | undefined, frame: object): void {
    if (!socket) throw new Error("Relay WS is not connected");
    socket.send(dumps(frame));
  }
  #iso(): string {
    return new Date(this.#world.clock.now()).toISOString();
  }

  // What it says

  /** Says something, with a session of its own where it has none. The id of the frame; undefined when it cannot. */
  say(to: string, words: string): Promise<string | undefined> {
    const memory = this.#memory;
    if (!memory) return Promise.resolve(undefined);
    const said = memory.saying.then(() => this.#say(memory, to, words));
    const heard = said.catch((error: unknown) => {
      this.#world.trace(`${NAME} cannot speak: ${String(error)}`);
      return undefined;
    });
    memory.saying = heard;
    return heard;
  }

  async #say(memory: Memory, to: string, words: string): Promise<string> {
    const { random } = memory.process.ports;
    const channel = memory.channels.get(to) ?? (await this.#knock(memory, to));
    const { header, ciphertext } = channel.send(
      utf8.encode(JSON.stringify({ type: "message", content: words })),
      random,
    );
    const id = uuidFrom(random);
    this.#write(memory.socket, {
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

  async #knock({ process, registry, channels, socket }: Memory, to: string): Promise<PlainChannel> {
    const { random } = process.ports;
    const bundle = await registry.bundle(to);
    const ephemeral = x25519KeyPair(random(32));
    const { sharedKey, associatedData, ephemeralPublic, oneTimeKeyId } = initiate({
      identity: this.#identity,
      bundle: { ...bundle, did: to },
      ephemeral,
    });
    const peerSignedPreKey = bundle.signedPreKey.publicKey;
    const channel = new PlainChannel(initiatorRatchet({ sharedKey, peerSignedPreKey, random }), associatedData);
    this.#write(socket, {
      v: 1,
      type: "knock",
      from: this.did,
      to,
      id: uuidFrom(random),
      ts: this.#iso(),
      intent: { action: "establish_session" },
      establishment: {
        ik: base64.encode(this.#identity.dhPublic),
        ek: base64.encode(ephemeralPublic),
        ...(oneTimeKeyId === undefined ? {} : { otk: oneTimeKeyId }),
      },
    });
    channels.set(to, channel);
    return channel;
  }

  // What it hears

  async #hear(memory: Memory, frame: unknown): Promise<void> {
    const knock = Knock.safeParse(frame).data;
    if (knock) await this.#onKnock(memory, knock);
    const message = Message.safeParse(frame).data;
    if (message) this.#onMessage(memory, message);
  }

  async #onKnock(memory: Memory, { from, establishment: { ik, ek, otk = null } }: Knock): Promise<void> {
    const { process, registry, signed, oneTime, channels } = memory;
    const oneTimePreKey = otk === null ? undefined : oneTime.get(otk);
    if (otk !== null && !oneTimePreKey) {
      this.#world.trace(`${NAME} does not know the one-time prekey ${otk}`);
      return;
    }
    if (oneTimePreKey) oneTime.delete(oneTimePreKey.keyId);
    const { sharedKey, associatedData } = respond({
      identity: this.#identity,
      signedPreKey: signed,
      ...(oneTimePreKey && { oneTimePreKey }),
      initiatorDid: from,
      initiatorIdentityKey: base64.decode(ik),
      ephemeralKey: base64.decode(ek),
    });
    const fresh = generateOneTimePreKeys(memory.nextOneTimeId, ONE_TIME_PREKEYS, process.ports.random);
    memory.nextOneTimeId += fresh.length;
    for (const key of fresh) oneTime.set(key.keyId, key);
    try {
      await registry.publishPreKeys(this.#identity, signed, fresh);
    } catch (error) {
      this.#world.trace(`${NAME} publishes no more prekeys: ${String(error)}`);
    }
    channels.set(
      from,
      new PlainChannel(responderRatchet({ sharedKey, signedPreKeyPair: signed.keyPair }), associatedData),
    );
  }

  #onMessage({ process, channels }: Memory, { from, header, ciphertext }: Message): void {
    const plaintext = channels
      .get(from)
      ?.receive(
        { header: { ...header, dh: base64.decode(header.dh) }, ciphertext: base64.decode(String(ciphertext)) },
        process.ports.random,
      );
    if (!plaintext) {
      this.#world.trace(`${NAME} cannot read what ${from} sent`);
      return;
    }
    const words = wordsOf(plaintext);
    this.#world.trace(`${NAME} hears ${words.slice(0, 60)}`);
    this.heard.push({ from, words });
  }
}

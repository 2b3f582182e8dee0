/** What the cluster tests share: a server in a directory of its own, agents with keys, sockets that can be waited on. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { type ClientOptions, WebSocket } from "ws";
import { type ClusterServer, type ServerOptions, startServer } from "../../src/cluster/server.ts";
import {
  base64,
  base64url,
  generateOneTimePreKeys,
  generateSignedPreKey,
  type Identity,
  identityFromSeed,
  sha256,
  sign,
  utf8,
} from "../../src/crypto/index.ts";
import { MeshError } from "../../src/errors.ts";

export const agent = (name: string): Identity => identityFromSeed(sha256(utf8.encode(name)));

export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "kars-cluster-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** A clock that stands until it is moved, and the server's recurring tasks, run by hand. */
export class Clock {
  time = Date.parse("2026-03-01T12:00:00.000Z");
  readonly #tasks = new Set<() => void>();
  readonly now = () => this.time;
  readonly every = (_milliseconds: number, task: () => void) => {
    this.#tasks.add(task);
    return () => this.#tasks.delete(task);
  };
  iso(offset = 0): string {
    return new Date(this.time + offset).toISOString();
  }
  /** Moves the time and runs what recurs. */
  pass(milliseconds: number): void {
    this.time += milliseconds;
    for (const task of this.#tasks) task();
  }
}

export interface World extends ClusterServer {
  readonly clock: Clock;
  readonly directory: string;
  readonly lines: string[];
}

/** A server that is closed when the test ends. */
export async function world(
  options: Partial<ServerOptions> & { directory?: string; clock?: Clock } = {},
): Promise<World> {
  const clock = options.clock ?? new Clock();
  const directory = options.directory ?? (await temporaryDirectory());
  const lines: string[] = [];
  const server = await startServer({
    host: "127.0.0.1",
    port: 0,
    now: clock.now,
    every: clock.every,
    pair: () => Promise.reject(new MeshError("token_invalid")),
    log: (line) => lines.push(line),
    ...options,
    directory,
  });
  onTestFinished(() => server.close());
  return { ...server, clock, directory, lines };
}

export type Frame = { readonly type?: unknown; readonly id?: unknown; readonly [field: string]: unknown };

/** One WebSocket of a test: what it received, in order, and how it ended. */
export class Client {
  readonly socket: WebSocket;
  readonly ended: Promise<number>;
  readonly #received: Frame[] = [];
  readonly #waiting: ((frame: Frame) => void)[] = [];

  constructor(socket: WebSocket) {
    this.socket = socket;
    this.ended = new Promise((resolve) => socket.once("close", resolve));
    socket.on("error", () => undefined); // The close that follows is what the tests look at.
    socket.on("message", (data) => {
      const frame: Frame = JSON.parse(data.toString());
      const waiting = this.#waiting.shift();
      if (waiting) waiting(frame);
      else this.#received.push(frame);
    });
  }

  send(frame: Frame | string): void {
    this.socket.send(typeof frame === "string" ? frame : JSON.stringify({ v: 1, ...frame }));
  }

  next(): Promise<Frame> {
    const frame = this.#received.shift();
    return frame ? Promise.resolve(frame) : new Promise((resolve) => this.#waiting.push(resolve));
  }

  async take(count: number): Promise<Frame[]> {
    const frames: Frame[] = [];
    while (frames.length < count) frames.push(await this.next());
    return frames;
  }

  /** Resolves when the server has read all that was sent to it. */
  async read(): Promise<void> {
    const pong = once(this.socket, "pong");
    this.socket.ping();
    await pong;
  }

  /** What the server had sent when it had read all that was sent to it, and nobody took. */
  async received(): Promise<Frame[]> {
    await this.read();
    return this.#received.splice(0);
  }

  async close(): Promise<void> {
    this.socket.close();
    await this.ended;
  }

  /** Ends without a word, as a killed process does. */
  async kill(): Promise<void> {
    this.socket.terminate();
    await this.ended;
  }
}

export async function openSocket(server: ClusterServer, options: ClientOptions = {}): Promise<Client> {
  const socket = new WebSocket(`${server.relayUrl}/ws`, { maxPayload: 64 * 1024 * 1024, ...options });
  const client = new Client(socket);
  onTestFinished(() => socket.terminate());
  await once(socket, "open");
  return client;
}

let connects = 0;

/** A connect as a client signs it, with microseconds of its own: no two are the same, however the clock stands. */
export function connectFrame(identity: Identity, time: string): Frame {
  const timestamp = time.replace(/(?<=\.\d{3})Z$/, `${String(++connects % 1_000).padStart(3, "0")}Z`);
  return {
    type: "connect",
    from: identity.did,
    public_key: base64.encode(identity.publicKey),
    timestamp,
    signature: base64.encode(sign(identity, utf8.encode(timestamp))),
  };
}

/** A socket that was let in. */
export async function connect(server: World, identity: Identity, more: Frame = {}): Promise<Client> {
  const client = await openSocket(server);
  client.send({ ...connectFrame(identity, server.clock.iso()), ...more });
  if (more.extensions) await client.next();
  else await client.read();
  return client;
}

export const ACCEPTED = { extensions: ["accepted"] };

export const message = (to: Identity, id: string, more: Frame = {}): Frame => ({
  type: "message",
  to: to.did,
  id,
  ...more,
});

export const ids = (frames: readonly Frame[]) => frames.map(({ id }) => id);

// HTTP

export interface Reply {
  readonly status: number;
  readonly json: Record<string, unknown>;
  readonly headers: Headers;
}

export function authorization(identity: Identity, time: string, did = identity.did): string {
  return `Ed25519-Timestamp ${did} ${time} ${base64url.encode(sign(identity, utf8.encode(time)))}`;
}

export async function request(
  server: World,
  method: string,
  path: string,
  options: { body?: unknown; as?: Identity; headers?: Record<string, string> } = {},
): Promise<Reply> {
  const { body, as, headers } = options;
  const response = await fetch(server.url + path, {
    method,
    headers: { ...(as ? { authorization: authorization(as, server.clock.iso()) } : {}), ...headers },
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, json: text === "" ? {} : JSON.parse(text), headers: response.headers };
}

export const agentPath = (identity: Identity, rest = "") => `/v1/agents/${encodeURIComponent(identity.did)}${rest}`;

export function registration(identity: Identity, time: string, more: Record<string, unknown> = {}) {
  const public_key = base64url.encode(identity.publicKey);
  const proof = base64url.encode(sign(identity, utf8.encode(public_key + time)));
  return { public_key, proof, proof_timestamp: time, capabilities: [], metadata: {}, ...more };
}

export const register = (server: World, identity: Identity, more: Record<string, unknown> = {}) =>
  request(server, "POST", "/v1/agents", { body: registration(identity, server.clock.iso(), more) });

/** An upload of prekeys; `seed` decides the keys, `first` the one-time ids. */
export function prekeys(
  identity: Identity,
  options: { count?: number; first?: number; spk?: number; seed?: string } = {},
) {
  const { count = 3, first = 0, spk = 1, seed = "prekeys" } = options;
  const from = (what: string) => {
    let drawn = 0;
    return (length: number) => sha256(utf8.encode(`${seed} ${identity.did} ${what} ${drawn++}`)).subarray(0, length);
  };
  const signed = generateSignedPreKey(identity, spk, from(`signed ${spk}`));
  return {
    identity_key: base64url.encode(identity.dhPublic),
    identity_key_ed: base64url.encode(identity.publicKey),
    signed_pre_key: {
      key_id: spk,
      public_key: base64url.encode(signed.keyPair.public),
      signature: base64url.encode(signed.signature),
    },
    one_time_pre_keys: generateOneTimePreKeys(first, count, from(`one-time ${first}`)).map(({ keyId, keyPair }) => ({
      key_id: keyId,
      public_key: base64url.encode(keyPair.public),
    })),
  };
}

export const publish = (server: World, identity: Identity, body: unknown) =>
  request(server, "PUT", agentPath(identity, "/prekeys"), { body, as: identity });

/** A relay and a registry that do what the reference servers do, and nothing more. Nothing of ours runs in them. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";
import { base64, base64url, didOf, utf8, verify } from "../../src/crypto/index.ts";
import { atTheEnd } from "../ending.ts";

export interface Frame {
  readonly type: string;
  readonly id?: string;
  readonly from?: string;
  readonly to?: string;
  readonly [field: string]: unknown;
}

/** Waits on things as they happen. */
export class Happenings<T> {
  readonly all: T[] = [];
  #waiting: { readonly isIt: (one: T) => boolean; readonly resolve: (one: T) => void }[] = [];

  add(one: T): void {
    this.all.push(one);
    const met = this.#waiting.filter(({ isIt }) => isIt(one));
    this.#waiting = this.#waiting.filter((each) => !met.includes(each));
    for (const { resolve } of met) resolve(one);
  }

  /** The first that is as wanted, of those that were and those to come; behind `from` of them. */
  async first(isIt: (one: T) => boolean, from = 0): Promise<T> {
    const known = this.all.slice(from).find(isIt);
    return known ?? new Promise((resolve) => this.#waiting.push({ isIt, resolve }));
  }
}

const ROUTED = new Set(["message", "knock", "knock_accept", "knock_reject"]);

/**
 * The relay: no answer to a connect, ids known once for all senders, a live frame never stored, stored ones given again until
 * they are acked, an error for what it does not know.
 */
export class ReferenceRelay {
  /** Frames that were routed or stored, as they left here. */
  readonly passed = new Happenings<Frame>();
  readonly #sockets = new Map<string, WebSocket>();
  readonly #stored = new Map<string, Frame[]>();
  readonly #seen = new Set<string>();
  /** What is lost on its way to a live recipient. */
  loses: (frame: Frame) => boolean = () => false;
  /** Ids of frames that were acked, with who did. */
  readonly acked = new Happenings<{ readonly by: string; readonly id: string }>();

  connected(socket: WebSocket): void {
    let self: string | undefined;
    socket.on("message", (data) => {
      const frame: Frame = JSON.parse(String(data));
      if (self !== undefined) this.#received(self, socket, frame);
      else self = this.#connect(socket, frame);
    });
    socket.on("close", () => {
      if (self !== undefined && this.#sockets.get(self) === socket) this.#sockets.delete(self);
    });
  }

  #connect(socket: WebSocket, frame: Frame): string | undefined {
    const refuse = (code: number) => void socket.close(code);
    if (frame.type !== "connect") return refuse(4001) as undefined;
    if (frame.from === undefined) return refuse(4002) as undefined;
    const { public_key: key, timestamp, signature } = frame;
    // Proof of possession is asked of whoever shows a key.
    if (typeof key === "string") {
      const bytes = base64.decode(key);
      const proof = base64.decode(String(signature));
      if (didOf(bytes) !== frame.from || !verify(bytes, utf8.encode(String(timestamp)), proof))
        return refuse(4005) as undefined;
    }
    this.#sockets.get(frame.from)?.close(4006);
    this.#sockets.set(frame.from, socket);
    for (const stored of this.#stored.get(frame.from) ?? []) socket.send(JSON.stringify(stored));
    return frame.from;
  }

  #received(self: string, socket: WebSocket, frame: Frame): void {
    if (frame.type === "ack" && frame.id !== undefined) {
      this.acked.add({ by: self, id: frame.id });
      this.#stored.set(
        self,
        (this.#stored.get(self) ?? []).filter(({ id }) => id !== frame.id),
      );
      return;
    }
    if (frame.type === "heartbeat" || frame.type === "disconnect") return;
    if (!ROUTED.has(frame.type)) {
      socket.send(JSON.stringify({ type: "error", detail: `Unknown frame type: ${frame.type}` }));
      return;
    }
    if ((frame.from ?? self) !== self || frame.to === undefined || frame.id === undefined || this.#seen.has(frame.id))
      return;
    this.#seen.add(frame.id);
    this.deliver({ ...frame, from: self });
  }

  /** Gives a frame to its recipient as if it had come from its sender. */
  deliver(frame: Frame): void {
    this.passed.add(frame);
    const to = frame.to ?? "";
    const socket = this.#sockets.get(to);
    if (!socket) this.#stored.set(to, [...(this.#stored.get(to) ?? []), frame]);
    else if (!this.loses(frame)) socket.send(JSON.stringify(frame));
  }

  /** The connection of an agent breaks. */
  cut(name: string): void {
    this.#sockets.get(name)?.terminate();
    this.#sockets.delete(name);
  }

  isOnline(name: string): boolean {
    return this.#sockets.has(name);
  }
}

interface Record {
  readonly did: string;
  readonly public_key: string;
  readonly capabilities: readonly string[];
  readonly metadata: object;
  last_seen: string;
  prekeys?: { one_time_pre_keys: unknown[]; [field: string]: unknown };
}

/** The registry: names are capabilities, and nobody owns one. */
export class ReferenceRegistry {
  readonly #agents = new Map<string, Record>();
  /** Whether it answers. */
  up = true;
  /** Requests that it took, by method and path. */
  readonly asked = new Happenings<string>();

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString("utf8");
    const { pathname, searchParams } = new URL(request.url ?? "", "http://registry");
    this.asked.add(`${request.method} ${pathname}`);
    const [status, body] = this.up
      ? this.#reply(request, pathname, searchParams, (text === "" ? {} : JSON.parse(text)) as never)
      : [503, {}];
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  }

  #reply(request: IncomingMessage, path: string, query: URLSearchParams, body: never): [number, object] {
    const [, , place, encoded = "", part] = path.split("/");
    const did = decodeURIComponent(encoded);
    if (place === "discover") return [200, this.#discover(query.get("capability"))];
    if (request.method === "POST" && encoded === "") return this.#register(body);
    const agent = this.#agents.get(did);
    if (!agent) return [404, { detail: "not found" }];
    const { prekeys, ...record } = agent;
    if (part === undefined) return [200, record];
    if (part !== "prekeys") return [404, { detail: "not found" }];
    if (request.method === "PUT") {
      if (!this.#isAuthorized(request, agent)) return [401, { detail: "unauthorized" }];
      agent.prekeys = body;
      return [200, {}];
    }
    if (!prekeys) return [404, { detail: "no prekeys" }];
    const { one_time_pre_keys: oneTime, ...bundle } = prekeys;
    return [200, { ...bundle, one_time_pre_key: oneTime.shift() ?? null }];
  }

  #register(body: { public_key: string; capabilities: string[]; metadata: object }): [number, object] {
    const did = didOf(base64url.decode(body.public_key));
    this.#agents.set(did, { ...this.#agents.get(did), ...body, did, last_seen: new Date().toISOString() });
    return [201, { did, status: "active" }];
  }

  #isAuthorized({ headers }: IncomingMessage, { did, public_key }: Record): boolean {
    const [, name, time = "", signature = ""] = (headers.authorization ?? "").split(" ");
    return name === did && verify(base64url.decode(public_key), utf8.encode(time), base64url.decode(signature));
  }

  #discover(capability: string | null) {
    const found = [...this.#agents.values()].filter(
      ({ capabilities }) => capability === null || capabilities.includes(capability),
    );
    const results = found.map(({ did, capabilities, last_seen }) => ({
      did,
      capabilities,
      reputation_score: 0.5,
      last_seen,
    }));
    return { results, total: results.length };
  }
}

/** Where a relay and a registry are, whichever they are. */
export interface Places {
  readonly relayUrl: string;
  readonly registryUrl: string;
}

export interface Servers extends Places {
  readonly relay: ReferenceRelay;
  readonly registry: ReferenceRegistry;
}

/** Both on one port of this machine, until the test ends. */
export async function openServers(): Promise<Servers> {
  const relay = new ReferenceRelay();
  const registry = new ReferenceRegistry();
  const server = createServer((request, response) => void registry.answer(request, response));
  const sockets = new WebSocketServer({ server, path: "/ws", maxPayload: 16 * 1024 * 1024 });
  sockets.on("connection", (socket) => relay.connected(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  atTheEnd(async () => {
    for (const socket of sockets.clients) socket.terminate();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  return { relay, registry, relayUrl: `ws://127.0.0.1:${port}`, registryUrl: `http://127.0.0.1:${port}` };
}

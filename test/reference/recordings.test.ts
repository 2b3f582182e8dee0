/** What was recorded of the reference programs: this project understands all of it, and the stand-ins say the same. */
import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { z } from "zod";
import { Link } from "../../src/actors/link.ts";
import { realPorts, type SocketEvents } from "../../src/actors/ports.ts";
import { ActorSystem } from "../../src/actors/system.ts";
import { admission } from "../../src/cluster/admission.ts";
import { readAuthorization } from "../../src/cluster/proof.ts";
import { identityFromSeed } from "../../src/crypto/index.ts";
import { linkDefinition } from "../../src/machines/link/machine.ts";
import { Ack, Envelope } from "../../src/wire/frame.ts";
import {
  AgentRecord,
  DiscoverResponse,
  PreKeysResponse,
  PreKeysUpload,
  RegisterRequest,
  RegistryRefusal,
} from "../../src/wire/registry.ts";
import { ManualClock } from "../actors/systems.ts";
import { ReferenceClient } from "./client.ts";
import { MANNERS } from "./manners.ts";
import {
  type FrameLine,
  type HttpLine,
  isClose,
  isFrame,
  isHttp,
  linesOf,
  present,
  RECORDINGS,
  type Recording,
  timeIn,
} from "./recordings.ts";
import type { Frame } from "./relay.ts";
import { openServers, type Places } from "./servers.ts";

const recorded = describe.skipIf(!present());
const framesOf = (name: Recording, from: "client" | "relay", ws?: string): FrameLine[] =>
  linesOf(name)
    .filter(isFrame)
    .filter((line) => line.from === from && (ws === undefined || line.ws === ws));

recorded.each(RECORDINGS)("%s: this project understands", (name) => {
  /** The DID of each connection that said one. */
  const dids = new Map(
    framesOf(name, "client").flatMap(({ ws, frame }) => {
      const did = frame === "not json" ? undefined : JSON.parse(frame).from;
      return typeof did === "string" ? [[ws, did]] : [];
    }),
  );

  it("every frame of the relay, as a client", () => {
    for (const [ws, did] of dids) {
      const said = framesOf(name, "relay", ws);
      const { link, notes, frames } = heard(did, said);
      const errors = said.flatMap(({ frame }) => ErrorFrame.safeParse(JSON.parse(frame)).data?.detail ?? []);
      const [unknown, refusals] = partition(errors, (detail) => detail.startsWith("Unknown frame type"));
      expect([link.malformed, link.online, frames]).toEqual([0, unknown.length > 0, said.length - errors.length]);
      expect(notes).toEqual(refusals.map((detail) => expect.stringContaining(detail)));
    }
  });

  it("every frame of a client that the relay took, as a relay, and refuses what it refused", () => {
    const taken = new Set(framesOf(name, "relay").flatMap(({ frame }) => JSON.parse(frame).id ?? []));
    const closes = linesOf(name).filter(isClose);
    let now = 0;
    const met = new Set<string>();
    for (const { ws, frame } of framesOf(name, "client")) {
      const json: unknown = frame === "not json" ? undefined : JSON.parse(frame);
      now = Math.max(now, timeIn({ ws, frame, from: "client" }));
      if (!met.has(ws)) {
        met.add(ws);
        const found = admission(json, { now, token: undefined, admitsUnproven: false });
        const refused = closes.find((close) => close.ws === ws && close.from === "relay" && close.close >= 4001);
        const isRefused = refused !== undefined && refused.close <= 4005;
        // The reference ends a connection whose first frame is no JSON without saying why.
        if (json !== undefined)
          expect("code" in found ? found.code : undefined).toBe(isRefused ? refused.close : undefined);
        continue;
      }
      const { type, id } = json as Frame;
      if (type === "ack") expect(Ack.safeParse(json).success).toBe(true);
      else if (taken.has(id)) expect(Envelope.safeParse(json).success).toBe(true);
    }
  });

  it("every answer of the registry, as a client, and every good request, as a registry", () => {
    for (const { http, authorization, request, status, response } of linesOf(name).filter(isHttp)) {
      if (authorization !== undefined) expect(readAuthorization(authorization)).toBeDefined();
      const json: unknown = response === "" ? undefined : JSON.parse(response);
      const body: unknown = request === undefined ? undefined : JSON.parse(request);
      if (status >= 400) expect(RegistryRefusal.safeParse(json).success).toBe(true);
      else if (http === "POST /v1/agents") expect(RegisterRequest.safeParse(body).success).toBe(true);
      else if (/^PUT .*\/prekeys$/.test(http)) expect(PreKeysUpload.safeParse(body).success).toBe(true);
      else if (/^GET .*\/prekeys$/.test(http)) expect(PreKeysResponse.safeParse(json).success).toBe(true);
      else if (/^GET \/v1\/agents\/[^/]*$/.test(http)) expect(AgentRecord.safeParse(json).success).toBe(true);
      else if (http.startsWith("GET /v1/discover"))
        expect(DiscoverResponse.parse(json).results).toHaveLength(Number((json as { total: number }).total));
    }
  });
});

const ErrorFrame = z.object({ type: z.literal("error"), detail: z.string() });
const partition = <T>(all: readonly T[], isFirst: (one: T) => boolean) =>
  [all.filter(isFirst), all.filter((one) => !isFirst(one))] as const;

/** A link of one agent, to which a relay says this. */
function heard(did: string, said: readonly FrameLine[]) {
  const notes: string[] = [];
  let frames = 0;
  let relay: SocketEvents | undefined;
  const socket = { send: () => undefined, ping: () => undefined, buffered: 0, close: () => undefined };
  const ports = realPorts({
    dial: (_, events) => {
      relay = events;
      return socket;
    },
    fetch: () => Promise.reject(new TypeError("fetch failed")),
  });
  const clock = new ManualClock();
  const onFault = (error: unknown) => {
    throw error;
  };
  const system = new ActorSystem({ definitions: [linkDefinition], projections: [], clock, onFault });
  const link = new Link({
    system,
    ports: { ...ports, clock },
    identity: () => ({ ...identityFromSeed(new Uint8Array(32)), did }),
    onFrame: () => frames++,
    onPlain: () => frames++,
    onUp: () => undefined,
    onNote: (note) => notes.push(note),
  });
  system.start();
  link.connect("ws://relay");
  relay?.opened();
  for (const { frame } of said) relay?.received(frame);
  return { link, notes, frames };
}

/** One of the recorded connections, made again. */
class Replayed {
  readonly #socket: WebSocket;
  readonly #came: string[] = [];
  #waiting: ((text: string) => void) | undefined;
  readonly ended: Promise<readonly [code: number, reason: string]>;
  /** Whether this side closed first: then the other's code says nothing. */
  hasClosed = false;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    this.ended = once(socket, "close").then(([code, reason]) => [code, String(reason)] as const);
    socket.on("message", (data) => {
      this.#came.push(String(data));
      this.#give();
    });
  }

  static async open({ relayUrl }: Places): Promise<Replayed> {
    const socket = new WebSocket(`${relayUrl}/ws`);
    await once(socket, "open");
    return new Replayed(socket);
  }

  #give(): void {
    const [text] = this.#came;
    if (text === undefined || !this.#waiting) return;
    this.#came.shift();
    this.#waiting(text);
    this.#waiting = undefined;
  }

  async next(): Promise<string> {
    const text = new Promise<string>((resolve) => {
      this.#waiting = resolve;
    });
    this.#give();
    return text;
  }

  /** What came and nobody took. */
  get left(): readonly string[] {
    return this.#came;
  }

  say(frame: string): void {
    this.#socket.send(frame);
  }

  /** Resolves when the other side has read all that was said. */
  async read(): Promise<void> {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    const read = Promise.race([once(this.#socket, "pong"), this.ended]);
    this.#socket.ping();
    await read;
  }

  async close(code: number): Promise<void> {
    this.hasClosed = true;
    if (code === 1006) this.#socket.terminate();
    else if (code === 1005) this.#socket.close();
    else this.#socket.close(code);
    await this.ended;
  }
}

const TIME = /\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}\+00:00/g;
/** The registry's times are of its own clock, and of the moment. */
const timeless = (text: string) => text.replaceAll(TIME, "<microseconds>");

async function asked({ registryUrl }: Places, { http, authorization, request }: HttpLine) {
  const [method = "", path = ""] = http.split(" ");
  const response = await fetch(registryUrl + path, {
    method,
    headers: {
      ...(request === undefined ? {} : { "content-type": "application/json" }),
      ...(authorization === undefined ? {} : { authorization }),
    },
    ...(request === undefined ? {} : { body: request }),
  });
  const type = response.headers.get("content-type");
  return { status: response.status, type, response: timeless(await response.text()) };
}

recorded.each(RECORDINGS)("%s: the stand-ins say, byte for byte", (name) => {
  it("what the relay and the registry said to these clients", async () => {
    const lines = linesOf(name);
    const clock = new ManualClock(0);
    const servers = await openServers({ clock });
    // Somebody had registered before the recording began.
    const did = "did:mesh:9d3d4b537bb139b7abcc1a834b6379a0";
    servers.registry.plant({ did, capabilities: ["chat", "bob"], lastSeen: "2026-11-30T14:05:22.385918+00:00" });
    const connections = new Map<string, Replayed>();
    for (const line of lines) {
      clock.time = Math.max(clock.time, timeIn(line));
      if (isHttp(line)) {
        const { status, type, response } = line;
        expect(await asked(servers, line)).toEqual({ status, type, response: timeless(response) });
        continue;
      }
      const connection = connections.get(line.ws) ?? (await Replayed.open(servers));
      connections.set(line.ws, connection);
      if (isFrame(line) && line.from === "client") {
        connection.say(line.frame);
        await connection.read();
      } else if (isFrame(line)) expect(await connection.next()).toBe(line.frame);
      else if (line.from === "client") await connection.close(line.close);
      else if (!connection.hasClosed) expect(await connection.ended).toEqual([line.close, line.reason]);
    }
    for (const [ws, { left }] of connections) expect([ws, left]).toEqual([ws, []]);
  });
});

const KEYS: Readonly<Record<number, string>> = { 32: "<32 bytes>", 64: "<64 bytes>" };

/** What a text says when names, times and keys are taken out of it: all else stays, every space among it. */
function shapeOf(text: string): string {
  const names = new Map<string, string>();
  const named = (kind: string) => (found: string) => {
    const name = names.get(found) ?? `<${kind} ${names.size}>`;
    names.set(found, name);
    return name;
  };
  return text
    .replaceAll(/did(?::|%3A)mesh(?::|%3A)[0-9a-f]{32}/g, named("did"))
    .replaceAll(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, named("uuid"))
    .replaceAll(/\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z/g, "<time>")
    .replaceAll(/("ciphertext": ?)"[^"]*"/g, '$1"<sealed>"')
    .replaceAll(
      /(?<=[" ])[A-Za-z0-9+/_-]{43,86}={0,2}(?=["$]|$)/g,
      (found) => KEYS[Buffer.from(found, "base64").length] ?? found,
    );
}

const shapesOf = (requests: readonly Pick<HttpLine, "http" | "authorization" | "request">[]) =>
  requests.map(({ http, authorization = "", request = "" }) => [http, authorization, request].map(shapeOf));

/** The frames of one client in a recording, which may have connected more than once. */
const recordedFrames = (name: Recording, ...connections: readonly string[]) =>
  connections.flatMap((ws) => framesOf(name, "client", ws)).map(({ frame }) => shapeOf(frame));
const framesBy = (client: ReferenceClient, manner: keyof typeof MANNERS) =>
  client.sent.all.map((frame) => shapeOf(MANNERS[manner].write(frame)));

recorded("the stand-in of the clients speaks as", () => {
  it("two TypeScript clients did, frame by frame and request by request", async () => {
    const name = "typescript-client-to-typescript-client.jsonl";
    const servers = await openServers();
    const clock = new ManualClock(Date.now());
    const alice = await ReferenceClient.open(servers, { name: "refts-fa8c56be", oneTimePreKeys: 2, clock });
    const bob = await ReferenceClient.open(servers, { name: "refts-e9a871bc", oneTimePreKeys: 2 });
    await alice.say(bob.did, { content: "one" });
    const second = await alice.say(bob.did, { content: "two" });
    await bob.heard.first(({ id }) => id === second);
    await bob.say(alice.did, { content: "one back" });
    await alice.heard.first(() => true);
    const last = await alice.say(bob.did, { content: "three" });
    await bob.heard.first(({ id }) => id === last);
    clock.pass(30_000);
    await alice.close();
    await bob.close();
    expect(framesBy(alice, "typescript")).toEqual(recordedFrames(name, "connection 1"));
    expect(framesBy(bob, "typescript")).toEqual(recordedFrames(name, "connection 2"));
    expect(shapesOf(servers.registry.asked.all)).toEqual(shapesOf(linesOf(name).filter(isHttp)));
    expect([...alice.problems.all, ...bob.problems.all]).toEqual([]);
  });

  it("a Python client and a TypeScript client did", async () => {
    const name = "python-client-with-typescript-client.jsonl";
    const servers = await openServers();
    const worker = await ReferenceClient.open(servers, { manner: "python", name: "py-worker" });
    const laptop = await ReferenceClient.open(servers, { name: "ts-laptop", oneTimePreKeys: 2 });
    await laptop.say(worker.did, { content: "do" });
    await worker.heard.first(() => true);
    await worker.say(laptop.did, { content: "doing" });
    const said = await worker.say(laptop.did, "bare");
    await laptop.heard.first(({ id }) => id === said);
    const more = await laptop.say(worker.did, { content: "more" });
    await worker.heard.first(({ id }) => id === more);
    await worker.close();
    const away = await laptop.say(worker.did, { content: "while you are away" });
    await worker.reconnect();
    await worker.heard.first(({ id }) => id === away);
    expect(servers.relay.waiting(worker.did)).toEqual([away]);
    const [found = ""] = await worker.find("ts-laptop");
    expect(found).toBe(laptop.did);
    const last = await worker.say(found, "by name");
    await laptop.heard.first(({ id }) => id === last);
    await laptop.close();
    expect(framesBy(worker, "python")).toEqual(recordedFrames(name, "connection 3", "connection 5"));
    expect(framesBy(laptop, "typescript")).toEqual(recordedFrames(name, "connection 4"));
    expect(shapesOf(servers.registry.asked.all)).toEqual(shapesOf(linesOf(name).filter(isHttp)));
    expect(laptop.heard.all.map(({ payload }) => payload)).toEqual(['{"content": "doing"}', "bare", "by name"]);
    expect([...worker.problems.all, ...laptop.problems.all]).toEqual([]);
  });
});

/**
 * A deployed kars cluster as it is known to behave: its controller, a plain WebSocket client that speaks plaintext, and its
 * sandboxes. Of ours runs in the sandboxes alone, for what is sealed: a node that announces nothing and knocks as plain clients do.
 */
import { hash, randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { WebSocket } from "ws";
import { realNetwork } from "../../src/actors/network.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { realPorts } from "../../src/actors/ports.ts";
import type { Work } from "../../src/actors/work.ts";
import { amidOf, base64, type Identity, identityFromSeed, sign, utf8 } from "../../src/crypto/index.ts";
import type { Payload } from "../../src/wire/payload.ts";
import { openNode, plain } from "../actors/world.ts";
import { atTheEnd } from "../ending.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { type Frame, Happenings, type Places } from "./servers.ts";

export type Words = Readonly<{ [field: string]: unknown; type: string }>;

/** A pairing record. */
export interface Record {
  phase: "PendingPairing" | "Active" | "Expired" | "Revoked";
  readonly capabilities: readonly string[];
  readonly slotsMax: number;
  slotsUsed: number;
  boundAmid: string | null;
  /** Who was bound, as the relay names it. */
  bound: string | null;
}

export interface Build {
  /** Under which name it connects: by its DID, with a proof, or, as an old build, by its AMID, without one. */
  readonly as?: "did" | "amid";
  /** What it writes: `payload` alone, or `ciphertext` and `plaintext` too. */
  readonly forms?: "payload" | "both";
  /** What its tokens name. */
  readonly tokens?: "did" | "amid";
}

/** Only a pending record is bound. */
const REFUSALS: Readonly<{ [phase: string]: string }> = {
  None: "invalid pairing token",
  Expired: "pairing token has expired",
  Revoked: "pairing has been revoked",
  Active: "pairing token already consumed",
};

function refusalOf(record: Record | undefined): string | undefined {
  if (!record) return "laptop is not paired";
  if (record.phase === "Expired") return "pairing has expired";
  if (record.phase !== "Active") return "pairing is not active";
  if (!record.capabilities.includes("offload")) return "capability 'offload' is not granted";
  if (record.slotsUsed >= record.slotsMax) return `no free slots (${record.slotsUsed}/${record.slotsMax})`;
  return undefined;
}

export class Controller {
  readonly identity: Identity;
  readonly name: string;
  readonly servers: Places;
  readonly records = new Map<string, Record>();
  /** What laptops said to it, in order. */
  readonly heard = new Happenings<Words & { readonly from: string; readonly frame: string }>();
  /** What becomes of a request that is let in: it says so by itself. */
  spawns: (request: Words, laptop: string) => void = () => undefined;
  /** Whether something is wrong inside of it. */
  breaks = false;
  /** Whether it answers at all. */
  answers: (words: Words) => boolean = () => true;
  readonly #build: Required<Build>;
  #socket: WebSocket | undefined;

  constructor(servers: Places, build: Build = {}, seed: Uint8Array = randomBytes(32)) {
    this.identity = identityFromSeed(new Uint8Array(seed));
    this.servers = servers;
    this.#build = { as: "did", forms: "both", tokens: "amid", ...build };
    this.name = this.#build.as === "did" ? this.identity.did : amidOf(this.identity.publicKey);
  }

  /** Connects; what waited at the relay comes then. */
  async open(): Promise<this> {
    const socket = new WebSocket(`${this.servers.relayUrl}/ws`);
    this.#socket = socket;
    atTheEnd(() => socket.terminate());
    socket.on("message", (data) => this.#received(JSON.parse(String(data))));
    await once(socket, "open");
    const timestamp = new Date().toISOString();
    const proof = {
      public_key: base64.encode(this.identity.publicKey),
      timestamp,
      signature: base64.encode(sign(this.identity, utf8.encode(timestamp))),
    };
    socket.send(JSON.stringify({ type: "connect", from: this.name, ...(this.#build.as === "did" && proof) }));
    // A relay says nothing to a connect; of a frame that it does not know it says so.
    const answered = once(socket, "message");
    socket.send(JSON.stringify({ type: "fetch_pending", from: this.name }));
    await answered;
    return this;
  }

  async close(): Promise<void> {
    const ended = this.#socket && once(this.#socket, "close");
    this.#socket?.close();
    await ended;
  }

  /** `pair generate`: a token. */
  issue(record: Partial<Record> = {}, body: object = {}): string {
    const secret = randomBytes(24).toString("base64url");
    this.records.set(hash("sha256", secret, "hex"), {
      phase: "PendingPairing",
      capabilities: ["offload"],
      slotsMax: 2,
      slotsUsed: 0,
      boundAmid: null,
      bound: null,
      ...record,
    });
    const token = {
      controller_amid: this.#build.tokens === "did" ? this.identity.did : amidOf(this.identity.publicKey),
      relay_url: this.servers.relayUrl,
      registry_url: this.servers.registryUrl,
      secret,
      ...body,
    };
    return `azcp_1_${Buffer.from(JSON.stringify(token)).toString("base64url")}`;
  }

  /** Words to a laptop, in the forms of this build; gives the id of their frame. */
  say(to: string, words: object, more: object = {}): string {
    const { forms } = this.#build;
    const id = randomUUID();
    const payload = Buffer.from(JSON.stringify(words)).toString("base64");
    const frame = {
      type: "message",
      to,
      from: this.name,
      id,
      payload,
      ...(forms === "both" && { ciphertext: payload, plaintext: true }),
      ...more,
    };
    this.#socket?.send(JSON.stringify(frame));
    return id;
  }

  #received(frame: Frame): void {
    if (frame.type !== "message" || typeof frame.payload !== "string") return;
    this.#socket?.send(JSON.stringify({ type: "ack", id: frame.id }));
    const words: Words = JSON.parse(Buffer.from(frame.payload, "base64").toString("utf8"));
    const from = frame.from ?? "";
    this.heard.add({ ...words, from, frame: frame.id ?? "" });
    if (!this.answers(words)) return;
    if (words.type === "pair_request") this.#pair(from, words);
    if (words.type === "offload_request") this.#offload(from, words);
    // A clean-up frees the slot and is not answered.
    if (words.type === "offload_cleanup") this.#free(from);
  }

  #free(from: string): void {
    for (const record of this.records.values())
      if (record.bound === from) record.slotsUsed = Math.max(0, record.slotsUsed - 1);
  }

  #pair(from: string, { secret, pubkey_ed25519 }: Words): void {
    const record = this.records.get(hash("sha256", String(secret), "hex"));
    const error = this.breaks ? "internal error: the record could not be updated" : REFUSALS[record?.phase ?? "None"];
    if (!record || error !== undefined) {
      this.say(from, { type: "pair_response", success: false, error });
      return;
    }
    record.phase = "Active";
    record.bound = from;
    record.boundAmid = amidOf(base64.decode(String(pubkey_ed25519)));
    this.say(from, {
      type: "pair_response",
      success: true,
      cluster_name: "prod/kars 1",
      controller_amid: amidOf(this.identity.publicKey),
      capabilities_granted: record.capabilities,
      slots: record.slotsMax,
      token_budget: 100_000,
      expires_at: "2027-01-01T00:00:00Z",
    });
  }

  #offload(from: string, request: Words): void {
    const { request_id } = request;
    const status = (phase: string, more: object = {}) =>
      this.say(from, { type: "offload_status", request_id, phase, message: phase, ...more });
    const record = [...this.records.values()].find(({ bound }) => bound === from);
    const error = refusalOf(record);
    if (!record || error !== undefined) {
      this.say(from, { type: "offload_error", request_id, error, phase: "validating" });
      return;
    }
    record.slotsUsed++;
    for (const phase of ["validating", "spawning", "scheduled"]) status(phase);
    this.spawns(request, from);
  }

  /** The sandbox is up: its name is all that is said of it. */
  ready(laptop: string, request_id: unknown, sandbox_name: string): void {
    this.say(laptop, { type: "offload_status", request_id, phase: "ready", message: "ready", sandbox_name });
  }
}

/** Something is said sealed, as it stands: whatever it is. */
export async function sayRaw(node: MeshNode, to: string, value: unknown, id: string = randomUUID()): Promise<void> {
  const { body, size, secrets, before } = node.core.bodies.seal(to, JSON.stringify(value));
  const event = { type: "SEND", id, kind: "work", body, size };
  await node.core.system.commit([{ stream: `conversation/${to}`, event }], { secrets, before }).durable;
}

const CHUNK = 512 * 1024;

/** A payload in chunks. */
export function chunksOf(payload: Words, transfer_id: string = randomUUID()): { manifest: Words; chunks: Words[] } {
  const bytes = Buffer.from(JSON.stringify(payload));
  const slices = Array.from({ length: Math.ceil(bytes.length / CHUNK) }, (_, index) =>
    bytes.subarray(index * CHUNK, (index + 1) * CHUNK),
  );
  const hashes = slices.map((slice) => hash("sha256", slice, "hex"));
  const total_chunks = slices.length;
  return {
    manifest: {
      type: "mesh:transfer_manifest",
      transfer_id,
      original_type: payload.type,
      total_chunks,
      total_bytes: bytes.length,
      chunk_hashes: hashes,
      manifest_hash: hash("sha256", hashes.join(":"), "hex"),
    },
    chunks: slices.map((slice, chunk_index) => ({
      type: "mesh:transfer_chunk",
      transfer_id,
      chunk_index,
      total_chunks,
      data: slice.toString("base64"),
      hash: hashes[chunk_index],
    })),
  };
}

export const fileTransfer = (name: string, bytes: Buffer): Words => ({
  type: "file_transfer",
  file_name: name,
  file_path: `/sandbox/out/${name}`,
  file_data: bytes.toString("base64"),
  size_bytes: bytes.length,
  description: "a result",
  from_agent: "sandbox",
  timestamp: new Date().toISOString(),
});

/** An agent of the cluster, or one that would like to be taken for it. */
export class Agent {
  readonly node: MeshNode;
  /** What it was told, sealed. */
  readonly heard = new Happenings<Payload & { readonly from: string }>();

  private constructor(node: MeshNode) {
    this.node = node;
  }

  /**
   * @param answers what it says to what it is told
   * @param seed of its identity
   */
  static async open(
    { relayUrl, registryUrl }: Places,
    name: string,
    answers: (payload: Payload) => readonly unknown[] = () => [],
    seed?: Uint8Array,
  ): Promise<Agent> {
    const onWork = async ({ peer, payload }: Work) => {
      agent.heard.add({ ...payload, from: peer });
      for (const word of answers(payload)) await agent.say(peer, word);
      return { entries: [], secrets: {} };
    };
    const home = join(await temporaryDirectory(), "agent");
    const ports = plain(realPorts(realNetwork));
    // The first 32 bytes that joining draws are its identity's.
    const drawn = seed && [seed];
    const random = (length: number) => (length === 32 && joining ? drawn?.pop() : undefined) ?? ports.random(length);
    let joining = false;
    const node = await openNode({ home, ports: { ...ports, random }, onWork });
    const agent = new Agent(node);
    node.start();
    joining = true;
    await node.membership.join({
      controller: null,
      cluster: "kars",
      relayUrl,
      registryUrl,
      name,
      capabilities: ["sandbox"],
    });
    return agent;
  }

  get did(): string {
    return this.node.core.keyring.identity.did;
  }

  async say(to: string, ...values: readonly unknown[]): Promise<void> {
    for (const value of values) await sayRaw(this.node, to, value);
  }

  hello(request_id: unknown): Words {
    return {
      type: "offload_hello",
      request_id,
      from_agent: "sandbox",
      task_preview: "a task",
      started_at: new Date().toISOString(),
      message: "hello",
    };
  }
}

export const progress = (request_id: unknown, pct: number): Words => ({
  type: "offload_progress",
  request_id,
  stage: "running",
  pct,
  message: `${pct} percent`,
  elapsed_seconds: 20,
});

export const done = (request_id: unknown, output_files: readonly string[] = []): Words => ({
  type: "offload_done",
  request_id,
  summary: "all done",
  output_files,
  tokens_used: { prompt: 5, completion: 7 },
  duration_seconds: 3,
});

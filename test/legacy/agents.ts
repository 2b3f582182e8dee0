/**
 * Agents of a deployed cluster: a plain client (`../reference/client.ts`) and above it what the runtime of a sandbox does, which puts
 * payloads that come in chunks together. What they say is the vocabulary of the deployed sandboxes.
 */
import { hash, randomUUID } from "node:crypto";
import type { MeshNode } from "../../src/actors/node.ts";
import { type Payload, type PayloadOf, parsePayload } from "../../src/wire/payload.ts";
import { ReferenceClient } from "../reference/client.ts";
import type { Words } from "../reference/controller.ts";
import { Happenings } from "../reference/happenings.ts";
import type { MANNERS } from "../reference/manners.ts";
import type { Places } from "../reference/servers.ts";

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

const CHUNK = 512 * 1024;

/** A payload in chunks, as deployed agents cut it: slices of its JSON text, counted in UTF-16 code units. */
export function chunksOf(payload: Words, transfer_id: string = randomUUID()): { manifest: Words; chunks: Words[] } {
  const text = JSON.stringify(payload);
  const slices = Array.from({ length: Math.ceil(text.length / CHUNK) }, (_, index) =>
    text.slice(index * CHUNK, (index + 1) * CHUNK),
  );
  const hashes = slices.map((slice) => hash("sha256", slice, "hex"));
  const total_chunks = slices.length;
  return {
    manifest: {
      type: "mesh:transfer_manifest",
      transfer_id,
      original_type: payload.type,
      total_chunks,
      total_bytes: text.length,
      chunk_hashes: hashes,
      manifest_hash: hash("sha256", hashes.join(":"), "hex"),
      from_agent: "sandbox",
      timestamp: new Date().toISOString(),
    },
    chunks: slices.map((data, chunk_index) => ({
      type: "mesh:transfer_chunk",
      transfer_id,
      chunk_index,
      total_chunks,
      data,
      hash: hashes[chunk_index],
      from_agent: "sandbox",
    })),
  };
}

/** Something is said sealed by one of our nodes, as it stands: whatever it is. */
export async function sayRaw(node: MeshNode, to: string, value: unknown, id: string = randomUUID()): Promise<void> {
  const { body, size, secrets, before } = node.core.bodies.seal(to, JSON.stringify(value));
  const event = { type: "SEND", id, kind: "work", body, size };
  await node.core.system.commit([{ stream: `conversation/${to}`, event }], { secrets, before }).durable;
}

/** A payload that comes in chunks. */
class Transfer {
  #manifest: PayloadOf<"mesh:transfer_manifest"> | undefined;
  readonly #chunks = new Map<number, string>();

  add(part: PayloadOf<"mesh:transfer_manifest"> | PayloadOf<"mesh:transfer_chunk">): void {
    if (part.type === "mesh:transfer_manifest") this.#manifest = part;
    else this.#chunks.set(part.chunk_index, part.data);
  }

  /** The payload, when all of it is there and as its manifest says. */
  get whole(): Payload | undefined {
    const { chunk_hashes = [] } = this.#manifest ?? {};
    const slices = chunk_hashes.map((_, index) => this.#chunks.get(index) ?? "");
    const isWhole =
      this.#manifest !== undefined &&
      slices.every((slice, index) => hash("sha256", slice, "hex") === chunk_hashes[index]);
    return isWhole ? parsePayload(slices.join("")) : undefined;
  }
}

export interface AgentOptions {
  /** What it says to what it is told. */
  readonly answers?: (payload: Payload) => readonly unknown[];
  /** Of its identity. */
  readonly seed?: Uint8Array;
  readonly manner?: keyof typeof MANNERS;
}

/** An agent of the cluster, or one that would like to be taken for it. */
export class Agent {
  readonly client: ReferenceClient;
  /** What it was told, sealed. */
  readonly heard = new Happenings<Payload & { readonly from: string }>();
  readonly #transfers = new Map<string, Transfer>();

  private constructor(client: ReferenceClient) {
    this.client = client;
  }

  static async open(
    places: Places,
    name: string,
    { answers = () => [], seed, manner = "typescript" }: AgentOptions = {},
  ): Promise<Agent> {
    const client = await ReferenceClient.open(places, {
      name,
      manner,
      capabilities: ["sandbox"],
      ...(seed && { seed }),
      onMessage: ({ from, payload }) => {
        const told = agent.#told(payload);
        if (!told) return;
        agent.heard.add({ ...told, from });
        for (const word of answers(told)) void agent.say(from, word);
      },
    });
    const agent = new Agent(client);
    return agent;
  }

  get did(): string {
    return this.client.did;
  }

  /** What a message says to the runtime; undefined when it is a part of something larger. */
  #told(said: unknown): Payload | undefined {
    const payload = parsePayload(JSON.stringify(said));
    if (payload?.type !== "mesh:transfer_manifest" && payload?.type !== "mesh:transfer_chunk") return payload;
    const transfer = this.#transfers.get(payload.transfer_id) ?? new Transfer();
    this.#transfers.set(payload.transfer_id, transfer);
    transfer.add(payload);
    return transfer.whole;
  }

  async say(to: string, ...values: readonly unknown[]): Promise<void> {
    for (const value of values) await this.client.say(to, value);
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

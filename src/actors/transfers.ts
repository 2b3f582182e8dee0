import { hash } from "node:crypto";
import { TRANSFERS_OPEN_MAX } from "../limits.ts";
import { type Payload, type PayloadOf, parsePayload } from "../wire/payload.ts";
import type { Bodies } from "./bodies.ts";
import type { BodyOf } from "./file-transfers.ts";

// Payloads that travel in parts. The parts stay in their conversation, unhandled, until all of them are there; what is kept
// here is only which of them belong together, and is found out again after a restart.

type Part = PayloadOf<"mesh:transfer_manifest" | "mesh:transfer_chunk">;

interface Parts {
  readonly ids: string[];
  manifest: PayloadOf<"mesh:transfer_manifest"> | undefined;
  readonly chunks: Map<number, string>;
}

/** A transfer that is at its end: the payload it carried, or undefined when it was broken, and the messages it came in. */
export interface Arrived {
  readonly id: string;
  readonly payload: Payload | undefined;
  readonly ids: readonly string[];
}

/** The transfers of one peer. */
export class Transfers {
  readonly #bodies: Bodies;
  readonly #peer: string;
  readonly #open = new Map<string, Parts>();
  readonly #seen = new Set<string>();

  constructor(bodies: Bodies, peer: string) {
    this.#bodies = bodies;
    this.#peer = peer;
  }

  /** Whether a part was taken before, and waits for the others. */
  has(id: string): boolean {
    return this.#seen.has(id);
  }

  /** Takes a part. Gives the transfer that it completes, or the one that it pushed out. */
  async take(id: string, payload: Part, bodyOf: BodyOf): Promise<Arrived | undefined> {
    this.#seen.add(id);
    const parts = this.#open.get(payload.transfer_id) ?? {
      ids: [],
      manifest: undefined,
      chunks: new Map<number, string>(),
    };
    this.#open.set(payload.transfer_id, parts);
    parts.ids.push(id);
    if (payload.type === "mesh:transfer_manifest") parts.manifest = payload;
    else parts.chunks.set(payload.chunk_index, id);
    const { manifest } = parts;
    if (manifest && parts.chunks.size >= manifest.total_chunks) {
      return this.#end(payload.transfer_id, parts, await this.#assemble(manifest, parts, bodyOf));
    }
    const [oldest] = this.#open;
    return oldest && this.#open.size > TRANSFERS_OPEN_MAX ? this.#end(...oldest, undefined) : undefined;
  }

  /** Whether parts wait for others. */
  get isWaiting(): boolean {
    return this.#open.size > 0;
  }

  /** Lets go of all that is not whole. Gives the messages that it came in. */
  giveUp(): string[] {
    return [...this.#open].flatMap(([id, parts]) => this.#end(id, parts, undefined).ids);
  }

  #end(id: string, { ids }: Parts, payload: Payload | undefined): Arrived {
    this.#open.delete(id);
    for (const part of ids) this.#seen.delete(part);
    return { id, payload, ids };
  }

  /** The payload, or undefined when a hash does not match. */
  async #assemble(
    manifest: PayloadOf<"mesh:transfer_manifest">,
    parts: Parts,
    bodyOf: BodyOf,
  ): Promise<Payload | undefined> {
    if (hash("sha256", manifest.chunk_hashes.join(":"), "hex") !== manifest.manifest_hash) return undefined;
    const slices: Buffer[] = [];
    for (const [index, expected] of manifest.chunk_hashes.entries()) {
      const body = bodyOf(parts.chunks.get(index) ?? "");
      const chunk = body && parsePayload(await this.#bodies.open(this.#peer, body));
      if (chunk?.type !== "mesh:transfer_chunk") return undefined;
      const slice = Buffer.from(chunk.data, "base64");
      if (hash("sha256", slice, "hex") !== expected) return undefined;
      slices.push(slice);
    }
    const whole = Buffer.concat(slices);
    return whole.length === manifest.total_bytes ? parsePayload(whole.toString("utf8")) : undefined;
  }
}

import { hash } from "node:crypto";
import { TRANSFERS_OPEN_MAX } from "../limits.ts";
import type { Body } from "../machines/definition.ts";
import { type Payload, type PayloadOf, parsePayload } from "../wire/payload.ts";
import type { Bodies } from "./bodies.ts";

// Payloads that travel in parts. The parts stay in their conversation, unhandled, until all of them are there; what is kept
// here is only which of them belong together, and is found out again after a restart.

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

  /** Takes a part, unless it was taken before. Gives the transfer that it completes, or the one that it pushed out. */
  async take(id: string, body: Body, bodyOf: (id: string) => Body | undefined): Promise<Arrived | undefined> {
    if (this.#seen.has(id)) return undefined;
    const payload = parsePayload(await this.#bodies.open(this.#peer, body));
    if (payload?.type !== "mesh:transfer_manifest" && payload?.type !== "mesh:transfer_chunk") {
      return { id, payload: undefined, ids: [id] };
    }
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

  #end(id: string, { ids }: Parts, payload: Payload | undefined): Arrived {
    this.#open.delete(id);
    for (const part of ids) this.#seen.delete(part);
    return { id, payload, ids };
  }

  /** The payload, or undefined when a hash does not match. */
  async #assemble(
    manifest: PayloadOf<"mesh:transfer_manifest">,
    parts: Parts,
    bodyOf: (id: string) => Body | undefined,
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

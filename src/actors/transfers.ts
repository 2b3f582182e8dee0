import { parsePayload } from "../wire/payload.ts";
import type { Bodies } from "./bodies.ts";
import { type Chunk, joinChunks, type Manifest } from "./chunks.ts";
import type { BodyOf } from "./file-transfers.ts";
import { TRANSFERS_ENDED_KEPT, TRANSFERS_OPEN_MAX } from "./limits.ts";

// Payloads that travel in parts. The parts stay in their conversation, unhandled, until all of them are there; what is kept
// here is only which of them belong together, and is found out again after a restart.

interface Parts {
  readonly ids: string[];
  manifest: Manifest | undefined;
  readonly chunks: Map<number, string>;
}

/** A transfer that has ended. */
export interface Ended {
  readonly id: string;
  /** The text of the transfer; undefined when parts are missing or do not match the manifest. */
  readonly text: string | undefined;
  /** The ids of the messages that carried it. */
  readonly ids: readonly string[];
  /** The facts from its manifest, and how many chunks came. */
  readonly about: {
    readonly transfer_id: string;
    readonly original_type?: string | undefined;
    readonly total_bytes?: number | undefined;
    readonly total_chunks?: number | undefined;
    readonly chunks_received: number;
  };
}

/** The transfers of one peer. */
export class Transfers {
  readonly #bodies: Bodies;
  readonly #peer: string;
  readonly #open = new Map<string, Parts>();
  readonly #seen = new Set<string>();
  /** Transfers that have ended, the oldest first. A part of theirs that comes again starts no new transfer. */
  readonly #ended = new Set<string>();

  constructor(bodies: Bodies, peer: string) {
    this.#bodies = bodies;
    this.#peer = peer;
  }

  /** Whether a part was taken before, and waits for the others. */
  has(id: string): boolean {
    return this.#seen.has(id);
  }

  /**
   * Takes a part. Returns the transfer that the part completes or displaces; `again` for a part that is here already, or of a transfer
   * that has ended.
   */
  async take(id: string, payload: Manifest | Chunk, bodyOf: BodyOf): Promise<Ended | "again" | undefined> {
    const known = this.#open.get(payload.transfer_id);
    const isHere = payload.type === "mesh:transfer_manifest" ? known?.manifest : known?.chunks.has(payload.chunk_index);
    // Kept, parts that are given again and again would grow without bound.
    if (isHere || this.#ended.has(payload.transfer_id)) return "again";
    this.#seen.add(id);
    const parts = known ?? {
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
      return this.#end(payload.transfer_id, parts, await this.#join(manifest, parts, bodyOf));
    }
    const [oldest] = this.#open;
    return oldest && this.#open.size > TRANSFERS_OPEN_MAX ? this.#end(...oldest, undefined) : undefined;
  }

  /** Whether parts wait for others. */
  get isWaiting(): boolean {
    return this.#open.size > 0;
  }

  /** Gives up all incomplete transfers. */
  giveUp(): Ended[] {
    return [...this.#open].map(([id, parts]) => this.#end(id, parts, undefined));
  }

  #end(id: string, { ids, manifest, chunks }: Parts, text: string | undefined): Ended {
    this.#open.delete(id);
    for (const part of ids) this.#seen.delete(part);
    this.#ended.add(id);
    const [oldest] = this.#ended.size > TRANSFERS_ENDED_KEPT ? this.#ended : [];
    if (oldest !== undefined) this.#ended.delete(oldest);
    const { original_type, total_bytes, total_chunks } = manifest ?? {};
    const about = { transfer_id: id, original_type, total_bytes, total_chunks, chunks_received: chunks.size };
    return { id, text, ids, about };
  }

  #join(manifest: Manifest, { chunks }: Parts, bodyOf: BodyOf): Promise<string | undefined> {
    return joinChunks(manifest, async (index) => {
      const body = bodyOf(chunks.get(index) ?? "");
      const chunk = body && parsePayload(await this.#bodies.open(this.#peer, body));
      return chunk?.type === "mesh:transfer_chunk" ? chunk : undefined;
    });
  }
}

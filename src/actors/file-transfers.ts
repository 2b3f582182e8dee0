import { createHash, type Hash, hash } from "node:crypto";
import { join as joinPath } from "node:path";
import { MeshError } from "../errors.ts";
import { FILE_CHUNKS_MAX, FILE_PULL_CHUNKS, FILE_PULLS_AHEAD } from "../limits.ts";
import type { Body } from "../machines/definition.ts";
import { release } from "../memory.ts";
import { type FileChunk, parseFileChunk } from "../wire/file-chunk.ts";
import type { PayloadInput, PayloadOf } from "../wire/payload.ts";
import { type Core, conversationOf } from "./core.ts";
import { compose, type Draft, entriesOnly, join } from "./drafts.ts";
import { isPassing, nameFile, PART, type SavedFile } from "./files.ts";
import type { Follow } from "./work.ts";

// Files that a peer offers and we pull. The pieces stay in their conversation, sealed and unhandled, until all of them are
// there; then they become a file, which gets its name when its hash is what was announced. Only so many are asked for as may
// be in memory, and of one file at a time. What is kept here is found out again after a restart.

export type Offer = PayloadOf<"mesh:file_offer">;

/** Whom the files concern that peers offer. */
export interface FileTaker {
  /** The directory for a file; or why it is refused; `over` when nothing awaits the file any more; undefined when nothing ever did. */
  place(
    peer: string,
    offer: Offer,
  ): Promise<{ readonly directory: string } | { readonly refused: MeshError } | "over" | undefined>;
  /** Whether it is still wanted. */
  wants(peer: string, offer: Offer): boolean;
  /** The names that are given in that directory. */
  names(peer: string, offer: Offer): Promise<ReadonlySet<string>>;
  /** What follows from so many of its bytes being here. */
  progressed(peer: string, offer: Offer, bytes: number): Draft;
  /** What follows from its being here; it may be asked again for the same file after a crash. */
  saved(peer: string, offer: Offer, file: SavedFile): Promise<Follow>;
  /** What follows from its never being here. */
  failed(peer: string, offer: Offer, problem: MeshError): Promise<Draft>;
}

interface Incoming {
  readonly offer: Offer;
  readonly total: number;
  readonly directory: string;
  /** The messages it came in: the offer's, and those of the pieces by their index. */
  readonly ids: string[];
  readonly pieces: Map<number, string>;
  /** How many pieces from the first are there without a gap, and how many were asked for. */
  whole: number;
  pulled: number | undefined;
}

/** How transfers get to their peer. */
export interface TransferWays {
  /** Pulls that may be under way now. */
  ahead(): number;
  /** Commits events of which some send. Resolves when they are durable. */
  commit(draft: Draft): Promise<void>;
}

/** How far ahead of what is there a piece may be that was asked for. */
const AHEAD = (FILE_PULLS_AHEAD + 1) * FILE_PULL_CHUNKS;

const ACK_ERROR_LENGTH = 1000;

/** The body of a message that is not handled yet. */
export type BodyOf = (id: string) => Body | undefined;

const step = (count: number) => count - (count % FILE_PULL_CHUNKS);

/** The files of one peer. */
export class FileTransfers {
  readonly #core: Core;
  readonly #peer: string;
  readonly #taker: FileTaker;
  readonly #ways: TransferWays;
  readonly #open = new Map<string, Incoming>();
  readonly #seen = new Set<string>();

  constructor(core: Core, peer: string, taker: FileTaker, ways: TransferWays) {
    this.#core = core;
    this.#peer = peer;
    this.#taker = taker;
    this.#ways = ways;
  }

  /** Whether pieces are to come. */
  get isPulling(): boolean {
    return this.#open.size > 0;
  }

  /** Whether a message was taken before, and waits for the pieces that are to come. */
  has(id: string): boolean {
    return this.#seen.has(id);
  }

  /** Takes an offer. Returns false, and does nothing, when nothing ever awaited that file. */
  async offered(id: string, offer: Offer): Promise<boolean> {
    const place = this.#open.has(offer.transfer_id) ? "over" : await this.#taker.place(this.#peer, offer);
    if (place === undefined) return false;
    if (place === "over") await this.#commit(this.#done([id]));
    else if ("refused" in place) await this.#refuse({ offer, ids: [id] }, place.refused);
    else if (Math.ceil(offer.size_bytes / offer.chunk_size) > FILE_CHUNKS_MAX)
      await this.#refuse({ offer, ids: [id] }, damaged(offer, `it comes in more than ${FILE_CHUNKS_MAX} pieces`));
    else this.#begin(id, offer, place.directory);
    return true;
  }

  #begin(id: string, offer: Offer, directory: string): void {
    this.#seen.add(id);
    this.#open.set(offer.transfer_id, {
      offer,
      total: Math.ceil(offer.size_bytes / offer.chunk_size),
      directory,
      ids: [id],
      pieces: new Map(),
      whole: 0,
      pulled: undefined,
    });
  }

  /** Takes a message that holds a piece. */
  async arrived(id: string, plaintext: Uint8Array): Promise<void> {
    const chunk = parseFileChunk(plaintext);
    const incoming = chunk && this.#open.get(chunk.transferId);
    if (!chunk || !incoming || incoming.pieces.has(chunk.index)) return this.#commit(this.#done([id]));
    const problem = problemOf(incoming, chunk);
    if (problem !== undefined) return this.#refuse({ ...incoming, ids: [...incoming.ids, id] }, problem);
    this.#seen.add(id);
    incoming.ids.push(id);
    incoming.pieces.set(chunk.index, id);
    while (incoming.pieces.has(incoming.whole)) incoming.whole++;
  }

  /** Finishes what is there, lets go of what nobody wants any more, and asks for what is to come next. */
  async advance(bodyOf: BodyOf): Promise<void> {
    for (const incoming of [...this.#open.values()]) {
      if (!this.#taker.wants(this.#peer, incoming.offer)) {
        await this.#commit(this.#done(incoming.ids));
        this.#end(incoming);
        continue;
      }
      if (incoming.whole < incoming.total) return this.#pull(incoming);
      await this.#finish(incoming, bodyOf);
    }
  }

  async #pull(incoming: Incoming): Promise<void> {
    const { offer, total, whole } = incoming;
    const { transfer_id } = offer;
    const until = Math.min(total, step(whole) + this.#ways.ahead() * FILE_PULL_CHUNKS);
    // Of what was asked for before a restart nothing is known: asking again is the same message again.
    let from = incoming.pulled ?? step(whole);
    if (from >= until) return;
    const pulls: Draft[] = [];
    for (; from < until; from += FILE_PULL_CHUNKS) {
      const count = Math.min(FILE_PULL_CHUNKS, total - from);
      pulls.push(this.#say({ type: "mesh:file_pull", transfer_id, first: from, count }, `${transfer_id}.pull.${from}`));
    }
    const here = Math.min(whole * offer.chunk_size, offer.size_bytes);
    await this.#commit(join(...pulls, this.#taker.progressed(this.#peer, offer, here)));
    incoming.pulled = from;
  }

  async #finish(incoming: Incoming, bodyOf: BodyOf): Promise<void> {
    const { offer, directory, ids } = incoming;
    const { disk } = this.#core.ports;
    const part = joinPath(directory, PART);
    const digest = createHash("sha256");
    let file: SavedFile | undefined;
    try {
      await disk.makeDirectory(directory);
      await disk.gather(part, this.#bytesOf(incoming, bodyOf, digest));
      const sha256 = digest.digest("hex");
      const size = offer.size_bytes;
      if (sha256 === offer.sha256)
        file = await nameFile(disk, part, {
          directory,
          name: offer.file_name,
          taken: await this.#taker.names(this.#peer, offer),
          size,
          sha256,
        });
      else await disk.remove(part);
    } catch (error) {
      // What may pass is tried again; the pieces are still in the conversation.
      if (isPassing(error)) throw new MeshError("store_io", `${offer.file_name} could not be saved.`, { cause: error });
      const reason = error instanceof Error ? error.message : String(error);
      return this.#refuse(incoming, new MeshError("store_io", `${offer.file_name} could not be saved: ${reason}.`));
    }
    if (!file) return this.#refuse(incoming, damaged(offer, "the hash of the whole differs"));
    const follows = await this.#taker.saved(this.#peer, offer, file);
    await this.#commit(join(follows, this.#answer(offer), this.#done(ids)));
    this.#end(incoming);
    follows.begin?.();
  }

  async *#bytesOf({ offer, total, pieces }: Incoming, bodyOf: BodyOf, digest: Hash): AsyncGenerator<Uint8Array> {
    for (let index = 0; index < total; index++) {
      const body = bodyOf(pieces.get(index) ?? "");
      const plaintext = body && (await this.#core.bodies.openBytes(this.#peer, body));
      const chunk = plaintext && parseFileChunk(plaintext);
      if (!chunk) throw new Error(`piece ${index} of ${offer.file_name} is gone`);
      digest.update(chunk.bytes);
      yield chunk.bytes;
      release(plaintext);
    }
  }

  /** It is not taken, or will never be here whole: its sender is told why. */
  async #refuse(incoming: Pick<Incoming, "offer" | "ids">, problem: MeshError): Promise<void> {
    const { offer, ids } = incoming;
    const draft = await this.#taker.failed(this.#peer, offer, problem);
    await this.#commit(join(draft, this.#answer(offer, problem), this.#done(ids)));
    this.#end(incoming);
  }

  #end({ offer, ids }: Pick<Incoming, "offer" | "ids">): void {
    this.#open.delete(offer.transfer_id);
    for (const id of ids) this.#seen.delete(id);
  }

  #answer({ file_name, request_id, transfer_id }: Offer, problem?: MeshError): Draft {
    const error = problem?.message.slice(0, ACK_ERROR_LENGTH);
    const about = { file_name, request_id, transfer_id };
    return this.#say(
      { type: "file_transfer_ack", success: error === undefined, ...about, ...(error !== undefined && { error }) },
      `${transfer_id}.ack`,
    );
  }

  #say(payload: PayloadInput, id: string): Draft {
    return compose(this.#core, this.#peer, payload, id);
  }

  #done = (ids: readonly string[]): Draft =>
    entriesOnly({ stream: conversationOf(this.#peer), event: { type: "HANDLED", ids } });

  #commit(draft: Draft): Promise<void> {
    return this.#ways.commit(draft);
  }
}

const damaged = ({ file_name }: Offer, how: string) => new MeshError("file_damaged", `${file_name}: ${how}.`);

/** What is wrong with a piece, if anything is. */
function problemOf({ offer, total, whole }: Incoming, { index, bytes, sha256 }: FileChunk): MeshError | undefined {
  const size = index === total - 1 ? offer.size_bytes - index * offer.chunk_size : offer.chunk_size;
  if (index >= total || bytes.length !== size) return damaged(offer, `piece ${index} does not fit into it`);
  if (index >= whole + AHEAD) return damaged(offer, `piece ${index} was not asked for`);
  return hash("sha256", bytes, "hex") === sha256
    ? undefined
    : damaged(offer, `piece ${index} is not what it should be`);
}

import { asMeshError } from "../errors.ts";
import { FILE_PULLS_AHEAD, FILE_PULLS_SHARED, TRANSFER_WAIT_MS } from "../limits.ts";
import { type ConversationContext, isHeld } from "../machines/conversation/events.ts";
import { release } from "../memory.ts";
import { isFileChunk } from "../wire/file-chunk.ts";
import { type Payload, parsePayload } from "../wire/payload.ts";
import { type Core, conversationOf } from "./core.ts";
import { type Draft, entriesOnly } from "./drafts.ts";
import { type BodyOf, type FileTaker, FileTransfers } from "./file-transfers.ts";
import type { OutgoingMail } from "./outgoing.ts";
import { Transfers } from "./transfers.ts";

// Work that was received: it stays in its conversation until whom it concerns has taken it over.

/** A piece of work that a peer sent. */
export interface Work {
  readonly peer: string;
  readonly id: string;
  readonly payload: Payload;
  /** It came in chunks: the id is their transfer's. */
  readonly inChunks?: true;
}

/**
 * Takes work over: gives the events that follow from it, which are committed together with its HANDLED. It may be called
 * again for the same work after a crash.
 */
export type WorkHandler = (work: Work) => Promise<Verdict>;

/** What follows; nothing; or `later`: it stays, with all behind it, until it is handled `again`. */
export type Verdict = Follow | "later" | undefined;

/** What follows from a piece of work: events, and what is begun once they are durable. */
export interface Follow extends Draft {
  readonly begin?: () => void;
}

/** What waits of one peer for the parts that are still to come. */
interface Parts {
  readonly payloads: Transfers;
  readonly files: FileTransfers;
}

export class Handling {
  readonly #core: Core;
  readonly #outgoing: OutgoingMail;
  readonly #handler: WorkHandler;
  readonly #taker: FileTaker;
  readonly #parts = new Map<string, Parts>();
  /** What takes back the looking for parts that wait too long, by peer. */
  readonly #deadlines = new Map<string, () => void>();

  constructor(core: Core, outgoing: OutgoingMail, handler: WorkHandler, taker: FileTaker) {
    this.#core = core;
    this.#outgoing = outgoing;
    core.signal.addEventListener("abort", () => {
      for (const disarm of this.#deadlines.values()) disarm();
    });
    this.#handler = handler;
    this.#taker = taker;
  }

  /** The words of a peer were destroyed: what was begun with parts of them is over. */
  forget(peer: string): void {
    this.#parts.delete(peer);
  }

  /** Handles what a peer said that was put off. */
  again(peer: string): void {
    this.handle(peer, [peer]).catch((error: unknown) => {
      const { code, message } = asMeshError(error);
      if (code !== "closed" && code !== "store_io") this.#core.note(`Work of ${peer} could not be handled: ${message}`);
    });
  }

  /** Hands work over, in order. Parts of a larger payload wait here until they are all there. */
  async handle(peer: string, ids: readonly string[]): Promise<void> {
    if (ids.length > 0) await this.#core.lanes.run(`work ${peer}`, () => this.#handleAll(peer));
  }

  async #handleAll(peer: string): Promise<void> {
    const context = (): ConversationContext | undefined =>
      this.#core.system.state(conversationOf(peer))?.snapshot.context;
    const bodyOf: BodyOf = (id) => context()?.handling.find((item) => item.id === id)?.body;
    const parts = this.#partsOf(peer);
    for (const item of context()?.handling ?? []) {
      const now: ConversationContext | undefined = this.#core.system.decided(conversationOf(peer))?.snapshot.context;
      if (!now || isHeld(now)) return;
      if (parts.files.has(item.id) || parts.payloads.has(item.id)) continue;
      const content = await this.#core.bodies.openBytes(peer, item.body);
      if (isFileChunk(content)) {
        await parts.files.arrived(item.id, content);
        release(content);
      } else if (!(await this.#take(peer, item.id, parsePayload(content.toString("utf8")), parts, bodyOf))) return;
    }
    await parts.files.advance(bodyOf);
    await this.#expire(peer, parts);
  }

  /** A peer that sends nothing again leaves parts that will never be whole: they wait for a while since the last one came. */
  async #expire(peer: string, parts: Parts): Promise<void> {
    const { system, ports, note, signal } = this.#core;
    const context: ConversationContext | undefined = system.state(conversationOf(peer))?.snapshot.context;
    this.#deadlines.get(peer)?.();
    this.#deadlines.delete(peer);
    if (!parts.payloads.isWaiting || !context || context.extensions.includes("resends") || signal.aborted) return;
    const deadline = (context.partsAt ?? ports.clock.now()) + TRANSFER_WAIT_MS;
    if (ports.clock.now() < deadline) {
      const disarm = ports.clock.at(deadline, () => this.again(peer));
      this.#deadlines.set(peer, disarm);
      return;
    }
    const ids = parts.payloads.giveUp();
    note(`${ids.length} parts of larger messages from ${peer} were let go of: the others did not come.`);
    await system.commit([{ stream: conversationOf(peer), event: { type: "HANDLED", ids } }]).durable;
  }

  #partsOf(peer: string): Parts {
    const parts = this.#parts.get(peer) ?? {
      payloads: new Transfers(this.#core.bodies, peer),
      files: new FileTransfers(this.#core, peer, this.#taker, {
        ahead: () => this.#ahead(),
        commit: (draft) => this.#outgoing.send(peer, draft).durable,
      }),
    };
    this.#parts.set(peer, parts);
    return parts;
  }

  /** Pulls under way at once of one peer: those from whom files come share what there is room for. */
  #ahead(): number {
    const pulling = [...this.#parts.values()].filter(({ files }) => files.isPulling).length;
    return Math.max(1, Math.min(FILE_PULLS_AHEAD, Math.floor(FILE_PULLS_SHARED / pulling)));
  }

  /** @returns false when it is put off */
  async #take(peer: string, id: string, payload: Payload | undefined, parts: Parts, bodyOf: BodyOf): Promise<boolean> {
    if (payload?.type === "mesh:file_offer") {
      await parts.files.offered(id, payload);
      return true;
    }
    if (payload?.type === "mesh:transfer_manifest" || payload?.type === "mesh:transfer_chunk") {
      const arrived = await parts.payloads.take(id, payload, bodyOf);
      if (!arrived) return true;
      return this.#handOver({ peer, id: arrived.id, payload: arrived.payload, inChunks: true }, arrived.ids);
    }
    const handOver = () => this.#handOver({ peer, id, payload }, [id]);
    // Pieces of files are large until they are on the disk: they leave for one peer at a time.
    return payload?.type === "mesh:file_pull" ? this.#core.lanes.run("pieces", handOver) : handOver();
  }

  /** @returns false when it is put off */
  async #handOver(
    work: Omit<Work, "payload"> & { readonly payload: Payload | undefined },
    ids: readonly string[],
  ): Promise<boolean> {
    const { note } = this.#core;
    const { peer, payload } = work;
    let follows: Follow | undefined;
    if (payload) {
      try {
        const verdict = await this.#handler({ ...work, payload });
        if (verdict === "later") return false;
        follows = verdict;
      } catch (error) {
        const failure = asMeshError(error);
        if (failure.code === "closed" || failure.code === "store_io") throw failure;
        note(`${payload.type} from ${peer} could not be handled: ${failure.message}`);
      }
    } else note(`A message from ${peer} was in no form that is understood.`);
    const done = { stream: conversationOf(peer), event: { type: "HANDLED", ids } };
    await this.#outgoing.send(peer, follows ?? entriesOnly(), [done]).durable;
    follows?.begin?.();
    return true;
  }
}

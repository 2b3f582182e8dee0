import { asMeshError } from "../errors.ts";
import { FILE_PULLS_AHEAD, FILE_PULLS_SHARED } from "../limits.ts";
import { type ConversationContext, isHeld, type Untaken } from "../machines/conversation/events.ts";
import { release } from "../memory.ts";
import { isFileChunk } from "../wire/file-chunk.ts";
import { isChat, type Payload, type PayloadOf, parsePayload } from "../wire/payload.ts";
import { type Core, conversationOf } from "./core.ts";
import { compose, type Draft, entriesOnly, join } from "./drafts.ts";
import { type BodyOf, type FileTaker, FileTransfers } from "./file-transfers.ts";
import { TRANSFER_WAIT_MS } from "./limits.ts";
import type { OutgoingMail } from "./outgoing.ts";
import { type Ended, Transfers } from "./transfers.ts";

// Received work stays in its conversation until the actor that it concerns has taken it over. Work that no actor takes over becomes
// a message in the inbox, so that nothing a peer said is lost.

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

/**
 * The events that follow; undefined when no actor takes the work over; `later` when the work, and all work behind it, has to wait
 * until `again` is called.
 */
export type Verdict = Follow | "later" | undefined;

/** Payloads of the protocol itself. They mean nothing to a person, so they are dropped when no actor takes them over. */
const WITHOUT_WORDS: ReadonlySet<Payload["type"]> = new Set([
  "file_transfer_ack",
  "mesh:file_pull",
  "mesh:ping",
  "mesh:pong",
  "mesh:receipt",
  "mesh:task_news",
  "mesh:transfer_chunk_request",
  "mesh:transfer_complete",
  "task_received",
]);

type UntakenFile = PayloadOf<"file_transfer" | "mesh:file_offer">;

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
  readonly #hasReader: boolean;
  readonly #parts = new Map<string, Parts>();
  /** The last refused file of each peer. Deployed agents send a refused file again, and the inbox shows it only once. */
  readonly #untakenFiles = new Map<string, string>();
  /** What takes back the looking for parts that wait too long, by peer. */
  readonly #deadlines = new Map<string, () => void>();

  /** @param hasReader whether anybody reads the inbox of this node; nobody reads a controller's or a sandbox's */
  constructor(core: Core, outgoing: OutgoingMail, handler: WorkHandler, taker: FileTaker, hasReader: boolean) {
    this.#core = core;
    this.#outgoing = outgoing;
    this.#hasReader = hasReader;
    core.signal.addEventListener("abort", () => {
      for (const disarm of this.#deadlines.values()) disarm();
    });
    this.#handler = handler;
    this.#taker = taker;
  }

  /** The words of a peer were destroyed: what was begun with parts of them is over. */
  forget(peer: string): void {
    this.#parts.delete(peer);
    this.#untakenFiles.delete(peer);
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
      } else if (!(await this.#take(peer, item.id, content.toString("utf8"), parts, bodyOf))) return;
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
    const givenUp = parts.payloads.giveUp();
    const count = givenUp.reduce((sum, { ids }) => sum + ids.length, 0);
    note(`${count} parts of larger messages from ${peer} were dropped, because the other parts did not come.`);
    for (const ended of givenUp) await this.#lose(peer, ended);
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
  async #take(peer: string, id: string, text: string, parts: Parts, bodyOf: BodyOf): Promise<boolean> {
    const payload = parsePayload(text);
    if (payload.type === "mesh:file_offer" && (await parts.files.offered(id, payload))) return true;
    if (payload.type === "mesh:transfer_manifest" || payload.type === "mesh:transfer_chunk") {
      const ended = await parts.payloads.take(id, payload, bodyOf);
      if (!ended) return true;
      if (ended === "again") await this.#done(peer, [id]);
      else if (ended.text === undefined) await this.#lose(peer, ended);
      else {
        const whole = parsePayload(ended.text);
        return this.#handOver({ peer, id: ended.id, payload: whole, inChunks: true }, ended.ids, ended.text);
      }
      return true;
    }
    const handOver = () => this.#handOver({ peer, id, payload }, [id], text);
    // Pieces of files are large until they are on the disk: they leave for one peer at a time.
    return payload.type === "mesh:file_pull" ? this.#core.lanes.run("pieces", handOver) : handOver();
  }

  /**
   * @param ids the ids of the messages that carried it @param text its whole text
   * @returns false when the work has to wait
   */
  async #handOver(work: Work, ids: readonly string[], text: string): Promise<boolean> {
    const { peer, payload } = work;
    let follows: Follow | undefined;
    try {
      const verdict = await this.#handler(work);
      if (verdict === "later") return false;
      follows = verdict;
    } catch (error) {
      const failure = asMeshError(error);
      if (failure.code === "closed" || failure.code === "store_io") throw failure;
      this.#core.note(`${payload.type} from ${peer} could not be handled: ${failure.message}`);
    }
    try {
      const shown = this.#shownOf(work, ids, text, follows !== undefined);
      await this.#done(peer, ids, follows && shown ? join(follows, shown) : (shown ?? follows));
    } catch (error) {
      const failure = asMeshError(error);
      if (failure.code === "closed" || failure.code === "store_io") throw failure;
      // What cannot be decided now cannot be later either, and all that the peer says after it would wait for it.
      this.#core.note(`What follows from ${payload.type} of ${peer} is no event: ${failure.message}`);
      await this.#done(peer, ids, this.#shown(peer, ids[0] ?? work.id, text, "work"));
      return true;
    }
    follows?.begin?.();
    return true;
  }

  async #done(peer: string, ids: readonly string[], draft: Draft = entriesOnly()): Promise<void> {
    const done = { stream: conversationOf(peer), event: { type: "HANDLED", ids } };
    await this.#outgoing.send(peer, draft, [done]).durable;
  }

  /** The inbox message for a piece of work, if the work is chat or no actor has taken it over. */
  #shownOf({ peer, id, payload }: Work, ids: readonly string[], text: string, isTaken: boolean): Draft | undefined {
    const [first = id] = ids;
    if (isChat(payload)) return this.#shown(peer, first, text);
    if (isTaken || WITHOUT_WORDS.has(payload.type)) return undefined;
    if (payload.type === "file_transfer" || payload.type === "mesh:file_offer")
      return this.#untakenFile(peer, first, payload);
    return this.#shown(peer, first, text, "work");
  }

  #shown(peer: string, id: string, text: string, untaken?: Untaken): Draft | undefined {
    if (!this.#hasReader) {
      this.#core.note(`A message from ${peer} is nothing that this node acts on. It was dropped.`);
      return undefined;
    }
    const { body, size, secrets, before } = this.#core.bodies.seal(peer, text);
    const event = { type: "RECEIVED", id, kind: "chat", body, size, ...(untaken && { untaken }) };
    return { entries: [{ stream: conversationOf(peer), event }], secrets, ...(before && { before }) };
  }

  /** Refuses a file that nothing here is waiting for: the inbox shows its name and size, and its sender learns of the refusal. */
  #untakenFile(peer: string, id: string, payload: UntakenFile): Draft | undefined {
    if (!this.#hasReader) return undefined;
    const { file_data: _, ...about } = { file_data: "", ...payload };
    const text = JSON.stringify(about);
    const isRepeated = this.#untakenFiles.get(peer) === text;
    this.#untakenFiles.set(peer, text);
    const shown = isRepeated ? undefined : this.#shown(peer, id, text, "file");
    const { file_name, request_id } = payload;
    const refusal = compose(
      this.#core,
      peer,
      {
        type: "file_transfer_ack",
        file_name,
        success: false,
        error: "no offload here awaits this file",
        ...(request_id !== undefined && { request_id }),
        ...(payload.type === "mesh:file_offer" && { transfer_id: payload.transfer_id }),
      },
      `${id}.ack`,
    );
    return shown ? join(shown, refusal) : refusal;
  }

  /** Reports a transfer that will never be complete, if its manifest came. A chunk alone may be one that was sent again. */
  async #lose(peer: string, { ids, about }: Ended): Promise<void> {
    const [first = ""] = ids;
    const isKnown = about.original_type !== undefined;
    const text = JSON.stringify({ type: "mesh:transfer_manifest", ...about });
    await this.#done(peer, ids, isKnown ? this.#shown(peer, first, text, "parts") : undefined);
  }
}

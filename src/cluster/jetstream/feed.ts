import { AckPolicy, DeliverPolicy } from "@nats-io/jetstream";
import type { Msg } from "@nats-io/transport-node";
import { asMeshError } from "../../errors.ts";
import type { Mail, MailFeed } from "../state.ts";
import { type Bus, tokenOf, unavailable } from "./bus.ts";
import { heldBy, mailOf, mailStream, mailSubject, type Parts, shardOf, textOf } from "./frames.ts";
import { GivenFrames } from "./given.ts";
import {
  ANSWER_WAIT_MS,
  GIVEN_AHEAD_MAX,
  LOOK_EVERY_MS,
  READ_AHEAD_FRAMES_MAX,
  READ_AHEAD_SIZE_MAX,
  READ_SINGLY_MAX,
  SENDERS_REMEMBERED_MAX,
} from "./limits.ts";
import { LIVE_HEADER } from "./mailboxes.ts";
import type { Records } from "./records.ts";

// One reader's way through its mailbox. What waits is read from the stream; what comes is heard live, from whoever stored it.
//
// A live word may be lost or late, so it is believed for one thing only: that its sender's frame before it was given
// already. Where that does not hold, the mailbox is read from where reading stopped, and nothing of a sender overtakes
// anything else of it.

const NANOSECONDS = 1_000_000;
/** What is fetched before it is known how large the frames are. */
const FIRST_BATCH = 8;

const messagesOf = (state: { readonly subjects?: Record<string, number> | undefined }, subject: string): number =>
  state.subjects?.[subject] ?? 0;

class Feed implements MailFeed {
  pending = 0;
  readonly #bus: Bus;
  readonly #to: string;
  readonly #onMail: () => void;
  readonly #stream: string;
  readonly #subject: string;
  readonly #ends: (() => void)[] = [];
  /** All up to here was read, in order. */
  #cursor = 0;
  /** What was given live beyond it. */
  readonly #ahead = new Set<number>();
  /** The greatest position given. */
  #greatest = 0;
  /** The position of the last frame given of a sender. */
  readonly #senders = new Map<string, number>();
  /** At hand, not given yet. */
  #row: Mail[] = [];
  #rowSize = 0;
  readonly #given: GivenFrames;
  readonly #parts = new Map<number, Parts>();
  #isReading = false;
  /** Reading waits for the reader. */
  #onRoom: (() => void) | undefined;
  /** Something came while reading, or for which there was no room: the mailbox has more than the row. */
  #hasMore = false;
  #isClosed = false;

  constructor(bus: Bus, to: string, onMail: () => void, given: Records | undefined) {
    this.#bus = bus;
    this.#to = to;
    this.#onMail = onMail;
    this.#stream = mailStream(bus, shardOf(bus, to));
    this.#subject = mailSubject(bus, to);
    this.#given = new GivenFrames(bus, to, this.#stream, given);
  }

  async open(): Promise<void> {
    await this.#given.takeOver();
    const live = this.#bus.nats.subscribe(this.#bus.subject("live", tokenOf(this.#to)), {
      callback: (error, message) => {
        if (!error) this.#heard(message);
      },
    });
    this.#ends.push(() => live.unsubscribe());
    const last = await this.#bus.jsm.streams.getMessage(this.#stream, { last_by_subj: this.#subject });
    if (last) {
      const { state } = await this.#bus.jsm.streams.info(this.#stream, { subjects_filter: this.#subject });
      this.pending = messagesOf(state, this.#subject);
      this.#hasMore = true;
    }
    const look = setInterval(() => this.#look(), LOOK_EVERY_MS);
    look.unref();
    this.#ends.push(
      () => clearInterval(look),
      this.#bus.onAttached(() => this.#look()),
    );
    this.#readOn();
  }

  next(): Mail | undefined {
    const mail = this.#row.shift();
    if (mail) {
      this.#rowSize -= mail.size;
      this.#given.add(mail, this.#parts.get(mail.position));
      this.#parts.delete(mail.position);
    }
    if (this.#row.length <= READ_AHEAD_FRAMES_MAX / 2) {
      this.#onRoom?.();
      this.#readOn();
    }
    return mail;
  }

  get doubted(): number {
    return this.#given.doubted.size;
  }

  ack(id: string, from?: string): void {
    this.#given.ack(id, from);
  }

  note(frames: readonly Mail[]): Promise<void> {
    return this.#given.note(frames);
  }

  release(): void {
    this.#given.release();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#onRoom?.();
    for (const end of this.#ends.splice(0)) {
      try {
        end();
      } catch (error) {
        // The connection to NATS is gone, and the subscription with it.
        this.#bus.log(`nats: ${unavailable(error).message}`);
      }
    }
    await this.#given.close();
  }

  // What comes live

  #heard({ headers, data }: Msg): void {
    const held = heldBy(headers);
    const [seq = 0, before = 0, at = 0] = headers?.get(LIVE_HEADER).split(" ").map(Number) ?? [];
    if (!held || this.#isClosed || seq <= this.#cursor || this.#ahead.has(seq)) return;
    const isNext = at > 0 && before > 0 && this.#senders.get(held.from) === before;
    if (!isNext || this.#isReading || this.#hasMore || !this.#hasRoom() || this.#ahead.size >= GIVEN_AHEAD_MAX) {
      this.#look();
      return;
    }
    this.#ahead.add(seq);
    const text = textOf(data);
    this.#take({ position: seq, from: held.from, id: held.id, text, size: Buffer.byteLength(text), at }, undefined);
    this.#onMail();
  }

  #take(mail: Mail, parts: Parts | undefined): void {
    this.#row.push(mail);
    this.#rowSize += mail.size;
    this.#greatest = Math.max(this.#greatest, mail.position);
    if (parts) this.#parts.set(mail.position, parts);
    this.#senders.delete(mail.from);
    this.#senders.set(mail.from, mail.position);
    const oldest = this.#senders.size > SENDERS_REMEMBERED_MAX ? this.#senders.keys().next().value : undefined;
    if (oldest !== undefined) this.#senders.delete(oldest);
  }

  #hasRoom(): boolean {
    return this.#row.length < READ_AHEAD_FRAMES_MAX && this.#rowSize < READ_AHEAD_SIZE_MAX;
  }

  // What waits

  /** The mailbox may have what is not known of here. */
  #look(): void {
    this.#hasMore = true;
    this.#readOn();
  }

  /** Reads what there is, as far as there is room. */
  #readOn(): void {
    if (this.#isClosed || this.#isReading || !this.#hasMore || !this.#hasRoom()) return;
    this.#isReading = true;
    this.#read()
      .catch((error: unknown) => {
        this.#hasMore = true;
        if (!this.#isClosed) this.#bus.log(`mail: a mailbox could not be read: ${unavailable(error).message}`);
        return AGAIN_LATER;
      })
      .then((outcome) => {
        this.#isReading = false;
        if (this.#isClosed) return;
        if (outcome === AGAIN_LATER) setTimeout(() => this.#readOn(), ANSWER_WAIT_MS).unref();
        else this.#readOn();
      });
  }

  async #read(): Promise<typeof AGAIN_LATER | undefined> {
    this.#hasMore = false;
    // All that is stored by now has a position below what comes later.
    const greatest = this.#greatest;
    for (let count = 0; this.#hasRoom() && !this.#isClosed; count++) {
      if (count === READ_SINGLY_MAX) return this.#readMany();
      // Asked of the stream's leader, since copies may lag behind what was said live.
      const next = { seq: this.#cursor + 1, next_by_subj: this.#subject };
      const message = await this.#bus.jsm.streams.getMessage(this.#stream, next);
      if (!message) {
        this.#hasReadUpTo(Math.max(this.#cursor, greatest));
        return undefined;
      }
      await this.#reach({ seq: message.seq, data: message.data, header: message.header, at: message.time.getTime() });
    }
    this.#hasMore = true;
    return undefined;
  }

  /** Reads a batch by a consumer that is made for it. */
  async #readMany(): Promise<typeof AGAIN_LATER | undefined> {
    this.#hasMore = true;
    const { consumers } = this.#bus.jsm;
    const info = await consumers.add(this.#stream, {
      ack_policy: AckPolicy.None,
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: this.#cursor + 1,
      filter_subject: this.#subject,
      inactive_threshold: 10_000 * NANOSECONDS,
      mem_storage: true,
      num_replicas: 1,
    });
    const consumer = this.#bus.js.consumers.getConsumerFromInfo(info);
    try {
      let [delivered, batch] = [0, FIRST_BATCH];
      for (let left = info.num_pending; left > 0 && !this.#isClosed; ) {
        while (!this.#hasRoom() && !this.#isClosed) await this.#room();
        const messages = await consumer.fetch({ max_messages: Math.min(left, batch), expires: 2 * ANSWER_WAIT_MS });
        let [got, largest] = [0, 1];
        for await (const message of messages) {
          // A message that was lost on the way: what follows it must wait.
          if (message.info.deliverySequence !== ++delivered) return undefined;
          await this.#reach({
            seq: message.seq,
            data: message.data,
            header: message.headers,
            at: Math.floor(message.info.timestampNanos / NANOSECONDS),
          });
          got++;
          largest = Math.max(largest, message.data.length);
          left = message.info.pending;
        }
        if (got === 0) return AGAIN_LATER;
        // As many of that size as may be at hand.
        batch = Math.min(READ_AHEAD_FRAMES_MAX / 2, Math.ceil(READ_AHEAD_SIZE_MAX / largest));
      }
      return undefined;
    } finally {
      void consumers.delete(this.#stream, info.name).catch(() => undefined); // It goes by itself a little later.
    }
  }

  /** Resolves when the reader has taken enough, or has gone. */
  #room(): Promise<void> {
    return new Promise((resolve) => {
      this.#onRoom = resolve;
    });
  }

  /** The next message of the mailbox: given, unless it was given live. */
  async #reach(stored: { seq: number; data: Uint8Array; header: Msg["headers"]; at: number }): Promise<void> {
    const isDone = this.#ahead.delete(stored.seq) || this.#given.doubted.has(stored.seq);
    if (!isDone) {
      const mail = await mailOf(this.#bus, this.#to, stored);
      if (mail) {
        this.#take(mail, heldBy(stored.header)?.parts);
        this.#cursor = stored.seq;
        this.#onMail();
        return;
      }
      this.#bus.log(`mail: message ${stored.seq} of ${this.#stream} cannot be read; it is removed`);
      void this.#given.remove(stored.seq);
    }
    this.#cursor = stored.seq;
  }

  #hasReadUpTo(position: number): void {
    this.#cursor = position;
    for (const seq of this.#ahead) if (seq <= position) this.#ahead.delete(seq);
  }
}

const AGAIN_LATER = Symbol("again later");

/**
 * Opens a mailbox to its one reader.
 * @param given where it is noted what the reader was given, if it must get nothing twice
 * @throws MeshError `nats_unavailable`
 */
export async function openFeed(bus: Bus, to: string, onMail: () => void, given?: Records): Promise<MailFeed> {
  const feed = new Feed(bus, to, onMail, given);
  try {
    await feed.open();
  } catch (error) {
    await feed.close();
    throw asMeshError(unavailable(error));
  }
  return feed;
}

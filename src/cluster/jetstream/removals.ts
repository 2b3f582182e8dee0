import { JetStreamApiCodes, JetStreamApiError } from "@nats-io/jetstream";
import { type Bus, unavailable } from "./bus.ts";
import { dropParts, heldBy, mailStream, type Parts, shardOf } from "./frames.ts";
import { ACK_PATIENCE_MS, RETRY_REST_MS } from "./limits.ts";
import type { Notes } from "./notes.ts";

// What leaves a mailbox: frames that were acked, and frames that an earlier feed may have given to a reader that must get nothing twice.

/** A frame in a mailbox. */
export interface Stored {
  readonly position: number;
  readonly parts: Parts | undefined;
}

const NO_MESSAGE: number = JetStreamApiCodes.NoMessageFound;

export class Removals {
  readonly #bus: Bus;
  readonly #to: string;
  readonly #stream: string;
  /** What the reader may have been given, when it must get nothing twice. */
  readonly #notes: Notes | undefined;
  /** Removals and releases under way. */
  readonly #writing = new Set<Promise<unknown>>();
  #isClosed = false;

  constructor(bus: Bus, to: string, notes: Notes | undefined) {
    this.#bus = bus;
    this.#to = to;
    this.#stream = mailStream(bus, shardOf(bus, to));
    this.#notes = notes;
  }

  /** Notes durably that the reader is about to be given these. */
  note(positions: readonly number[]): Promise<void> {
    return this.#notes?.add(positions) ?? Promise.resolve();
  }

  /** The reader was not given these, or it is known that they did not arrive. */
  release(positions: readonly number[]): void {
    if (!this.#notes) return;
    const released = this.#notes.release(positions).catch((error: unknown) => {
      // What did not arrive is then taken for given.
      this.#bus.log(`mail: a release could not be written: ${unavailable(error).message}`);
    });
    this.#awaited(released);
  }

  /** Removes a frame from the mailbox. */
  discard({ position, parts }: Stored): void {
    this.#awaited(this.#remove(position));
    if (parts) void dropParts(this.#bus, this.#to, parts);
  }

  /** Removes what an earlier feed may have given and nobody settled. @returns the positions of these frames */
  async takeOver(): Promise<ReadonlySet<number>> {
    const doubted = new Set<number>();
    if (!this.#notes) return doubted;
    const found = new Map<number, Parts | undefined>();
    const left = async (positions: readonly number[]) => {
      found.clear();
      for (const seq of positions) {
        const message = await this.#bus.jsm.streams.getMessage(this.#stream, { seq });
        if (message) found.set(seq, heldBy(message.header)?.parts);
      }
      return [...found.keys()];
    };
    for (const position of await this.#notes.takeOver(left)) {
      doubted.add(position);
      this.discard({ position, parts: found.get(position) });
    }
    return doubted;
  }

  /** Resolves when all that was begun is written, or given up. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(this.#writing);
  }

  #awaited(writing: Promise<unknown>): void {
    const written = writing.finally(() => this.#writing.delete(written));
    this.#writing.add(written);
  }

  /** Never rejects: a lost removal costs a redelivery, which a recipient of ours knows by its id. */
  async #remove(position: number): Promise<void> {
    const deadline = Date.now() + ACK_PATIENCE_MS;
    for (;;) {
      try {
        await this.#bus.jsm.streams.deleteMessage(this.#stream, position, false);
        this.#notes?.settled(position);
        return;
      } catch (error) {
        // An earlier try may have come through.
        if (error instanceof JetStreamApiError && error.code === NO_MESSAGE) {
          this.#notes?.settled(position);
          return;
        }
        if (this.#isClosed || this.#bus.nats.isClosed() || Date.now() > deadline) {
          this.#bus.log(`mail: an ack could not be written: ${unavailable(error).message}`);
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, RETRY_REST_MS));
      }
    }
  }
}

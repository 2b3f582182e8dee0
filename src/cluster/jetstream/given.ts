import type { Mail } from "../state.ts";
import { type Bus, tokenOf, unavailable } from "./bus.ts";
import { dropParts, type Parts, removeMessage, storedOf } from "./frames.ts";
import { Notes } from "./notes.ts";
import type { Records } from "./records.ts";

/** A frame that was given and not acked. */
interface Given {
  readonly position: number;
  readonly from: string;
  readonly parts: Parts | undefined;
}

/** What a feed gave to its reader, and how it leaves the mailbox. */
export class GivenFrames {
  /** What an earlier feed may have given to a reader that must get nothing twice, by position. It is removed. */
  readonly doubted = new Set<number>();
  readonly #bus: Bus;
  readonly #to: string;
  readonly #stream: string;
  readonly #notes: Notes | undefined;
  readonly #byId = new Map<string, Given[]>();
  /** Removals and releases under way. */
  readonly #writing = new Set<Promise<unknown>>();
  #isClosed = false;

  /** @param given where it is noted what the reader was given, if it must get nothing twice */
  constructor(bus: Bus, to: string, stream: string, given: Records | undefined) {
    this.#bus = bus;
    this.#to = to;
    this.#stream = stream;
    this.#notes = given && new Notes(given, tokenOf(to));
  }

  /** Ends the notes of the feed before. */
  async takeOver(): Promise<void> {
    const frames = await this.#notes?.takeOver((noted) => storedOf(this.#bus, this.#stream, noted));
    for (const frame of frames ?? []) {
      this.doubted.add(frame.position);
      this.#discard(frame);
    }
  }

  add({ position, from, id }: Mail, parts: Parts | undefined): void {
    const same = this.#byId.get(id);
    if (same) same.push({ position, from, parts });
    else this.#byId.set(id, [{ position, from, parts }]);
  }

  ack(id: string, from?: string): void {
    const same = this.#byId.get(id) ?? [];
    const found = from === undefined ? same[0] : same.find((given) => given.from === from);
    if (!found) return;
    const others = same.filter((given) => given !== found);
    if (others.length > 0) this.#byId.set(id, others);
    else this.#byId.delete(id);
    this.#discard(found);
  }

  note(frames: readonly Mail[]): Promise<void> {
    return this.#notes?.add(frames) ?? Promise.resolve();
  }

  release(): void {
    if (!this.#notes) return;
    const left = [...this.#byId.values()].flat();
    const released = this.#notes.release(left.map(({ position }) => position)).catch((error: unknown) => {
      // What did not arrive is then taken for given.
      this.#bus.log(`mail: a release could not be written: ${unavailable(error).message}`);
    });
    this.#awaited(released);
  }

  /** Resolves when what was acked and released is durable, or lost. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(this.#writing);
  }

  /** Removes a message. Never rejects: a lost ack costs a redelivery, which a recipient of ours knows by its id. */
  async remove(position: number): Promise<void> {
    if (await removeMessage(this.#bus, this.#stream, position, () => this.#isClosed)) this.#notes?.settled(position);
  }

  #discard({ position, parts }: Pick<Given, "position" | "parts">): void {
    this.#awaited(this.remove(position));
    if (parts) void dropParts(this.#bus, this.#to, parts);
  }

  /** Closing waits for it. */
  #awaited(writing: Promise<unknown>): void {
    const written = writing.finally(() => this.#writing.delete(written));
    this.#writing.add(written);
  }
}

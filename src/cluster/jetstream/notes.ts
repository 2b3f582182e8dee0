import { randomUUID } from "node:crypto";
import { z } from "zod";
import { MeshError } from "../../errors.ts";
import { safeParse } from "../../parse.ts";
import { RELEASE_LOOK_MS, RELEASE_WAIT_MS } from "./limits.ts";
import { type RecordAt, type Records, untilWritten } from "./records.ts";

// Which frames of a mailbox its reader may have been given: the bucket `given`, a record for each reader that must get nothing
// twice. A feed writes their positions before it gives them, and its frames leave the stream when they have arrived. So what a
// record names and the stream still has is in doubt when the feed's process has died.
//
// A record names its feed. The next feed takes it over by compare-and-set, and from then on the feed before can note nothing,
// so it gives nothing either.

/** The id tells a frame from one that a restored stream has at the same position. */
const Frame = z.object({ position: z.int().min(1), id: z.string() });
export type NotedFrame = z.infer<typeof Frame>;
const Noted = z.object({ feed: z.string(), frames: z.array(Frame) });

export class Notes {
  readonly #records: Records;
  readonly #key: string;
  readonly #feed = randomUUID();
  /** By position. */
  readonly #frames = new Map<number, NotedFrame>();
  #revision = 0;
  #isReleased = false;
  /** Writes, one after the other. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(records: Records, key: string) {
    this.#records = records;
    this.#key = key;
  }

  /**
   * Takes the record over. A feed before that lives is about to settle what it gave, since its connection counts no more;
   * that is waited for.
   * @param left those of these frames that the stream still has
   * @returns the frames that nobody settled
   */
  takeOver<T extends NotedFrame>(
    left: (frames: readonly NotedFrame[]) => Promise<readonly T[]>,
  ): Promise<readonly T[]> {
    const deadline = Date.now() + RELEASE_WAIT_MS;
    return untilWritten(async () => {
      let record: RecordAt;
      let unsettled: readonly T[];
      for (;;) {
        record = await this.#records.read(this.#key);
        unsettled = await left(safeParse(Noted, record.value).data?.frames ?? []);
        if (unsettled.length === 0 || Date.now() > deadline) break;
        await new Promise((resolve) => setTimeout(resolve, RELEASE_LOOK_MS));
      }
      for (const { position, id } of unsettled) this.#frames.set(position, { position, id });
      if (await this.#write(record.revision)) return { result: unsettled };
      this.#frames.clear();
      return undefined;
    });
  }

  /**
   * Resolves when it is durable that these may be given.
   * @throws MeshError `nats_unavailable`; `closed` when another feed has taken the record over
   */
  add(frames: readonly NotedFrame[]): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#isReleased) throw new MeshError("closed");
      for (const { position, id } of frames) this.#frames.set(position, { position, id });
      await this.#writeOwn();
    });
  }

  /** The stream has it no more. */
  settled(position: number): void {
    this.#frames.delete(position);
  }

  /** These were not given, or did not arrive. Nothing is noted after that. */
  release(positions: readonly number[]): Promise<void> {
    this.#isReleased = true;
    return this.#inTurn(async () => {
      const released = positions.filter((position) => this.#frames.delete(position));
      if (released.length > 0) await this.#writeOwn();
    });
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined); // Its caller is told.
    return done;
  }

  async #write(on: number): Promise<boolean> {
    const noted: z.infer<typeof Noted> = { feed: this.#feed, frames: [...this.#frames.values()] };
    const revision = await this.#records.write(this.#key, JSON.stringify(noted), on);
    if (revision !== undefined) this.#revision = revision;
    return revision !== undefined;
  }

  async #writeOwn(): Promise<void> {
    if (await this.#write(this.#revision)) return;
    // NATS may have lost the record.
    const { revision } = await this.#records.read(this.#key);
    if (revision > 0 || !(await this.#write(0))) throw new MeshError("closed", "Another relay serves this mailbox.");
  }
}

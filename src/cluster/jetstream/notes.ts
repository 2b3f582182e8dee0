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

const Noted = z.object({ feed: z.string(), positions: z.array(z.int().min(1)) });

export class Notes {
  readonly #records: Records;
  readonly #key: string;
  readonly #feed = randomUUID();
  readonly #positions = new Set<number>();
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
   * @param left those of these positions that the stream still has
   * @returns the positions that nobody settled
   */
  takeOver(left: (positions: readonly number[]) => Promise<readonly number[]>): Promise<readonly number[]> {
    const deadline = Date.now() + RELEASE_WAIT_MS;
    return untilWritten(async () => {
      let record: RecordAt;
      let unsettled: readonly number[];
      for (;;) {
        record = await this.#records.read(this.#key);
        unsettled = await left(safeParse(Noted, record.value).data?.positions ?? []);
        if (unsettled.length === 0 || Date.now() > deadline) break;
        await new Promise((resolve) => setTimeout(resolve, RELEASE_LOOK_MS));
      }
      for (const position of unsettled) this.#positions.add(position);
      if (await this.#write(record.revision)) return { result: unsettled };
      this.#positions.clear();
      return undefined;
    });
  }

  /**
   * Resolves when it is durable that these may be given.
   * @throws MeshError `nats_unavailable`; `closed` when another feed has taken the record over
   */
  add(positions: readonly number[]): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#isReleased) throw new MeshError("closed");
      for (const position of positions) this.#positions.add(position);
      await this.#writeOwn();
    });
  }

  /** The stream has it no more. */
  settled(position: number): void {
    this.#positions.delete(position);
  }

  /** These were not given, or did not arrive. Nothing is noted after that. */
  release(positions: readonly number[]): Promise<void> {
    this.#isReleased = true;
    return this.#inTurn(async () => {
      const released = positions.filter((position) => this.#positions.delete(position));
      if (released.length > 0) await this.#writeOwn();
    });
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined); // Its caller is told.
    return done;
  }

  async #write(on: number): Promise<boolean> {
    const noted: z.infer<typeof Noted> = { feed: this.#feed, positions: [...this.#positions] };
    const revision = await this.#records.write(this.#key, JSON.stringify(noted), on);
    if (revision !== undefined) this.#revision = revision;
    return revision !== undefined;
  }

  async #writeOwn(): Promise<void> {
    if (await this.#write(this.#revision)) return;
    // NATS may have lost its memory, and the record with it.
    const { revision } = await this.#records.read(this.#key);
    if (revision > 0 || !(await this.#write(0))) throw new MeshError("closed", "Another relay serves this mailbox.");
  }
}

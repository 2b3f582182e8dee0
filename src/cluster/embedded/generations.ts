import { MeshError } from "../../errors.ts";
import { REWRITE_BATCH_SIZE_MAX, REWRITE_SIZE_MIN } from "../../limits.ts";
import { type Disk, joinPath } from "../../store/disk.ts";
import { type Commit, type Draft, Journal } from "../../store/journal.ts";

// A journal that is rewritten when most of what it holds no longer matters.
//
//   <directory>/generation   {"generation":2}   the one that counts; replaced atomically
//   <directory>/2/…          that generation's journal
//
// A rewrite fills directory n+1, then points at it, then removes directory n. Whatever moment a crash picks, the pointer
// names a whole journal; what lies beside it is removed when the directory is opened next.

const POINTER = "generation";

/** A commit of a rewrite, and about how many bytes it takes. */
export interface Piece {
  readonly draft: Draft;
  readonly size: number;
}

export interface GenerationsOptions {
  readonly disk: Disk;
  readonly directory: string;
  /** Folds a commit that is on disk: at open those of before, in order, then each as it becomes durable. Must not throw. */
  readonly onCommit: (commit: Commit) => void;
  /** What still matters, as commits that fold to the present state. */
  readonly pieces: () => Iterable<Piece>;
  /** About how many bytes `pieces` would take. */
  readonly liveSize: () => number;
  /** Bytes below which nothing is rewritten. */
  readonly rewriteSizeMin?: number | undefined;
  readonly log?: ((line: string) => void) | undefined;
}

interface Feed {
  on: boolean;
}

export class Generations {
  readonly #options: GenerationsOptions;
  #generation = 1;
  #journal: Journal | undefined;
  #feed: Feed = { on: false };
  /** Bytes in the present generation. */
  #size = 0;
  /** Bytes that the journal must have grown to before the next rewrite: one that failed, or gained little, is not repeated at once. */
  #rewriteAbove = 0;
  /** While a rewrite runs, what is asked for waits here, in order. */
  #held: (() => void)[] | undefined;
  #rewriting: Promise<void> | undefined;

  private constructor(options: GenerationsOptions) {
    this.#options = options;
  }

  /**
   * Opens the generation that counts, folds it, removes what a crash left beside it, and rewrites it when that is worth it.
   * @throws MeshError `store_damaged` when the pointer or the journal cannot be read
   */
  static async open(options: GenerationsOptions): Promise<Generations> {
    const generations = new Generations(options);
    try {
      await generations.#recover();
    } catch (error) {
      await generations.close();
      throw error;
    }
    return generations;
  }

  async #recover(): Promise<void> {
    const { disk, directory } = this.#options;
    await disk.makeDirectory(directory);
    const pointed = await this.#pointed();
    await disk.settle(directory);
    this.#generation = pointed ?? 1;
    this.#feed = { on: true };
    this.#journal = await this.#openJournal(this.#generation, this.#feed);
    if (pointed === undefined) await this.#point(1);
    await disk.remove(this.#place(this.#generation - 1));
    await disk.remove(this.#place(this.#generation + 1));
    await this.rewrite();
    if (!this.#journal) throw new MeshError("store_io", `${directory} cannot be rewritten.`);
  }

  #place(generation: number): string {
    return joinPath(this.#options.directory, String(generation));
  }

  async #pointed(): Promise<number | undefined> {
    const path = joinPath(this.#options.directory, POINTER);
    const bytes = await this.#options.disk.read(path);
    if (!bytes) return undefined;
    const match = /^\{"generation":([1-9][0-9]{0,14})\}\n$/.exec(Buffer.from(bytes).toString("utf8"));
    if (!match) throw new MeshError("store_damaged", `${path} does not name a generation.`);
    return Number(match[1]);
  }

  #point(generation: number): Promise<void> {
    const path = joinPath(this.#options.directory, POINTER);
    return this.#options.disk.replace(path, Buffer.from(`{"generation":${generation}}\n`, "utf8"));
  }

  #openJournal(generation: number, feed: Feed): Promise<Journal> {
    const take = (commit: Commit) => {
      if (!feed.on) return;
      this.#size += commit.place.length;
      this.#options.onCommit(commit);
    };
    return Journal.open({
      disk: this.#options.disk,
      directory: this.#place(generation),
      onCommit: take,
      onDurable: (commits) => commits.forEach(take),
    });
  }

  /**
   * Resolves when the commit is durable and folded. Commits become durable in the order of the calls.
   * @throws MeshError `store_io` when it cannot be made durable, `closed`
   */
  append(draft: Draft): Promise<Commit> {
    const held = this.#held;
    if (!held) return this.#journal?.append(draft) ?? Promise.reject(new MeshError("closed"));
    return new Promise((resolve, reject) => {
      held.push(() => (this.#journal?.append(draft) ?? Promise.reject(new MeshError("closed"))).then(resolve, reject));
    });
  }

  /**
   * Rewrites the journal when more than half of it no longer matters. What is appended meanwhile waits. A rewrite that
   * fails leaves everything as it was, and is logged.
   */
  rewrite(): Promise<void> {
    const { directory, liveSize, rewriteSizeMin = REWRITE_SIZE_MIN, log } = this.#options;
    if (this.#rewriting) return this.#rewriting;
    const isSmall = this.#size < Math.max(rewriteSizeMin, this.#rewriteAbove);
    if (isSmall || liveSize() * 2 > this.#size) return Promise.resolve();
    this.#held = [];
    this.#rewriting = this.#rewrite()
      .catch((error) => {
        this.#rewriteAbove = this.#size + REWRITE_SIZE_MIN;
        log?.(`${directory}: not rewritten: ${error instanceof Error ? error.message : String(error)}`);
      })
      .finally(() => {
        const held = this.#held ?? [];
        this.#held = undefined;
        this.#rewriting = undefined;
        for (const release of held) release();
      });
    return this.#rewriting;
  }

  async #rewrite(): Promise<void> {
    const { disk, log } = this.#options;
    const old = this.#journal;
    if (!old) return;
    await old.drained();
    const next = this.#generation + 1;
    await disk.remove(this.#place(next));
    const feed: Feed = { on: false };
    const fresh = await this.#openJournal(next, feed);
    let size: number;
    try {
      size = await this.#fill(fresh);
      await this.#pointAt(next, old);
    } catch (error) {
      await fresh.close();
      // It may be the space that it takes that is missing. What the pointer may name stays.
      if (this.#journal) await disk.remove(this.#place(next));
      throw error;
    }
    log?.(`${this.#options.directory}: rewritten, ${this.#size} bytes became ${size}`);
    this.#generation = next;
    this.#journal = fresh;
    this.#feed.on = false;
    this.#feed = feed;
    this.#size = size;
    this.#rewriteAbove = size * 2;
    feed.on = true;
    await old.close();
    // If this fails, the next open removes it.
    await disk.remove(this.#place(next - 1));
  }

  /** Writes all that matters into a journal, a batch at a time. Gives its bytes. */
  async #fill(journal: Journal): Promise<number> {
    let size = 0;
    let batchSize = 0;
    let batch: Promise<Commit>[] = [];
    const flush = async () => {
      for (const commit of await Promise.all(batch)) size += commit.place.length;
      batch = [];
      batchSize = 0;
    };
    for (const piece of this.#options.pieces()) {
      batch.push(journal.append(piece.draft));
      batchSize += piece.size;
      if (batchSize >= REWRITE_BATCH_SIZE_MAX) await flush();
    }
    await flush();
    return size;
  }

  /** Points at a filled generation. Where a failed write left the pointer decides which journal is the true one. */
  async #pointAt(next: number, old: Journal): Promise<void> {
    try {
      await this.#point(next);
    } catch (error) {
      let pointed: number | undefined;
      try {
        pointed = await this.#pointed();
      } catch {
        // Nobody can tell which journal the next start reads: nothing more may be written to either.
        this.#journal = undefined;
        await old.close();
        throw error;
      }
      if (pointed !== next) throw error;
    }
  }

  /** Resolves when all that was asked for is durable or has failed. */
  async close(): Promise<void> {
    await this.#rewriting;
    const journal = this.#journal;
    this.#journal = undefined;
    await journal?.close();
  }
}

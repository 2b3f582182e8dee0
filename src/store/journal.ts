import { MeshError } from "../errors.ts";
import { GROUP_SIZE_MAX, SEGMENT_SIZE_MAX } from "../limits.ts";
import { type AppendFile, type Disk, joinPath } from "./disk.ts";
import { GroupBytes } from "./group-bytes.ts";
import {
  type Commit,
  damaged,
  type Entry,
  formatEntries,
  formatLine,
  lineHash,
  type Parts,
  type Place,
  parseLine,
  sealLine,
  segmentName,
  toCommit,
} from "./journal-line.ts";
import { RecentCommits } from "./recent-commits.ts";
import { type CheckedSegment, recover, SegmentCheck } from "./recovery.ts";

// The journal: append-only segments of commits. What is asked for while one group is written shares the next fdatasync.

export type { Commit, Entry, Place, StoredEvent } from "./journal-line.ts";
export type { CheckedSegment } from "./recovery.ts";

/** What is asked of the journal: events and secrets that become durable together. */
export interface Draft {
  readonly at: number;
  readonly entries: readonly Entry[];
  /** Called when the line is written: the key may have changed since the commit was decided. */
  readonly seal?: (number: number) => string;
  /** Runs before the line is written, and must have made durable whatever the events refer to outside the journal. */
  readonly before?: () => Promise<void>;
  /** It may wait for the next one that may not, or for `flush`: both share one fdatasync then. */
  readonly lazy?: boolean;
}

export interface JournalReport {
  /** A torn tail that was cut off: how many bytes, of which segment. */
  readonly cut?: { readonly segment: string; readonly bytes: number };
}

interface Waiting {
  readonly draft: Draft;
  /** Its events as text: made by whoever asks, so that a group has little left to do. */
  readonly entries: Parts;
  readonly resolve: (commit: Commit) => void;
  readonly reject: (error: Error) => void;
}

export interface JournalOptions {
  readonly disk: Disk;
  readonly directory: string;
  /** A commit that is known from elsewhere to have been durable: a journal that ends before it was cut, not torn. */
  readonly known?: number;
  /** Bytes after which a new segment begins. */
  readonly segmentSize?: number | undefined;
  /** Runs before each group: what the lines will be sealed with must be certain by then. */
  readonly ready?: () => Promise<void>;
  /** What an earlier opening or writing has checked (`checked`): such bytes are not read line by line when they are the same still. */
  readonly checked?: readonly CheckedSegment[] | undefined;
  /** Commits up to this one are known already: they are checked, and `onCommit` is not told of them. */
  readonly after?: number | undefined;
  /** Receives the commits on disk, in order, when the journal opens. */
  readonly onCommit?: (commit: Commit) => void;
  /** Called once, before the promises reject, when commits that were asked for could not be made durable. */
  readonly onFailure?: (error: MeshError) => void;
  /** Called with each group as soon as it is durable, in order, before the promises resolve. */
  readonly onDurable?: (commits: readonly Commit[]) => void;
}

/** Waits for all, also when one fails. @throws what the first of them threw */
async function allDone(works: readonly (Promise<void> | undefined)[]): Promise<void> {
  const failed = (await Promise.allSettled(works)).find(({ status }) => status === "rejected");
  if (failed?.status === "rejected") throw failed.reason;
}

export class Journal {
  /** The number of the last durable commit. */
  head = 0;
  report: JournalReport = {};
  readonly #options: JournalOptions;
  /** The segments, the one that is written to last; with what is durable of them. */
  #segments: SegmentCheck[] = [];
  #file: AppendFile | undefined;
  readonly #bytes = new GroupBytes();
  readonly #recent = new RecentCommits();
  #queue: (Waiting | (() => Promise<void>))[] = [];
  #writing: Promise<void> | undefined;
  #broken = false;
  #closed = false;

  private constructor(options: JournalOptions) {
    this.#options = options;
  }

  /**
   * Checks every byte, cuts off a torn tail and opens the last segment.
   * @throws MeshError `store_damaged` naming segment, line and reason; nothing is changed then
   */
  static async open(options: JournalOptions): Promise<Journal> {
    const journal = new Journal(options);
    const { disk, directory, checked = [], after = 0, known = 0, onCommit } = options;
    await disk.makeDirectory(directory);
    const { segments, torn } = await recover({ disk, directory, checked, after, known, onCommit });
    journal.#segments = [...segments];
    const last = segments.at(-1);
    if (!last) return journal;
    journal.head = last.last;
    journal.#file = await disk.append(joinPath(directory, last.segment));
    if (torn) {
      if (torn.bytes > 0) journal.report = { cut: { segment: torn.segment, bytes: torn.bytes } };
      await journal.#file.truncate(torn.offset);
    }
    // What was read may be there only as long as the power is: a process that died had written it and not synced it.
    await journal.#file.sync();
    return journal;
  }

  /** What need not be read line by line when the journal opens next. */
  get checked(): CheckedSegment[] {
    return this.#segments.map(({ checked }) => checked);
  }

  async #beginSegment(): Promise<AppendFile> {
    const full = this.#segments.at(-1);
    if (this.#file && full) {
      // Only the last segment may end in space that was not written to.
      await this.#file.truncate(full.size);
      await this.#file.sync();
      await this.#file.close();
      this.#file = undefined;
    }
    const name = segmentName(this.head + 1);
    this.#file = await this.#options.disk.append(joinPath(this.#options.directory, name));
    if (full?.segment !== name) this.#segments.push(new SegmentCheck(name, full));
    return this.#file;
  }

  /**
   * Resolves when the commit is durable. Commits become durable in the order of the calls; those that wait while one
   * group is written share the next fdatasync.
   * @throws MeshError `store_io` when it cannot be made durable: then it is not on disk, nor is any later one
   */
  append(draft: Draft): Promise<Commit> {
    if (this.#closed) return Promise.reject(new MeshError("closed"));
    return new Promise((resolve, reject) => {
      this.#queue.push({ draft, entries: formatEntries(draft.entries), resolve, reject });
      if (!draft.lazy) this.#wake();
    });
  }

  /**
   * Runs `work` at a moment when every earlier commit is durable, no later one is being written, and nothing that was
   * refused is on disk.
   */
  exclusive(work: () => Promise<void>): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#queue.push(() => this.#mend().then(work).then(resolve, reject));
      this.#wake();
    });
  }

  /** Has what may wait written at once. */
  async flush(): Promise<void> {
    if (this.#queue.length > 0) await this.exclusive(async () => undefined);
  }

  #wake(): void {
    this.#writing ??= this.#drain().finally(() => {
      this.#writing = undefined;
      if (this.#isUrgent) this.#wake();
    });
  }

  /** Whether anything is asked for that may not wait. */
  get #isUrgent(): boolean {
    return this.#queue.some((item) => typeof item === "function" || !item.draft.lazy);
  }

  async #drain(): Promise<void> {
    // One turn of the event loop lets callers of the same moment share a group.
    await Promise.resolve();
    while (this.#isUrgent) {
      const first = this.#queue[0];
      if (typeof first === "function") {
        this.#queue.shift();
        await first();
        continue;
      }
      const group: Waiting[] = [];
      try {
        await this.#writeGroup(group);
      } catch (cause) {
        this.#fail(group, cause);
        // What was refused is taken off the disk as soon as that can be done: the next group tries again.
        await this.#mend().catch(() => undefined);
      }
    }
  }

  /** Takes the commits that wait, up to the next piece of exclusive work or the group's size, into `group`, and writes them. */
  async #writeGroup(group: Waiting[]): Promise<void> {
    const [file, segment] = await this.#writable();
    const commits: Commit[] = [];
    const begin = segment.size;
    const groupStart = this.head + 1;
    let number = this.head;
    let previous = segment.hash;
    let events = 0;
    for (
      let next = this.#queue[0];
      next && typeof next !== "function" && events < GROUP_SIZE_MAX;
      next = this.#queue[0]
    ) {
      this.#queue.shift();
      group.push(next);
      for (const { length } of next.entries) events += length;
    }
    await allDone(group.map(({ draft }) => draft.before?.()));
    this.#bytes.begin();
    for (const { draft, entries } of group) {
      number++;
      const sealed = draft.seal?.(number);
      const offset = begin + this.#bytes.length;
      const line = this.#bytes.add(formatLine({ n: number, t: draft.at, g: groupStart, p: previous }, entries, sealed));
      sealLine(line);
      const length = line.length - 1;
      commits.push({
        number,
        at: draft.at,
        entries: draft.entries,
        place: { segment: segment.segment, offset, length },
        ...(sealed === undefined ? {} : { sealed }),
      });
      previous = lineHash(line.subarray(0, length));
    }
    const bytes = this.#bytes.end();
    this.#broken = true;
    await file.write(bytes);
    const syncing = file.sync();
    // The disk has something to do, and so has the processor.
    const digest = segment.digestWith(bytes);
    await syncing;
    this.#broken = false;
    segment.take(bytes, { last: number, hash: previous }, commits.at(-1)?.place.length ?? 0, digest);
    this.head = number;
    for (const commit of commits) this.#recent.keep(commit);
    this.#publish(commits);
    for (const [index, { resolve }] of group.entries()) {
      const commit = commits[index];
      if (commit) resolve(commit);
    }
  }

  /** Whoever is told of what is on disk cannot take it back by throwing. */
  #publish(commits: readonly Commit[]): void {
    try {
      this.#options.onDurable?.(commits);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  /** Takes off the disk what a refused write left there. */
  async #mend(): Promise<void> {
    if (!this.#file || !this.#broken) return;
    await this.#file.truncate(this.#segments.at(-1)?.size ?? 0);
    await this.#file.sync();
    this.#broken = false;
  }

  /** The file to write to and its segment: mended, and fresh ones when the last is full. */
  async #writable(): Promise<[AppendFile, SegmentCheck]> {
    await this.#options.ready?.();
    await this.#mend();
    const { segmentSize = SEGMENT_SIZE_MAX } = this.#options;
    const isFull = !this.#file || this.#file.size >= segmentSize;
    const file = isFull || !this.#file ? await this.#beginSegment() : this.#file;
    const segment = this.#segments.at(-1);
    if (!segment) throw new Error("a file without a segment");
    return [file, segment];
  }

  #fail(group: readonly Waiting[], cause: unknown): void {
    // What was decided after a lost commit was decided on a state that never came to be.
    const lost = [...group, ...this.#queue.filter((item) => typeof item !== "function")];
    this.#queue = this.#queue.filter((item) => typeof item === "function");
    const where = joinPath(this.#options.directory, this.#segments.at(-1)?.segment ?? "");
    const reason = cause instanceof Error ? cause.message : String(cause);
    const error =
      cause instanceof MeshError && cause.code === "store_io"
        ? cause
        : new MeshError("store_io", `${where}: ${reason}.`, { cause });
    this.#options.onFailure?.(error);
    for (const { reject } of lost) reject(error);
  }

  /** Reads one commit back. */
  async read(place: Place): Promise<Commit> {
    const recent = this.#recent.get(place);
    if (recent) return recent;
    const bytes = await this.#options.disk.readRange(
      joinPath(this.#options.directory, place.segment),
      place.offset,
      place.length,
    );
    const line = parseLine(Buffer.from(bytes));
    if (typeof line === "string") throw damaged(place.segment, undefined, line);
    return toCommit(line, place);
  }

  /** Resolves when all that was asked for so far is durable or has failed. */
  async drained(): Promise<void> {
    await this.flush().catch(() => undefined);
    while (this.#writing) await this.#writing;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.drained();
    // If the disk still refuses, the lines stay: commits of which nobody was told that they are durable.
    await this.#mend().catch(() => undefined);
    await this.#file?.close();
    this.#file = undefined;
  }
}

import { MeshError } from "../errors.ts";
import { GROUP_SIZE_MAX, SEGMENT_SIZE_MAX } from "../limits.ts";
import { type AppendFile, type Disk, joinPath } from "./disk.ts";
import {
  type Commit,
  cutShort,
  damaged,
  type Entry,
  formatLine,
  GENESIS,
  hidesLaterGroup,
  lineHash,
  linesOf,
  misfitOf,
  type Place,
  parseLine,
  segmentName,
  toCommit,
} from "./journal-line.ts";

// The journal: append-only segments of commits. What is asked for while one group is written shares the next fdatasync.

export type { Commit, Entry, Place, StoredEvent } from "./journal-line.ts";

/** What is asked of the journal: events and secrets that become durable together. */
export interface Draft {
  readonly at: number;
  readonly entries: readonly Entry[];
  /** Called when the line is written: the key may have changed since the commit was decided. */
  readonly seal?: (number: number) => string;
  /** Runs before the line is written, and must have made durable whatever the events refer to outside the journal. */
  readonly before?: () => Promise<void>;
}

export interface JournalReport {
  /** A torn tail that was cut off: how many bytes, of which segment. */
  readonly cut?: { readonly segment: string; readonly bytes: number };
}

interface Waiting {
  readonly draft: Draft;
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
  /** Receives every commit on disk, in order, when the journal opens. */
  readonly onCommit?: (commit: Commit) => void;
  /** Called once, before the promises reject, when commits that were asked for could not be made durable. */
  readonly onFailure?: (error: MeshError) => void;
  /** Called with each group as soon as it is durable, in order, before the promises resolve. */
  readonly onDurable?: (commits: readonly Commit[]) => void;
}

export class Journal {
  /** The number of the last durable commit. */
  head = 0;
  report: JournalReport = {};
  readonly #options: JournalOptions;
  #headHash = GENESIS;
  #file: AppendFile | undefined;
  #segment = "";
  #durableSize = 0;
  #queue: (Waiting | (() => Promise<void>))[] = [];
  #writing: Promise<void> | undefined;
  #broken = false;
  #closed = false;

  private constructor(options: JournalOptions) {
    this.#options = options;
  }

  /**
   * Reads and checks every line, cuts off a torn tail and opens the last segment.
   * @throws MeshError `store_damaged` naming segment, line and reason; nothing is changed then
   */
  static async open(options: JournalOptions): Promise<Journal> {
    const journal = new Journal(options);
    const { disk, directory } = options;
    await disk.makeDirectory(directory);
    const segments = (await disk.list(directory)).filter((name) => name.endsWith(".jsonl"));
    if (segments.length === 0 && options.known)
      throw new MeshError("store_damaged", `${directory} is empty, but ${options.known} commits were made.`);
    for (const [index, segment] of segments.entries()) {
      await journal.#recover(segment, index === segments.length - 1);
    }
    const last = segments.at(-1);
    // What was read may be there only as long as the power is: a process that died had written it and not synced it.
    if (last) await (await journal.#openSegment(last)).sync();
    return journal;
  }

  async #recover(segment: string, isLast: boolean): Promise<void> {
    const { disk, directory, onCommit } = this.#options;
    const bytes = (await disk.read(joinPath(directory, segment))) ?? new Uint8Array();
    let lineNumber = 0;
    let torn: { offset: number; number: number; reason: string; line: number } | undefined;
    for (const { text, offset, length, ended } of linesOf(bytes)) {
      lineNumber++;
      const line = ended ? parseLine(text) : "the line does not end";
      if (torn) {
        if (typeof line !== "string" && line.g > torn.number) throw damaged(segment, torn.line, torn.reason);
        continue;
      }
      if (typeof line === "string") {
        torn = { offset, number: this.head + 1, reason: line, line: lineNumber };
        if (!isLast || hidesLaterGroup(text, torn.number)) throw damaged(segment, lineNumber, line);
        continue;
      }
      // A whole line that does not follow the one before was not torn: something else was changed or is missing.
      const misfit = misfitOf(line, this.head, this.#headHash);
      if (misfit !== undefined) throw damaged(segment, lineNumber, misfit);
      this.head = line.n;
      this.#headHash = lineHash(text);
      onCommit?.(toCommit(line, { segment, offset, length }));
    }
    const { known = 0 } = this.#options;
    if (isLast && this.head < known) throw cutShort(segment, torn ?? { line: lineNumber }, this.head, known);
    if (torn) {
      const file = await disk.append(joinPath(directory, segment));
      this.report = { cut: { segment, bytes: file.size - torn.offset } };
      await file.truncate(torn.offset);
      await file.sync();
      await file.close();
    }
  }

  async #openSegment(name: string): Promise<AppendFile> {
    await this.#file?.close();
    this.#segment = name;
    this.#file = await this.#options.disk.append(joinPath(this.#options.directory, name));
    this.#durableSize = this.#file.size;
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
      this.#queue.push({ draft, resolve, reject });
      this.#wake();
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

  #wake(): void {
    this.#writing ??= this.#drain().finally(() => {
      this.#writing = undefined;
      if (this.#queue.length > 0) this.#wake();
    });
  }

  async #drain(): Promise<void> {
    // One turn of the event loop lets callers of the same moment share a group.
    await Promise.resolve();
    while (this.#queue.length > 0) {
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
    const file = await this.#writable();
    const commits: Commit[] = [];
    const lines: string[] = [];
    const groupStart = this.head + 1;
    let number = this.head;
    let previous = this.#headHash;
    let offset = file.size;
    for (let next = this.#queue[0]; next && typeof next !== "function"; next = this.#queue[0]) {
      if (offset - file.size >= GROUP_SIZE_MAX) break;
      this.#queue.shift();
      group.push(next);
      const { draft } = next;
      await draft.before?.();
      number++;
      const sealed = draft.seal?.(number);
      const e = draft.entries.map(({ stream, event, version }) => ({
        s: stream,
        ...(version === undefined ? {} : { v: version }),
        ...event,
      }));
      const line = formatLine({
        n: number,
        t: draft.at,
        g: groupStart,
        p: previous,
        e,
        ...(sealed === undefined ? {} : { k: sealed }),
      });
      const length = Buffer.byteLength(line);
      commits.push({
        number,
        at: draft.at,
        entries: draft.entries,
        place: { segment: this.#segment, offset, length },
        ...(sealed === undefined ? {} : { sealed }),
      });
      lines.push(line, "\n");
      previous = lineHash(line);
      offset += length + 1;
    }
    this.#broken = true;
    await file.write(Buffer.from(lines.join(""), "utf8"));
    await file.sync();
    this.#broken = false;
    this.#durableSize = file.size;
    this.head = number;
    this.#headHash = previous;
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
    await this.#file.truncate(this.#durableSize);
    await this.#file.sync();
    this.#broken = false;
  }

  /** The file to write to: mended, and a fresh segment when the last is full. */
  async #writable(): Promise<AppendFile> {
    await this.#options.ready?.();
    await this.#mend();
    let file = this.#file;
    const { segmentSize = SEGMENT_SIZE_MAX } = this.#options;
    if (!file || file.size >= segmentSize) file = await this.#openSegment(segmentName(this.head + 1));
    return file;
  }

  #fail(group: readonly Waiting[], cause: unknown): void {
    // What was decided after a lost commit was decided on a state that never came to be.
    const lost = [...group, ...this.#queue.filter((item) => typeof item !== "function")];
    this.#queue = this.#queue.filter((item) => typeof item === "function");
    const where = joinPath(this.#options.directory, this.#segment);
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
    const bytes = await this.#options.disk.readRange(
      joinPath(this.#options.directory, place.segment),
      place.offset,
      place.length,
    );
    const line = parseLine(Buffer.from(bytes).toString("utf8"));
    if (typeof line === "string") throw damaged(place.segment, undefined, line);
    return toCommit(line, place);
  }

  /** Resolves when all that was asked for so far is durable or has failed. */
  async drained(): Promise<void> {
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

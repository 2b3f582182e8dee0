import type { Change } from "../../actors/system.ts";
import type { Identity } from "../../crypto/index.ts";
import { asMeshError, MeshError } from "../../errors.ts";
import type { RunContext } from "../../machines/run/events.ts";
import { type AppendFile, type Disk, joinPath } from "../../store/disk.ts";
import type { Commit } from "../../store/journal.ts";
import { readJournal } from "../../store/journal-reader.ts";
import { controllerHome } from "../directory.ts";
import { derivedLines, verifyAudit } from "./reading.ts";
import { type AuditFact, factOf, formatLine, hashOf } from "./record.ts";
import { BEGINNING, closingLine, type Mark, openingLine, segmentName } from "./segment.ts";
import { AUDIT_FILE, bytesOf, endOfRecord, sizeOf } from "./tail.ts";

// The audit record of a cluster: `audit.jsonl`, one JSON line a fact, each with the hash of the line before. It is written
// from the controller's journal, which has every fact on disk before anybody is told of it: what a crash left out is written
// when the cluster is opened next, and what is written can be compared with the journal at any time. See `segment.ts` for how it
// is rotated.

/** Where a cluster's record lies, and what it follows from. */
export const placesOf = (directory: string) => ({
  directory,
  path: joinPath(directory, AUDIT_FILE),
  journal: joinPath(controllerHome(directory), "journal"),
});

export interface AuditOptions {
  readonly disk: Disk;
  /** The cluster's own. */
  readonly directory: string;
  readonly path: string;
  /** The controller's journal. */
  readonly journal: string;
  readonly contextOf: (stream: string) => RunContext | undefined;
  /** The controller's, which signs what is closed. */
  readonly identity: () => Identity;
  readonly note: (text: string) => void;
}

export class AuditLog {
  readonly #options: AuditOptions;
  #file: AppendFile | undefined;
  /** After which line the open segment begins. */
  #begin = BEGINNING;
  /** The line that says so; empty in the first segment. */
  #opening = "";
  /** Where the record ends, waiting lines included. */
  #head = BEGINNING;
  /** The last line of the open segment that is on disk; empty when there is none. */
  #last = "";
  /** What is derived and not yet on disk. */
  #waiting: string[] = [];
  #writing: Promise<void> = Promise.resolve();

  constructor(options: AuditOptions) {
    this.#options = options;
  }

  /** Opens the record and brings it up to the journal's end, commit `position`. @throws MeshError `store_io`, `store_damaged` */
  async open(position: number): Promise<void> {
    const { disk, path, journal, note } = this.#options;
    const end = await endOfRecord(this.#options);
    this.#begin = end.begin;
    this.#opening = end.opening;
    this.#head = end.head;
    this.#last = end.last;
    if (end.problem !== undefined || this.#head.commit > position) await this.#setAside(end.problem);
    // A segment that is closed may still lie under the name of the open one, and a new one may have none yet.
    else if (end.isClosed) await disk.replace(path, this.#bytesOf([]));
    this.#file = await disk.append(path);
    if (this.#file.size > end.size && !end.isClosed) await this.#file.truncate(end.size);
    for await (const commit of readJournal(disk, journal)) this.#take(commit);
    const missing = this.#waiting.length;
    await this.#flush();
    if (missing > 0 && end.head !== BEGINNING)
      note(
        `The audit record was ${missing} lines short, after a crash or because they were taken out: they are written again.`,
      );
  }

  /** Lines of the open segment as its file has them. */
  #bytesOf(lines: readonly string[]): Buffer {
    const opening = this.#opening === "" ? [] : [this.#opening];
    return Buffer.from([...opening, ...lines].map((line) => `${line}\n`).join(""), "utf8");
  }

  /** A record that does not belong to the journal is kept beside, and made anew. */
  async #setAside(problem = "it goes further than the controller's journal"): Promise<void> {
    const { disk, path, note } = this.#options;
    const beside = await this.#keepBeside();
    await disk.remove(path);
    note(`The audit record is damaged (${problem}): it is kept as ${beside}, and written anew from the journal.`);
    this.#begin = BEGINNING;
    this.#opening = "";
    this.#head = BEGINNING;
    this.#last = "";
  }

  async #keepBeside(): Promise<string> {
    const { disk, path } = this.#options;
    const beside = `${path}.${this.#head.seq}.damaged`;
    await disk.replace(beside, (await disk.read(path)) ?? new Uint8Array());
    return beside;
  }

  /** Adds the facts of a commit that are not in the record yet. */
  #take({ number, at, entries }: Commit): void {
    if (number < this.#head.commit) return;
    const facts = entries
      .map((entry) => factOf(entry, this.#options.contextOf))
      .filter((fact) => fact !== undefined)
      .slice(number === this.#head.commit ? this.#head.ofCommit : 0);
    for (const fact of facts) this.#add(number, at, fact);
  }

  #add(commit: number, at: number, fact: AuditFact): void {
    const { seq, hash, ofCommit } = this.#head;
    const line = formatLine(seq + 1, at, commit, fact, hash);
    const again = commit === this.#head.commit ? ofCommit : 0;
    this.#head = { seq: seq + 1, commit, ofCommit: again + 1, hash: hashOf(line) };
    this.#waiting.push(line);
  }

  /** Told of every change, in the order of the commits. */
  onChange({ commit, stream, event, at }: Change): void {
    if (!commit || !this.#file) return;
    const fact = factOf({ stream, event }, this.#options.contextOf);
    if (!fact) return;
    this.#add(commit.number, at, fact);
    this.#flush().catch((error: unknown) => {
      this.#options.note(`The audit record waits for the disk: ${asMeshError(error).message}`);
    });
  }

  /** Writes what waits; what cannot be written goes with the next. */
  #flush(): Promise<void> {
    const written = this.#writing.then(() => this.#write());
    this.#writing = written.catch(() => undefined);
    return written;
  }

  async #write(): Promise<void> {
    const file = this.#file;
    // A copy: what comes while it is written waits for the next.
    const lines = [...this.#waiting];
    const last = lines.at(-1);
    if (!file || last === undefined) return;
    if (!(await this.#isAt(file.size))) return this.#renew(file);
    const before = file.size;
    try {
      await file.write(Buffer.from(lines.map((line) => `${line}\n`).join(""), "utf8"));
      await file.sync();
      // Others read it too: what lies behind its end is not for them.
      await file.truncate(file.size);
    } catch (error) {
      await file.truncate(before).catch(() => undefined);
      throw error;
    }
    this.#waiting = this.#waiting.slice(lines.length);
    this.#last = last;
    // An open file goes on taking what is written when another has got its name.
    if (!(await this.#isAt(file.size))) await this.#renew(file);
  }

  /** Whether the file that has the record's name is as long as what was written, and ends with its last line. */
  async #isAt(size: number): Promise<boolean> {
    if ((await sizeOf(this.#options)) !== size) return false;
    const last = Buffer.from(this.#last === "" ? "" : `${this.#last}\n`);
    return last.equals(await bytesOf(this.#options, Math.max(0, size - last.length), size));
  }

  /** The record was replaced, moved or cut by another program: what lies there is kept beside, and all of it written anew. */
  async #renew(file: AppendFile): Promise<void> {
    const { disk, path, note } = this.#options;
    const { seq, hash } = this.#head;
    const waiting = this.#waiting.length;
    const lines: string[] = [];
    for await (const derived of derivedLines(this.#options))
      if (derived.seq > this.#begin.seq && derived.seq <= seq) lines.push(derived.text);
    const last = lines.at(-1) ?? "";
    if (lines.length !== seq - this.#begin.seq || hashOf(last) !== hash)
      throw new MeshError("store_damaged", "The audit record does not follow from the controller's journal.");
    const beside = (await sizeOf(this.#options)) === 0 ? undefined : await this.#keepBeside();
    await disk.replace(path, this.#bytesOf(lines));
    this.#file = await disk.append(path);
    this.#last = last;
    this.#waiting = this.#waiting.slice(waiting);
    const kept = beside === undefined ? "" : ` What lay there is kept as ${beside}.`;
    note(
      `The audit record was replaced, moved or cut by another program: it is written anew from the journal.${kept} kars-local audit rotate rotates it.`,
    );
    await file.close().catch(() => undefined);
  }

  /**
   * Closes the open segment, which the controller signs, and begins another. Undefined when it has no line.
   * @throws MeshError `store_damaged` when the record is not whole: nothing is signed then; `store_io`
   */
  rotate(at: number): Promise<{ readonly path: string; readonly end: Mark } | undefined> {
    return this.still(async (lines) => {
      const { disk, directory, path } = this.#options;
      const identity = this.#options.identity();
      const file = this.#file;
      const { seq } = this.#begin;
      if (!file || lines === seq) return undefined;
      const { problem } = await verifyAudit({ ...this.#options, did: identity.did }, lines);
      if (problem)
        throw new MeshError(
          "store_damaged",
          `The audit record is not whole, and nothing is signed: line ${problem.line}: ${problem.reason}.`,
        );
      // What was decided meanwhile waits, and goes to the next segment.
      const end = await this.#markAt(lines);
      const closed = joinPath(directory, segmentName(seq + 1, lines));
      const closing = closingLine(identity, seq + 1, end, new Date(at).toISOString());
      const whole = Buffer.concat([(await disk.read(path)) ?? new Uint8Array(), Buffer.from(`${closing}\n`, "utf8")]);
      if (!(await disk.create(closed, whole))) throw new MeshError("store_io", `${closed} is there already.`);
      const opening = this.#opening;
      this.#opening = openingLine(identity, end);
      try {
        await disk.replace(path, this.#bytesOf([]));
        this.#file = await disk.append(path);
      } catch (error) {
        this.#opening = opening;
        await disk.remove(closed);
        throw error;
      }
      this.#begin = end;
      this.#last = this.#opening;
      await file.close().catch(() => undefined);
      return { path: closed, end };
    });
  }

  /** The place after a line, which is on disk. */
  async #markAt(seq: number): Promise<Mark> {
    let mark = BEGINNING;
    for await (const { seq: number, commit, text } of derivedLines(this.#options)) {
      if (number > seq) continue;
      const ofCommit = commit === mark.commit ? mark.ofCommit + 1 : 1;
      mark = { seq: number, commit, ofCommit, hash: hashOf(text) };
    }
    return mark;
  }

  /**
   * Looks at the record when all that is known is on disk, and nothing is being written.
   * @param look is told how many lines there must be
   * @throws MeshError `store_io` when the disk refuses
   */
  async still<T>(look: (lines: number) => Promise<T>): Promise<T> {
    await this.#flush();
    const looked = this.#writing.then(() => look(this.#head.seq - this.#waiting.length));
    this.#writing = looked.then(
      () => undefined,
      () => undefined,
    );
    return looked;
  }

  /** Ends it behind all that is being written; what cannot be written now, or comes later, is written when it is opened next. */
  close(): Promise<void> {
    this.#writing = this.#writing.then(async () => {
      await this.#write().catch(() => undefined);
      const file = this.#file;
      this.#file = undefined;
      await file?.close();
    });
    return this.#writing;
  }
}

/** The failure of a record that cannot be opened, as a note: the work goes on, since the journal has it all. */
export const unopened = (error: unknown): string =>
  `The audit record cannot be opened, and is written when the cluster starts next: ${asMeshError(error).message}`;

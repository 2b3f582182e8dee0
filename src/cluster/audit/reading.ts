import { safeParse } from "../../parse.ts";
import { type Disk, joinPath } from "../../store/disk.ts";
import { readJournal } from "../../store/journal-reader.ts";
import type { AuditOptions } from "./log.ts";
import { AuditLine, factOf, formatLine, GENESIS, hashOf } from "./record.ts";
import { flawOfSignature, parseClosing, parseOpening, segmentsOf } from "./segment.ts";

// The audit record as it is read: lines by grant and time, and the proof that they are what was written.

/** A line's content; undefined when it is none. */
export function parseLine(text: string): AuditLine | undefined {
  try {
    return safeParse(AuditLine, JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/** Every line of a record, in order, as text. */
export async function* linesOf(disk: Disk, path: string): AsyncGenerator<string> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const piece of disk.pieces(path)) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
  const end = rest.replace(/\0+$/, "");
  if (end !== "") yield end;
}

export interface AuditQuery {
  readonly grant?: string | undefined;
  /** Epoch milliseconds. */
  readonly since?: number | undefined;
  readonly limit: number;
}

/** A file of the record, and which lines it has. */
interface Part {
  readonly name: string;
  readonly path: string;
  readonly first: number;
  /** Infinity in the open segment. */
  readonly last: number;
}

/** The segments of the record that lie here, in order: those that are closed, and the open one. */
async function partsOf({ disk, directory, path }: Pick<AuditOptions, "disk" | "directory" | "path">): Promise<Part[]> {
  const first = linesOf(disk, path);
  const { value } = await first.next();
  await first.return(undefined);
  const opening = parseOpening(value ?? "");
  const closed = segmentsOf(await disk.list(directory))
    // A rotation that was broken off, or a record that was begun anew, leaves lines in both: the open one is meant.
    .filter(({ last }) => last <= (opening?.after ?? 0))
    .map((segment) => ({ ...segment, path: joinPath(directory, segment.name) }));
  return [...closed, { name: "", path, first: (opening?.after ?? 0) + 1, last: Number.POSITIVE_INFINITY }];
}

/** The newest lines that are asked for, oldest first, and how many there are in all. */
export async function readAudit(
  options: Pick<AuditOptions, "disk" | "directory" | "path">,
  { grant, since, limit }: AuditQuery,
): Promise<{ readonly entries: AuditLine[]; readonly total: number }> {
  let entries: AuditLine[] = [];
  let total = 0;
  for (const { path } of await partsOf(options)) {
    for await (const text of linesOf(options.disk, path)) {
      const line = parseLine(text);
      if (!line || (grant !== undefined && line.grant !== grant)) continue;
      if (since !== undefined && !(Date.parse(line.at) >= since)) continue;
      total++;
      entries.push(line);
      if (entries.length > 2 * limit) entries = entries.slice(-limit);
    }
  }
  return { entries: entries.slice(-limit), total };
}

export interface Verdict {
  readonly lines: number;
  /** SHA-256 of the last line: kept elsewhere, it shows later that nothing before it was changed. */
  readonly head: string;
  /** The first line that is not as it was written, and why; null when all are. */
  readonly problem: { readonly line: number; readonly reason: string } | null;
}

/** A line as it follows from the journal. */
interface DerivedLine {
  readonly seq: number;
  readonly commit: number;
  readonly text: string;
  /** SHA-256 of the line before. */
  readonly prev: string;
}

/** The whole record as it follows from the controller's journal. @throws MeshError `store_damaged` when the journal is */
export async function* derivedLines({
  disk,
  journal,
  contextOf,
}: Pick<AuditOptions, "disk" | "journal" | "contextOf">): AsyncGenerator<DerivedLine> {
  let seq = 0;
  let prev = GENESIS;
  for await (const { number, at, entries } of readJournal(disk, journal)) {
    for (const entry of entries) {
      const fact = factOf(entry, contextOf);
      if (!fact) continue;
      const text = formatLine(++seq, at, number, fact, prev);
      yield { seq, commit: number, text, prev };
      prev = hashOf(text);
    }
  }
}

/**
 * Compares the record with its own chain and, line by line, with the controller's journal. Closed segments that were taken
 * elsewhere are passed over, and what follows must go on from them.
 * @param options.did the controller's, which signed what is closed
 * @param wanted how many lines there must be
 * @throws MeshError `store_damaged` when the journal is
 */
export async function verifyAudit(
  options: Pick<AuditOptions, "disk" | "directory" | "path" | "journal" | "contextOf"> & { readonly did: string },
  wanted: number,
): Promise<Verdict> {
  let count = 0;
  let head = GENESIS;
  const parts = await partsOf(options);
  let part: Part | undefined;
  let lines: AsyncGenerator<string> | undefined;
  const wrong = (reason: string): Verdict => {
    const where = part === undefined || part.name === "" ? "" : `in ${part.name}: `;
    return { lines: count, head, problem: { line: count, reason: where + reason } };
  };
  /** Goes to the part that has the line after `count`, at its first line. What is wrong, if something is. */
  async function begin(): Promise<string | undefined> {
    const next = parts[0];
    if (!next || next.first > count + 1) return undefined;
    parts.shift();
    part = next;
    lines = linesOf(options.disk, next.path);
    if (next.first === 1) return undefined;
    const opening = parseOpening((await lines.next()).value ?? "");
    if (opening?.after !== count || opening.prev !== head)
      return "its first line does not go on from the line before it: one of the two was changed";
    const flaw = flawOfSignature(opening, options.did);
    return flaw === undefined ? undefined : `of the line before it, which begins the segment: ${flaw}`;
  }
  /** Comes to the end of a part. What is wrong there, if something is. */
  async function finish(): Promise<string | undefined> {
    const { value, done } = (await lines?.next()) ?? { done: true, value: undefined };
    if (part?.name === "") return done ? undefined : "the controller's journal knows nothing of it";
    const closing = done ? undefined : parseClosing(value ?? "");
    if (!closing) return "the line that closes the segment is missing behind it";
    const flaw = flawOfSignature(closing, options.did);
    const isIts = closing.first === part?.first && closing.last === count && closing.prev === head;
    return flaw ?? (isIts ? undefined : "the line that closes the segment means other lines");
  }
  try {
    for await (const derived of derivedLines(options)) {
      if (derived.seq > wanted) continue;
      const isAmiss = part ? undefined : await begin();
      if (isAmiss !== undefined) {
        count++;
        return wrong(isAmiss);
      }
      count++;
      if (part) {
        const { value: text, done } = (await lines?.next()) ?? { done: true, value: undefined };
        if (done) return wrong("it is missing, and so is all behind it: the record was cut off");
        if (text !== derived.text) return wrong(flawOf(text, derived));
      }
      head = hashOf(derived.text);
      if (part?.last !== count) continue;
      const flaw = await finish();
      if (flaw !== undefined) return wrong(flaw);
      await lines?.return(undefined);
      part = undefined;
    }
    const isAmiss = part ? undefined : await begin();
    const flaw = isAmiss ?? (part ? await finish() : "the record is missing");
    if (flaw === undefined) return { lines: count, head, problem: null };
    count++;
    return wrong(flaw);
  } finally {
    // Who stops early leaves the file open.
    await lines?.return(undefined);
  }
}

function flawOf(text: string, { seq, prev }: DerivedLine): string {
  const line = parseLine(text);
  if (line === undefined) return "it is no line of the record";
  if (line.seq !== seq) return `it has number ${line.seq}: lines are missing, or stand in another order`;
  if (line.prev !== prev) return "it does not follow from the line before: one of the two was changed";
  return "it says something else than the controller's journal";
}

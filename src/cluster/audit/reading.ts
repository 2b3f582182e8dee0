import { safeParse } from "../../parse.ts";
import type { Disk } from "../../store/disk.ts";
import { readJournal } from "../../store/journal-reader.ts";
import type { AuditOptions } from "./log.ts";
import { AuditLine, factOf, formatLine, GENESIS, hashOf } from "./record.ts";

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
async function* linesOf(disk: Disk, path: string): AsyncGenerator<string> {
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

/** The newest lines that are asked for, oldest first, and how many there are in all. */
export async function readAudit(
  { disk, path }: Pick<AuditOptions, "disk" | "path">,
  { grant, since, limit }: AuditQuery,
): Promise<{ readonly entries: AuditLine[]; readonly total: number }> {
  let entries: AuditLine[] = [];
  let total = 0;
  for await (const text of linesOf(disk, path)) {
    const line = parseLine(text);
    if (!line || (grant !== undefined && line.grant !== grant)) continue;
    if (since !== undefined && !(Date.parse(line.at) >= since)) continue;
    total++;
    entries.push(line);
    if (entries.length > 2 * limit) entries = entries.slice(-limit);
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
      yield { seq, text, prev };
      prev = hashOf(text);
    }
  }
}

/**
 * Compares the record with its own chain and, line by line, with the controller's journal.
 * @param wanted how many lines there must be
 * @throws MeshError `store_damaged` when the journal is
 */
export async function verifyAudit(
  options: Pick<AuditOptions, "disk" | "path" | "journal" | "contextOf">,
  wanted: number,
): Promise<Verdict> {
  const lines = linesOf(options.disk, options.path);
  let count = 0;
  let head = GENESIS;
  const wrong = (reason: string): Verdict => ({ lines: count, head, problem: { line: count, reason } });
  try {
    for await (const derived of derivedLines(options)) {
      if (derived.seq > wanted) continue;
      const { value: text, done } = await lines.next();
      count++;
      if (done) return wrong("it is missing, and so is all behind it: the record was cut off");
      if (text !== derived.text) return wrong(flawOf(text, derived));
      head = hashOf(text);
    }
    const { done } = await lines.next();
    if (done) return { lines: count, head, problem: null };
    count++;
    return wrong("the controller's journal knows nothing of it");
  } finally {
    // Who stops early leaves the file open.
    await lines.return(undefined);
  }
}

function flawOf(text: string, { seq, prev }: DerivedLine): string {
  const line = parseLine(text);
  if (line === undefined) return "it is no line of the record";
  if (line.seq !== seq) return `it has number ${line.seq}: lines are missing, or stand in another order`;
  if (line.prev !== prev) return "it does not follow from the line before: one of the two was changed";
  return "it says something else than the controller's journal";
}

import { joinPath } from "../../store/disk.ts";
import { AUDIT_TAIL_SIZE, SEGMENT_LINE_SIZE_MAX } from "../limits.ts";
import type { AuditOptions } from "./log.ts";
import { parseLine } from "./reading.ts";
import { hashOf } from "./record.ts";
import {
  BEGINNING,
  beginOf,
  endOf,
  type Mark,
  openingLine,
  parseClosing,
  parseOpening,
  segmentsOf,
} from "./segment.ts";

// Where the audit record ends, by the last bytes of its files.

export const AUDIT_FILE = "audit.jsonl";

type Places = Pick<AuditOptions, "disk" | "directory" | "path">;

/** Bytes of the file that has the record's name now; 0 when none has. */
export async function sizeOf({ disk, directory, path }: Places): Promise<number> {
  const isThere = (await disk.list(directory)).includes(AUDIT_FILE);
  return isThere ? ((await disk.size(path)) ?? 0) : 0;
}

export async function bytesOf({ disk, path }: Places, begin: number, end: number): Promise<Buffer> {
  return Buffer.from(begin === end ? [] : await disk.readRange(path, begin, end - begin));
}

export interface RecordEnd {
  /** After which line the open segment begins, and the line that says so; empty in the first segment. */
  readonly begin: Mark;
  readonly opening: string;
  readonly head: Mark;
  /** The last whole line of the open segment; empty when there is none. */
  readonly last: string;
  /** How many bytes the whole lines end at. */
  readonly size: number;
  /** A closed segment has all its lines: a new one is to begin. */
  readonly isClosed?: boolean;
  readonly problem?: string;
}

const NOTHING: RecordEnd = { begin: BEGINNING, opening: "", head: BEGINNING, last: "", size: 0 };

export async function endOfRecord(options: Places & Pick<AuditOptions, "identity">): Promise<RecordEnd> {
  const closed = await closedEnd(options);
  const size = await sizeOf(options);
  const tail = Math.max(0, size - AUDIT_TAIL_SIZE);
  const bytes = await bytesOf(options, tail, size);
  const whole = bytes.lastIndexOf("\n") + 1;
  const lines = bytes.subarray(0, whole).toString("utf8").split("\n").slice(0, -1);
  const last = lines.at(-1);
  const parsed = last === undefined ? undefined : parseLine(last);
  // A rotation that a crash broke off is brought to its end.
  if (closed && (last === undefined || parsed?.seq === closed.seq)) {
    const opening = openingLine(options.identity(), closed);
    return { begin: closed, opening, head: closed, last: opening, size: 0, isClosed: true };
  }
  if (last === undefined) return NOTHING;
  const first =
    (await bytesOf(options, 0, Math.min(size, SEGMENT_LINE_SIZE_MAX))).toString("utf8").split("\n")[0] ?? "";
  const opened = parseOpening(first);
  const begin = opened ? beginOf(opened) : BEGINNING;
  const opening = opened ? first : "";
  if (opening === last) return { begin, opening, head: begin, last, size: whole };
  if (!parsed) return { ...NOTHING, problem: "its last line is none" };
  const { seq, commit } = parsed;
  const here = lines.filter((line) => parseLine(line)?.commit === commit).length;
  const ofCommit = here + (begin.commit === commit ? begin.ofCommit : 0);
  return { begin, opening, head: { seq, commit, ofCommit, hash: hashOf(last) }, last, size: tail + whole };
}

/** Where the newest closed segment ends; undefined when there is none here. */
async function closedEnd({ disk, directory }: Places): Promise<Mark | undefined> {
  const newest = segmentsOf(await disk.list(directory)).at(-1);
  if (!newest) return undefined;
  const path = joinPath(directory, newest.name);
  const size = (await disk.size(path)) ?? 0;
  const begin = Math.max(0, size - SEGMENT_LINE_SIZE_MAX);
  const bytes = Buffer.from(size === 0 ? [] : await disk.readRange(path, begin, size - begin));
  const closing = parseClosing(bytes.toString("utf8").trimEnd().split("\n").at(-1) ?? "");
  return closing && endOf(closing);
}

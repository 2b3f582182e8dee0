import { createHash, type Hash } from "node:crypto";
import { MeshError } from "../errors.ts";
import { type Disk, joinPath } from "./disk.ts";
import {
  type Commit,
  cutShort,
  damaged,
  GENESIS,
  hidesLaterGroup,
  lineHash,
  linesOf,
  misfitOf,
  parseHead,
  parseLine,
  toCommit,
} from "./journal-line.ts";

// Reading a journal when it opens. Every byte of it is checked each time. Bytes that were checked line by line once, when
// they were written or read, need only be the same bytes still; what is new, or is not the same, is read line by line.

/** What was checked of a segment. */
export interface CheckedSegment {
  readonly segment: string;
  /** Bytes from its beginning: whole lines. */
  readonly size: number;
  /** SHA-256 of these bytes, base64url. */
  readonly digest: string;
  /** Bytes of the last of these lines, without the newline. */
  readonly tail: number;
}

/** Where a chain of commits ends. */
interface ChainEnd {
  /** The number of the last commit. */
  readonly last: number;
  /** The hash of its line. */
  readonly hash: string;
}

/** A segment while it is read or written: how far it goes, and what its digest stands at. */
export class SegmentCheck implements ChainEnd {
  readonly segment: string;
  size = 0;
  last: number;
  hash: string;
  #tail = 0;
  #digest: Hash = createHash("sha256");

  constructor(segment: string, before: ChainEnd = { last: 0, hash: GENESIS }) {
    this.segment = segment;
    this.last = before.last;
    this.hash = before.hash;
  }

  /** The digest as it will stand with further bytes: to be computed before it is known whether they are taken. */
  digestWith(bytes: Uint8Array): Hash {
    return this.#digest.copy().update(bytes);
  }

  /**
   * Takes further bytes, which end with this commit, whose line has so many bytes.
   * @param digest what `digestWith` gave for them, if it was asked
   */
  take(bytes: Uint8Array, { last, hash }: ChainEnd, tail: number, digest?: Hash): void {
    this.#digest = digest ?? this.#digest.update(bytes);
    this.size += bytes.length;
    this.last = last;
    this.hash = hash;
    this.#tail = tail;
  }

  get checked(): CheckedSegment {
    const { segment, size } = this;
    return { segment, size, digest: this.#digest.copy().digest("base64url"), tail: this.#tail };
  }

  /**
   * Takes what is known of the segment if its bytes are still the same and hold no commit behind `after`.
   * @returns what lies behind them; undefined, and nothing taken, otherwise
   */
  async match(disk: Disk, path: string, known: CheckedSegment, after: number): Promise<Uint8Array | undefined> {
    const end = await endOf(disk, path, known);
    if (!end || end.last > after) return undefined;
    const digest = createHash("sha256");
    const behind: Uint8Array[] = [];
    let left = known.size;
    for await (const piece of disk.pieces(path)) {
      digest.update(piece.subarray(0, left));
      if (piece.length > left) behind.push(piece.slice(left));
      left = Math.max(0, left - piece.length);
    }
    if (left > 0 || digest.copy().digest("base64url") !== known.digest) return undefined;
    this.size = known.size;
    this.last = end.last;
    this.hash = end.hash;
    this.#tail = known.tail;
    this.#digest = digest;
    return Buffer.concat(behind);
  }
}

/** The chain's end as the last line of what is known says; undefined when the segment does not hold it. */
async function endOf(disk: Disk, path: string, { size, tail }: CheckedSegment): Promise<ChainEnd | undefined> {
  if (size <= tail || ((await disk.size(path)) ?? 0) < size) return undefined;
  const line = Buffer.from(await disk.readRange(path, size - 1 - tail, tail));
  const head = parseHead(line);
  return typeof head === "string" ? undefined : { last: head.n, hash: lineHash(line) };
}

export interface RecoveryOptions {
  readonly disk: Disk;
  readonly directory: string;
  /** What an earlier opening or writing has checked. It may be wrong: that costs time and hides nothing. */
  readonly checked: readonly CheckedSegment[];
  /** Commits up to this one are checked and not handed out. */
  readonly after: number;
  /** As many commits are known to have been durable. */
  readonly known: number;
  readonly onCommit: ((commit: Commit) => void) | undefined;
}

/** Bytes at a segment's end that are no commits: they were never synced. */
export interface Torn {
  readonly segment: string;
  /** Where they begin. */
  readonly offset: number;
  /** How many there are, without the zeros of space that was made ready and not written to. */
  readonly bytes: number;
}

export interface Recovered {
  /** Every segment, the last one last. */
  readonly segments: readonly SegmentCheck[];
  readonly torn: Torn | undefined;
}

/**
 * Reads and checks every segment.
 * @throws MeshError `store_damaged` naming segment, line and reason
 */
export async function recover(options: RecoveryOptions): Promise<Recovered> {
  const { disk, directory, checked, after, known } = options;
  const names = (await disk.list(directory)).filter((name) => name.endsWith(".jsonl"));
  if (names.length === 0 && known > 0)
    throw new MeshError("store_damaged", `${directory} is empty, but ${known} commits were made.`);
  const segments: SegmentCheck[] = [];
  let torn: Torn | undefined;
  let isSame = true;
  for (const [index, name] of names.entries()) {
    const check = new SegmentCheck(name, segments.at(-1));
    segments.push(check);
    const first = check.last + 1;
    const path = joinPath(directory, name);
    const past = checked[index];
    const behind: Uint8Array | undefined =
      isSame && past?.segment === name ? await check.match(disk, path, past, after) : undefined;
    // A segment follows from the one before: behind one that has changed, or grown, nothing is known.
    isSame = behind?.length === 0;
    const bytes = behind ?? (await disk.read(path)) ?? new Uint8Array();
    torn = readLines(check, bytes, { ...options, first, isLast: index === names.length - 1 });
  }
  return { segments, torn };
}

/** Reads what lies behind the bytes that `check` has taken already. */
function readLines(
  check: SegmentCheck,
  bytes: Uint8Array,
  options: RecoveryOptions & { readonly first: number; readonly isLast: boolean },
): Torn | undefined {
  const { segment, size: begin } = check;
  const { first, isLast, after, known, onCommit } = options;
  let torn: { readonly offset: number; readonly reason: string; readonly line: number } | undefined;
  for (const { line, offset, length, ended } of linesOf(bytes)) {
    // A line a commit, so the commits say how many lines there were.
    const lineNumber = check.last - first + 2;
    const read = ended && check.last >= after ? parseLine(line) : undefined;
    const content = ended ? (read ?? parseHead(line)) : "the line does not end";
    if (torn) {
      if (typeof content !== "string" && content.g > check.last + 1) throw damaged(segment, torn.line, torn.reason);
      continue;
    }
    if (typeof content === "string") {
      if (!isLast || hidesLaterGroup(line, check.last + 1)) throw damaged(segment, lineNumber, content);
      torn = { offset, reason: content, line: lineNumber };
      continue;
    }
    // A whole line that does not follow the one before was not torn: something else was changed or is missing.
    const misfit = misfitOf(content, check.last, check.hash);
    if (misfit !== undefined) throw damaged(segment, lineNumber, misfit);
    const place = { segment, offset: begin + offset, length };
    check.take(bytes.subarray(offset, offset + length + 1), { last: content.n, hash: lineHash(line) }, length);
    if (typeof read === "object") onCommit?.(toCommit(read, place));
  }
  if (isLast && check.last < known)
    throw cutShort(segment, torn ?? { line: check.last - first + 1 }, check.last, known);
  return torn && { segment, offset: begin + torn.offset, bytes: lengthWithoutZeros(bytes) - torn.offset };
}

function lengthWithoutZeros(bytes: Uint8Array): number {
  let length = bytes.length;
  while (length > 0 && bytes[length - 1] === 0) length--;
  return length;
}

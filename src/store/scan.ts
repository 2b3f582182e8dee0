import { type Disk, joinPath } from "./disk.ts";
import {
  type Commit,
  GENESIS,
  hidesLaterGroup,
  lineHash,
  linesOf,
  misfitOf,
  parseLine,
  toCommit,
} from "./journal-line.ts";

// How sound a journal is: every line's checksum, number and hash chain. Nothing is changed, and no key is needed; it may be
// read beside its owner, whose last lines may not be whole yet.

export interface JournalScan {
  readonly segments: number;
  readonly bytes: number;
  /** The longest sound prefix: its last commit, when that was made (epoch milliseconds), and where it ends. */
  readonly head: number;
  readonly at: number | null;
  readonly end: { readonly segment: string; readonly offset: number } | undefined;
  /** What a crash left of its last group: opening cuts it off. */
  readonly torn: { readonly segment: string; readonly bytes: number } | undefined;
  readonly damage: { readonly segment: string; readonly line: number; readonly reason: string } | undefined;
  /** Whole commits behind the damage: the highest number, how many, and when the first of them was made. */
  readonly behind: { readonly head: number; readonly commits: number; readonly from: number | null };
}

export interface Readers {
  /** Each commit of the sound prefix, in order. */
  readonly onSound?: (commit: Commit) => void;
  /** Each whole commit behind the damage. */
  readonly onBehind?: (commit: Commit) => void;
}

export const segmentsOf = async (disk: Disk, directory: string): Promise<string[]> =>
  (await disk.list(directory)).filter((name) => name.endsWith(".jsonl"));

/** Reads a whole journal. @throws MeshError `store_io` when a file cannot be read */
export async function scanJournal(
  disk: Disk,
  directory: string,
  { onSound, onBehind }: Readers = {},
): Promise<JournalScan> {
  const segments = await segmentsOf(disk, directory);
  let bytes = 0;
  let head = 0;
  let at: number | null = null;
  let hash = GENESIS;
  let end: JournalScan["end"];
  let broken: { segment: string; line: number; reason: string; offset: number; size: number } | undefined;
  let isDamage = false;
  const behind = { head: 0, commits: 0, from: null as number | null };
  for (const [index, segment] of segments.entries()) {
    const content = (await disk.read(joinPath(directory, segment))) ?? new Uint8Array();
    bytes += content.length;
    // What follows a broken segment was written after it.
    if (broken && broken.segment !== segment) isDamage = true;
    if (!broken) end = { segment, offset: 0 };
    let number = 0;
    for (const { line: raw, offset, length, ended } of linesOf(content)) {
      number++;
      const line = ended ? parseLine(raw) : "the line does not end";
      const reason = typeof line === "string" ? line : broken ? undefined : misfitOf(line, head, hash);
      if (!broken && reason !== undefined) {
        broken = { segment, line: number, reason, offset, size: content.length };
        // A whole line that does not fit was not torn, nor was one in front of what was written later.
        isDamage = typeof line !== "string" || index < segments.length - 1 || hidesLaterGroup(raw, head + 1);
      }
      if (typeof line === "string") continue;
      const commit = toCommit(line, { segment, offset, length });
      if (broken) {
        if (line.g > head + 1) isDamage = true;
        behind.head = Math.max(behind.head, line.n);
        behind.commits++;
        behind.from ??= line.t;
        onBehind?.(commit);
        continue;
      }
      head = line.n;
      at = line.t;
      hash = lineHash(raw);
      end = { segment, offset: offset + length + 1 };
      onSound?.(commit);
    }
  }
  return {
    segments: segments.length,
    bytes,
    head,
    at,
    end,
    torn: broken && !isDamage ? { segment: broken.segment, bytes: broken.size - broken.offset } : undefined,
    damage: broken && isDamage ? { segment: broken.segment, line: broken.line, reason: broken.reason } : undefined,
    behind,
  };
}

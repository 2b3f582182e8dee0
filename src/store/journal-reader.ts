import { type Disk, joinPath } from "./disk.ts";
import { type Commit, damaged, hidesLaterGroup, linesOf, parseLine, toCommit } from "./journal-line.ts";

// The journal as a reader sees it who does not own it.

/** Where reading goes on: behind the commit of this number. */
export type ReadFrom = Pick<Commit, "number" | "place">;

/**
 * Every commit on disk, in order, of one stream if one is named: without owning the journal, so beside its owner too. The
 * lines that are not whole yet at its end are left out.
 * @throws MeshError `store_damaged` when a line in the middle is broken
 */
export async function* readJournal(
  disk: Disk,
  directory: string,
  stream?: string,
  from?: ReadFrom,
): AsyncGenerator<Commit> {
  const names = (await disk.list(directory)).filter((name) => name.endsWith(".jsonl"));
  const segments = names.filter((name) => from === undefined || name >= from.place.segment);
  let previous = from?.number ?? 0;
  for (const [index, segment] of segments.entries()) {
    const begin = segment === from?.place.segment ? from.place.offset + from.place.length + 1 : 0;
    const bytes = await readFrom(disk, joinPath(directory, segment), begin);
    let torn: { readonly line: number; readonly reason: string } | undefined;
    let lineNumber = 0;
    for (const { line: raw, offset, length, ended } of linesOf(bytes)) {
      lineNumber++;
      const text = raw.toString("utf8");
      // A stream's name stands in the line as it is, so most lines are passed over unparsed.
      const passed = ended && !torn && stream !== undefined && !text.includes(JSON.stringify(stream));
      const number = Number(/^\{"n":(\d+),/.exec(text)?.[1] ?? previous + 1);
      const line = passed ? undefined : ended ? parseLine(raw) : "the line does not end";
      if (typeof line === "string") {
        if (index < segments.length - 1 || hidesLaterGroup(raw, previous + 1)) throw damaged(segment, lineNumber, line);
        torn ??= { line: lineNumber, reason: line };
      } else if (torn) {
        if (line && line.g > previous + 1) throw damaged(segment, torn.line, torn.reason);
      } else {
        previous = number;
        if (line) yield toCommit(line, { segment, offset: begin + offset, length });
      }
    }
  }
}

async function readFrom(disk: Disk, path: string, begin: number): Promise<Uint8Array> {
  if (begin === 0) return (await disk.read(path)) ?? new Uint8Array();
  const size = (await disk.size(path)) ?? 0;
  return size <= begin ? new Uint8Array() : disk.readRange(path, begin, size - begin);
}

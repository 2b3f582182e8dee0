import { type Disk, joinPath } from "./disk.ts";
import { type Commit, damaged, hidesLaterGroup, linesOf, parseLine, toCommit } from "./journal-line.ts";

// The journal as a reader sees it who does not own it.

/**
 * Every commit on disk, in order, of one stream if one is named: without owning the journal, so beside its owner too. The
 * lines that are not whole yet at its end are left out.
 * @throws MeshError `store_damaged` when a line in the middle is broken
 */
export async function* readJournal(disk: Disk, directory: string, stream?: string): AsyncGenerator<Commit> {
  const segments = (await disk.list(directory)).filter((name) => name.endsWith(".jsonl"));
  let previous = 0;
  for (const [index, segment] of segments.entries()) {
    const bytes = (await disk.read(joinPath(directory, segment))) ?? new Uint8Array();
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
        if (line) yield toCommit(line, { segment, offset, length });
      }
    }
  }
}

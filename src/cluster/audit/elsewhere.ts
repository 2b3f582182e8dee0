import { MeshError } from "../../errors.ts";
import { realDisk } from "../../store/disk.ts";
import { tellingDisk } from "../../store/disk-errors.ts";
import { linesOf, parseLine } from "./reading.ts";
import { GENESIS, hashOf } from "./record.ts";
import { type Closing, flawOfSignature, parseClosing, parseOpening } from "./segment.ts";

// A closed segment of an audit record, checked without the cluster: what it takes is the file and the controller's DID.

export interface SegmentVerdict {
  /** The first and last line, by their number in the record; 0 when there are none. */
  readonly first: number;
  readonly last: number;
  /** SHA-256 of the line before the first, hex: the last of the segment before. */
  readonly follows: string;
  /** SHA-256 of the last line. */
  readonly head: string;
  /** The first line of the file that is not as it was signed, and why; null when all are. */
  readonly problem: { readonly line: number; readonly reason: string } | null;
}

/** @param did the controller's @throws MeshError `input_invalid` when there is no such file, `store_io` */
export async function verifySegment(path: string, did: string): Promise<SegmentVerdict> {
  const disk = tellingDisk(realDisk);
  // An empty file has lines neither, and is told as what it is.
  if ((await disk.read(path)) === undefined) throw new MeshError("input_invalid", `There is no file ${path}.`);
  let row = 0;
  let first = 0;
  let last = 0;
  let follows = GENESIS;
  let head = GENESIS;
  let closing: Closing | undefined;
  const verdict = (reason?: string): SegmentVerdict => ({
    ...{ first, last, follows, head },
    problem: reason === undefined ? null : { line: row, reason },
  });
  for await (const text of linesOf(disk, path)) {
    row++;
    if (closing) return verdict("something follows the line that closes the segment");
    const opening = row === 1 ? parseOpening(text) : undefined;
    if (opening) {
      const flaw = flawOfSignature(opening, did);
      if (flaw !== undefined) return verdict(flaw);
      last = opening.after;
      follows = opening.prev;
      head = opening.prev;
      continue;
    }
    closing = parseClosing(text);
    if (closing) continue;
    const line = parseLine(text);
    if (!line) return verdict("it is no line of the record");
    if (line.seq !== last + 1)
      return verdict(`it has number ${line.seq} in place of ${last + 1}: lines are missing, or stand in another order`);
    if (line.prev !== head) return verdict("it does not follow from the line before: one of the two was changed");
    if (first === 0) first = line.seq;
    last = line.seq;
    head = hashOf(text);
  }
  if (!closing)
    return verdict(
      "the segment was cut off, or it was never closed: nothing in it is signed before kars-local audit rotate",
    );
  const flaw = flawOfSignature(closing, did);
  if (flaw !== undefined) return verdict(flaw);
  if (closing.first !== first || closing.last !== last || closing.prev !== head)
    return verdict("the lines before it are not those that were signed");
  return verdict();
}

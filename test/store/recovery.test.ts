import { cp, readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { realDisk } from "../../src/store/disk.ts";
import { type CheckedSegment, type Commit, Journal, type JournalOptions } from "../../src/store/journal.ts";
import { readJournal } from "../../src/store/journal-reader.ts";
import { diskWith, temporaryDirectory } from "./disks.ts";

const draft = (text: string) => ({ at: 1, entries: [{ stream: "s/1", event: { type: "SAID", text } }] });
const said = (commits: readonly Commit[]) => commits.map(({ entries }) => entries[0]?.event.text);
const TEXTS = ["one", "two", "three", "four", "five", "six"];

async function open(directory: string, options: Partial<JournalOptions> = {}) {
  const recovered: Commit[] = [];
  const journal = await Journal.open({
    disk: realDisk,
    directory,
    onCommit: (commit) => recovered.push(commit),
    ...options,
  });
  return { journal, recovered };
}

/** A closed journal of three segments with two commits each, and what was checked of it. */
async function segmented(): Promise<{ directory: string; checked: CheckedSegment[] }> {
  const directory = await temporaryDirectory();
  const { journal } = await open(directory, { segmentSize: 150 });
  for (const text of TEXTS) await journal.append(draft(text));
  const { checked } = journal;
  await journal.close();
  expect(await readdir(directory)).toHaveLength(3);
  return { directory, checked };
}

/** A disk that tells which segments were read line by line. */
function watched() {
  const read: string[] = [];
  const disk = diskWith({}, { read: (path) => realDisk.read(path).finally(() => read.push(path.slice(-18, -6))) });
  return { disk, read };
}

const flipped = (bytes: Buffer, at: number) => {
  const changed = Buffer.from(bytes);
  changed[at] = (changed[at] ?? 0) ^ 1;
  return changed;
};

describe("a journal that was checked before", () => {
  it("is not read line by line again, and goes on where it ended", async () => {
    const { directory, checked } = await segmented();
    const { disk, read } = watched();
    const { journal, recovered } = await open(directory, { disk, checked, after: 6 });
    expect([read, recovered, journal.head]).toEqual([[], [], 6]);
    expect(journal.checked).toEqual(checked);
    expect((await journal.append(draft("seven"))).number).toBe(7);
    await journal.close();
    const whole = await open(directory);
    expect(said(whole.recovered)).toEqual([...TEXTS, "seven"]);
    expect(whole.journal.checked).toEqual(journal.checked);
    await whole.journal.close();
  });

  it("hands out what came later, and what is asked for of it", async () => {
    const { directory, checked } = await segmented();
    const { journal } = await open(directory);
    await journal.append(draft("seven"));
    await journal.close();
    for (let after = 0; after <= 7; after++) {
      const again = await open(directory, { checked, after });
      expect(said(again.recovered)).toEqual([...TEXTS, "seven"].slice(after));
      expect(again.journal.checked).toEqual(journal.checked);
      await again.journal.close();
    }
  });

  it("a changed byte anywhere is damage, and segment and line are named", async () => {
    const { directory, checked } = await segmented();
    for (const [index, name] of (await readdir(directory)).entries()) {
      const file = join(directory, name);
      const bytes = await readFile(file);
      // A broken last line of all is a torn write: nothing tells that it was ever synced.
      const end = index === 2 ? bytes.indexOf(10) : bytes.length;
      for (let at = 0; at < end; at++) {
        await writeFile(file, flipped(bytes, at));
        const failure = await open(directory, { checked, after: 6 }).catch((error: unknown) => error);
        expect(failure).toMatchObject({ code: "store_damaged" });
        expect(String(failure)).toMatch(new RegExp(`${name}, line [12]: `));
      }
      await writeFile(file, bytes);
    }
  });

  it("a segment that is shorter, or one that is missing, is noticed", async () => {
    const { directory, checked } = await segmented();
    const [first = "", second = ""] = (await readdir(directory)).map((name) => join(directory, name));
    const bytes = await readFile(second);
    await truncate(second, bytes.indexOf(10) + 1);
    await expect(open(directory, { checked, after: 6 })).rejects.toMatchObject({ code: "store_damaged" });
    await writeFile(second, bytes);
    await realDisk.remove(first);
    await expect(open(directory, { checked, after: 6 })).rejects.toMatchObject({ code: "store_damaged" });
  });
});

describe("what is known of a journal and is wrong", () => {
  const wrong: readonly [string, (known: CheckedSegment, index: number) => CheckedSegment][] = [
    ["another digest", (known) => ({ ...known, digest: "A".repeat(43) })],
    ["a size within a line", (known) => ({ ...known, size: known.size - 1 })],
    ["a size beyond the end", (known) => ({ ...known, size: known.size + 1 })],
    ["no size at all", (known) => ({ ...known, size: 0, tail: 0 })],
    ["another last line", (known) => ({ ...known, tail: known.tail - 1 })],
    ["a last line that goes back too far", (known) => ({ ...known, tail: known.size })],
    ["another segment", (known, index) => ({ ...known, segment: `00000000000${index}.jsonl` })],
  ];
  it.each(wrong)("%s: the journal is read line by line, and opens", async (_, falsify) => {
    const { directory, checked } = await segmented();
    const { disk, read } = watched();
    const { journal } = await open(directory, { disk, checked: checked.map(falsify), after: 6 });
    expect(read).toHaveLength(3);
    expect(journal.checked).toEqual(checked);
    await journal.append(draft("seven"));
    await journal.close();
    const whole = await open(directory);
    expect(said(whole.recovered)).toEqual([...TEXTS, "seven"]);
    await whole.journal.close();
  });

  it.each(wrong)("%s: hides no damage", async (_, falsify) => {
    const { directory, checked } = await segmented();
    const file = join(directory, "000000000003.jsonl");
    await writeFile(file, (await readFile(file, "utf8")).replace("three", "THREE"));
    await expect(open(directory, { checked: checked.map(falsify), after: 6 })).rejects.toMatchObject({
      code: "store_damaged",
      message: expect.stringContaining("000000000003.jsonl, line 1: "),
    });
  });
});

describe("space that was made before it was needed", () => {
  it("is no torn write: neither beside the owner nor when the owner died", async () => {
    const directory = await temporaryDirectory();
    const { journal } = await open(directory);
    for (const text of TEXTS) await journal.append(draft(text));
    expect(said(await Array.fromAsync(readJournal(realDisk, directory)))).toEqual(TEXTS);
    // What a process that is killed at this moment leaves.
    const left = await temporaryDirectory();
    await cp(directory, left, { recursive: true });
    await journal.close();
    const after = await open(left);
    expect(said(after.recovered)).toEqual(TEXTS);
    expect(after.journal.report).toEqual({});
    await after.journal.append(draft("seven"));
    await after.journal.close();
    expect(said(await Array.fromAsync(readJournal(realDisk, left)))).toEqual([...TEXTS, "seven"]);
  });

  it("is given back by a clean close, also of a segment that is full", async () => {
    const { directory, checked } = await segmented();
    for (const { segment, size } of checked) expect((await readFile(join(directory, segment))).length).toBe(size);
  });

  it("does not count as bytes of a torn write that lies before it", async () => {
    const { directory } = await segmented();
    const file = join(directory, "000000000005.jsonl");
    const bytes = await readFile(file);
    const torn = bytes.length - bytes.indexOf(10) - 3;
    await writeFile(file, Buffer.concat([bytes.subarray(0, -2), Buffer.alloc(5_000)]));
    const { journal, recovered } = await open(directory);
    expect(said(recovered)).toEqual(TEXTS.slice(0, 5));
    expect(journal.report.cut).toEqual({ segment: "000000000005.jsonl", bytes: torn });
    await journal.close();
  });
});

it("a file is read in pieces whatever its size", async () => {
  const directory = await temporaryDirectory();
  for (const size of [0, 1, 1_048_576, 3_000_000]) {
    const bytes = Buffer.from(Uint8Array.from({ length: size }, (_, at) => at % 251));
    await writeFile(join(directory, "file"), bytes);
    const pieces: Buffer[] = [];
    for await (const piece of realDisk.pieces(join(directory, "file"))) pieces.push(Buffer.from(piece));
    expect(Buffer.concat(pieces).equals(bytes)).toBe(true);
  }
  expect(await Array.fromAsync(realDisk.pieces(join(directory, "none")))).toEqual([]);
});

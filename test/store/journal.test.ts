import { hash } from "node:crypto";
import { appendFile, mkdir, readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { RECENT_COMMITS_SIZE_MAX, SEGMENT_SIZE_MAX } from "../../src/limits.ts";
import { type Disk, realDisk } from "../../src/store/disk.ts";
import { type Commit, type Entry, Journal, type JournalOptions } from "../../src/store/journal.ts";
import { readJournal } from "../../src/store/journal-reader.ts";
import { countingDisk, diskWith, FullDisk, HeldDisk, killedAt, temporaryDirectory } from "./disks.ts";

const entry = (stream: string, type: string, more: object = {}): Entry => ({ stream, event: { type, ...more } });
const draft = (text: string, stream = "s/1") => ({ at: 1, entries: [entry(stream, "SAID", { text })] });
const said = (commits: readonly Commit[]) => commits.map(({ entries }) => entries[0]?.event.text);

/** Opens a journal, and gives what was on disk. */
async function open(
  directory: string,
  options: Partial<JournalOptions> = {},
): Promise<{ journal: Journal; recovered: Commit[] }> {
  const recovered: Commit[] = [];
  const journal = await Journal.open({
    disk: realDisk,
    directory,
    onCommit: (commit) => recovered.push(commit),
    ...options,
  });
  return { journal, recovered };
}

/** A closed journal of these commits, each in a group of its own; gives its only file. */
async function written(...texts: string[]): Promise<{ directory: string; file: string; bytes: Buffer }> {
  const directory = await temporaryDirectory();
  const { journal } = await open(directory);
  for (const text of texts) await journal.append(draft(text));
  await journal.close();
  const [name = ""] = await readdir(directory);
  const file = join(directory, name);
  return { directory, file, bytes: await readFile(file) };
}

const linesOf = (bytes: Buffer) => bytes.toString("utf8").split("\n").slice(0, -1);
const place = (bytes: Buffer, line: number) =>
  linesOf(bytes)
    .slice(0, line)
    .reduce((sum, text) => sum + Buffer.byteLength(text) + 1, 0);

describe("what is appended is there again", () => {
  it("in the order of the calls, with its time, its events and its secrets", async () => {
    const directory = await temporaryDirectory();
    const first = await open(directory);
    expect(first.recovered).toEqual([]);
    const entries = [entry("a/1", "X", { deep: { list: [1, "ü", null] } }), entry("b/2", "Y")];
    await Promise.all([
      first.journal.append({ at: 7, entries, seal: (number) => `sealed for ${number}` }),
      first.journal.append(draft("two")),
    ]);
    await first.journal.append(draft("three"));
    await first.journal.close();
    const { journal, recovered } = await open(directory);
    expect(recovered.map(({ number, at }) => [number, at])).toEqual([
      [1, 7],
      [2, 1],
      [3, 1],
    ]);
    expect(recovered[0]).toMatchObject({ entries, sealed: "sealed for 1" });
    expect(journal.head).toBe(3);
    expect(journal.report).toEqual({});
    await journal.close();
  });

  it("and goes on where it ended", async () => {
    const { directory } = await written("one", "two");
    const { journal } = await open(directory);
    expect((await journal.append(draft("three"))).number).toBe(3);
    await journal.close();
    const { journal: again, recovered } = await open(directory);
    expect(said(recovered)).toEqual(["one", "two", "three"]);
    await again.close();
  });

  it("one commit can be read back by its place", async () => {
    const directory = await temporaryDirectory();
    const { journal } = await open(directory);
    const commits = await Promise.all(["ä", "two", "three"].map((text) => journal.append(draft(text))));
    for (const commit of commits) expect(await journal.read(commit.place)).toEqual(commit);
    await journal.close();
    const { journal: again } = await open(directory);
    for (const commit of commits) expect(await again.read(commit.place)).toEqual(commit);
    await again.close();
  });

  it("what has just been written is read without the disk, what is older from it", async () => {
    const directory = await temporaryDirectory();
    let reads = 0;
    const readRange: Disk["readRange"] = (...range) => {
      reads++;
      return realDisk.readRange(...range);
    };
    const { journal } = await open(directory, { disk: { ...realDisk, readRange } });
    const texts = ["a", "b", "c", "d"].map((letter) => letter.repeat(RECENT_COMMITS_SIZE_MAX / 3));
    const commits = await Promise.all(texts.map((text) => journal.append(draft(text))));
    for (const [index, commit] of [...commits.entries()].reverse()) {
      expect(await journal.read(commit.place)).toEqual(commit);
      expect(reads).toBe(index < 2 ? 2 - index : 0);
    }
    await journal.close();
  });

  it("a stream can be read beside its owner, without what is half written", async () => {
    const directory = await temporaryDirectory();
    const { journal } = await open(directory);
    await journal.append(draft("one", "a/1"));
    await journal.append(draft("two", "a/10"));
    await journal.append({ at: 1, entries: [entry("b/1", "SAID", { text: "three" }), entry("a/1", "SAID")] });
    const [name = ""] = await readdir(directory);
    await appendFile(join(directory, name), '{"n":4,"t":1,"g":4,"p":"","e":[{"s":"a/1"');
    expect(said(await Array.fromAsync(readJournal(realDisk, directory, "a/1")))).toEqual(["one", "three"]);
    expect(said(await Array.fromAsync(readJournal(realDisk, directory)))).toEqual(["one", "two", "three"]);
    await journal.close();
  });

  it("nothing is taken after the close, and all that was asked for before is on disk", async () => {
    const directory = await temporaryDirectory();
    const { journal } = await open(directory);
    const asked = journal.append(draft("one"));
    await journal.close();
    expect((await asked).number).toBe(1);
    await expect(journal.append(draft("two"))).rejects.toMatchObject({ code: "closed" });
  });
});

describe("group commit", () => {
  it("whatever comes in one turn shares one fdatasync", async () => {
    const disk = countingDisk();
    const { journal } = await open(await temporaryDirectory(), { disk });
    await Promise.all(Array.from({ length: 100 }, (_, index) => journal.append(draft(`${index}`))));
    expect(disk.syncs()).toBe(1);
    await journal.close();
  });

  it("whatever comes while one fdatasync runs shares the next", async () => {
    const held = new HeldDisk();
    const groups: number[] = [];
    const { journal } = await open(await temporaryDirectory(), {
      disk: held.disk,
      onDurable: (commits) => groups.push(commits.length),
    });
    const syncing = held.hold();
    const first = journal.append(draft("first"));
    await syncing;
    const rest = Array.from({ length: 50 }, (_, index) => journal.append(draft(`${index}`)));
    held.release();
    await Promise.all([first, ...rest]);
    expect(groups).toEqual([1, 50]);
    await journal.close();
  });

  it("what may wait shares the fdatasync of what may not, in the order of the calls", async () => {
    const disk = countingDisk();
    const { journal } = await open(await temporaryDirectory(), { disk });
    await journal.append(draft("first"));
    const before = disk.syncs();
    const told: string[] = [];
    const lazy = ["one", "two"].map((text) =>
      journal.append({ ...draft(text), lazy: true }).then((commit) => told.push(...(said([commit]) as string[]))),
    );
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect([disk.syncs() - before, told]).toEqual([0, []]);
    const { number } = await journal.append(draft("three"));
    await Promise.all(lazy);
    expect([disk.syncs() - before, told, number]).toEqual([1, ["one", "two"], 4]);
    await journal.close();
  });

  it.each<[string, (journal: Journal) => Promise<void>]>([
    ["a flush", (journal) => journal.flush()],
    ["exclusive work", (journal) => journal.exclusive(async () => expect(journal.head).toBe(1))],
    ["waiting for all", (journal) => journal.drained()],
    ["the close", (journal) => journal.close()],
  ])("%s makes durable what may wait", async (_, make) => {
    const directory = await temporaryDirectory();
    const { journal } = await open(directory);
    const written = journal.append({ ...draft("one"), lazy: true });
    await make(journal);
    expect(journal.head).toBe(1);
    await written;
    await journal.close();
    const { journal: again, recovered } = await open(directory);
    expect(said(recovered)).toEqual(["one"]);
    await again.close();
  });

  it("nobody is told before the fdatasync has ended", async () => {
    const held = new HeldDisk();
    const told = vi.fn();
    const { journal } = await open(await temporaryDirectory(), { disk: held.disk, onDurable: told });
    const syncing = held.hold();
    const appended = journal.append(draft("one")).then(() => told.mock.calls.length);
    await syncing;
    expect(told).not.toHaveBeenCalled();
    expect(journal.head).toBe(0);
    held.release();
    expect(await appended).toBe(1);
    await journal.close();
  });

  it("what the events refer to is durable before their line is written, one commit after the other", async () => {
    const order: string[] = [];
    const disk = diskWith({
      write: (file, bytes) => {
        order.push(`${linesOf(Buffer.from(bytes)).length} lines`);
        return file.write(bytes);
      },
    });
    const { journal } = await open(await temporaryDirectory(), { disk });
    const withBlob = (text: string) => ({
      ...draft(text),
      before: async () => {
        await Promise.resolve();
        order.push(`blob of ${text}`);
      },
    });
    await Promise.all(["one", "two"].map((text) => journal.append(withBlob(text))));
    expect(order).toEqual(["blob of one", "blob of two", "2 lines"]);
    await journal.close();
  });

  it("exclusive work runs between groups: all before it is durable, nothing after it is written", async () => {
    const directory = await temporaryDirectory();
    const { journal } = await open(directory);
    const onDisk = async () => said(await Array.fromAsync(readJournal(realDisk, directory)));
    const seen: unknown[] = [];
    const before = journal.append(draft("before"));
    const exclusive = journal.exclusive(async () => {
      seen.push(journal.head, await onDisk());
    });
    const after = journal.append(draft("after"));
    await Promise.all([before, exclusive, after]);
    expect(seen).toEqual([1, ["before"]]);
    expect(await onDisk()).toEqual(["before", "after"]);
    await journal.close();
  });

  it("exclusive work that fails fails alone", async () => {
    const { journal } = await open(await temporaryDirectory());
    const work = journal.exclusive(() => Promise.reject(new Error("no")));
    const after = journal.append(draft("after"));
    await expect(work).rejects.toThrow("no");
    expect((await after).number).toBe(1);
    await journal.close();
  });

  it("exclusive work asked for by a listener of the same group does not wait for itself", async () => {
    const { journal } = await open(await temporaryDirectory(), {
      onDurable: () => {
        work ??= journal.exclusive(async () => undefined);
      },
    });
    let work: Promise<void> | undefined;
    await journal.append(draft("one"));
    await work;
    expect(work).toBeDefined();
    await journal.close();
  });
});

describe("the chain", () => {
  it("each line names its number, its group and the hash of the line before", async () => {
    const directory = await temporaryDirectory();
    const { journal } = await open(directory);
    await journal.append(draft("one"));
    await Promise.all([journal.append(draft("two")), journal.append(draft("three"))]);
    await journal.close();
    const [name = ""] = await readdir(directory);
    const lines = linesOf(await readFile(join(directory, name)));
    const parsed: { n: number; g: number; p: string }[] = lines.map((line) => JSON.parse(line));
    expect(parsed.map(({ n, g }) => [n, g])).toEqual([
      [1, 1],
      [2, 2],
      [3, 2],
    ]);
    expect(parsed.map(({ p }) => p)).toEqual([
      "",
      ...lines.slice(0, 2).map((line) => hash("sha256", line, "base64url").slice(0, 22)),
    ]);
  });

  it("no edit goes unseen, with a fresh checksum or without", async () => {
    const { directory, file, bytes } = await written("one", "two", "three", "four");
    const { crc32 } = await import("node:zlib");
    const lines = linesOf(bytes);
    const forged = (lines[1] ?? "").replace('"two"', '"TWO"');
    const body = forged.slice(0, forged.lastIndexOf(',"c":"'));
    const withChecksum = `${body},"c":"${crc32(body).toString(16).padStart(8, "0")}"}`;
    for (const line of [forged, withChecksum]) {
      await writeFile(file, [lines[0], line, lines[2], lines[3], ""].join("\n"));
      await expect(open(directory)).rejects.toMatchObject({ code: "store_damaged" });
    }
  });

  it.each([
    ["a line is missing", [0, 2, 3]],
    ["two lines changed places", [1, 0, 2, 3]],
    ["a line is there twice", [0, 0, 1, 2, 3]],
  ])("%s: refused", async (_, order) => {
    const { directory, file, bytes } = await written("one", "two", "three", "four");
    const lines = linesOf(bytes);
    await writeFile(file, `${order.map((index) => lines[index]).join("\n")}\n`);
    await expect(open(directory)).rejects.toMatchObject({ code: "store_damaged" });
  });
});

describe("a torn tail", () => {
  it("is cut off, reported and continued, whichever byte of the last two commits was the last to arrive", async () => {
    const { directory, file, bytes } = await written("one", "two", "three");
    const from = place(bytes, 1);
    for (let end = from; end < bytes.length; end++) {
      await writeFile(file, bytes.subarray(0, end));
      const whole = end >= place(bytes, 2) ? 2 : 1;
      const torn = end - place(bytes, whole);
      const { journal, recovered } = await open(directory);
      expect(said(recovered)).toEqual(["one", "two"].slice(0, whole));
      expect(journal.report).toEqual(
        torn === 0 ? {} : { cut: { segment: file.slice(directory.length + 1), bytes: torn } },
      );
      expect((await journal.append(draft("next"))).number).toBe(whole + 1);
      await journal.close();
      const again = await open(directory);
      expect(said(again.recovered)).toEqual([...["one", "two"].slice(0, whole), "next"]);
      expect(again.journal.report).toEqual({});
      await again.journal.close();
    }
  });

  it("of one group may have lines in any state: none of them was acknowledged", async () => {
    const directory = await temporaryDirectory();
    const { journal } = await open(directory);
    await journal.append(draft("kept"));
    await Promise.all(["a", "b", "c"].map((text) => journal.append(draft(text))));
    await journal.close();
    const [name = ""] = await readdir(directory);
    const file = join(directory, name);
    const bytes = await readFile(file);
    // The middle of the group never arrived, its end did: disks write pages in any order.
    const holed = Buffer.from(bytes);
    holed.fill(0, place(bytes, 2) + 5, place(bytes, 2) + 20);
    await writeFile(file, holed);
    const { journal: again, recovered } = await open(directory);
    expect(said(recovered)).toEqual(["kept", "a"]);
    expect(again.report.cut?.bytes).toBe(bytes.length - place(bytes, 2));
    await again.close();
  });

  it("beyond the end of the file's bytes may be anything at all", async () => {
    const { directory, file, bytes } = await written("one");
    for (const garbage of ["\n", "\n\n\n", "}\n", "\0\0x", '{"n":2}\n', `${linesOf(bytes)[0]}\n`.slice(3)]) {
      await writeFile(file, Buffer.concat([bytes, Buffer.from(garbage)]));
      const { journal, recovered } = await open(directory);
      expect(said(recovered)).toEqual(["one"]);
      expect(journal.report.cut?.bytes).toBe(garbage.length);
      await journal.close();
      expect(await readFile(file)).toEqual(bytes);
    }
  });
});

describe("a damaged middle", () => {
  it("refuses to open, names segment, line and reason, and changes nothing", async () => {
    const { directory, file, bytes } = await written("one", "two", "three", "four");
    for (const line of [0, 1, 2]) {
      const broken = Buffer.from(bytes);
      const at = place(bytes, line) + 8;
      broken[at] = (broken[at] ?? 0) ^ 1;
      await writeFile(file, broken);
      const failure = await open(directory).catch((error: unknown) => error);
      expect(failure).toMatchObject({ code: "store_damaged" });
      expect(String(failure)).toContain(`${file.slice(directory.length + 1)}, line ${line + 1}: `);
      expect(await readFile(file)).toEqual(broken);
    }
  });
});

describe("segments", () => {
  /** Every file looks full as soon as anything is in it. */
  const small = diskWith({ size: (file) => (file.size === 0 ? 0 : SEGMENT_SIZE_MAX) });
  const segmented = async () => {
    const directory = await temporaryDirectory();
    const { journal } = await open(directory, { disk: small });
    for (const text of ["one", "two", "three"]) await journal.append(draft(text));
    await journal.close();
    return directory;
  };

  it("a full one is followed by the next, named after its first commit; together they are one journal", async () => {
    const directory = await segmented();
    expect(await readdir(directory)).toEqual(["000000000001.jsonl", "000000000002.jsonl", "000000000003.jsonl"]);
    const { journal, recovered } = await open(directory);
    expect(said(recovered)).toEqual(["one", "two", "three"]);
    await journal.close();
    expect(said(await Array.fromAsync(readJournal(realDisk, directory)))).toEqual(["one", "two", "three"]);
  });

  it("only the last may have a torn tail", async () => {
    const directory = await segmented();
    await truncate(join(directory, "000000000002.jsonl"), 20);
    await expect(open(directory)).rejects.toMatchObject({
      code: "store_damaged",
      message: expect.stringContaining("000000000002.jsonl, line 1"),
    });
  });

  it("one that is missing is noticed", async () => {
    const directory = await segmented();
    await realDisk.remove(join(directory, "000000000001.jsonl"));
    await expect(open(directory)).rejects.toMatchObject({ code: "store_damaged" });
  });

  it("one that was just begun may be empty, and other files do not matter", async () => {
    const directory = await segmented();
    await writeFile(join(directory, "000000000004.jsonl"), "");
    await writeFile(join(directory, "notes.txt"), "none of ours");
    const { journal, recovered } = await open(directory);
    expect(said(recovered)).toEqual(["one", "two", "three"]);
    expect((await journal.append(draft("four"))).place.segment).toBe("000000000004.jsonl");
    await journal.close();
  });
});

describe("a disk that is full", () => {
  it.each([
    ["before anything arrives", 0],
    ["in the middle of a line", 30],
    ["after a whole line", 85],
  ])("%s: everything that waits is refused, told once, and later appends work", async (_, room) => {
    const full = new FullDisk();
    const directory = await temporaryDirectory();
    const onFailure = vi.fn();
    const onDurable = vi.fn();
    const { journal } = await open(directory, { disk: full.disk, onFailure, onDurable });
    await journal.append(draft("one"));
    full.room = room;
    const order: string[] = [];
    onFailure.mockImplementation(() => order.push("rolled back"));
    const refused = ["two", "three", "four"].map((text) =>
      journal.append(draft(text)).catch((error: unknown) => {
        order.push(text);
        return error;
      }),
    );
    for (const failure of await Promise.all(refused)) {
      expect(failure).toMatchObject({ code: "store_io", message: expect.stringContaining("ENOSPC") });
    }
    expect(order).toEqual(["rolled back", "two", "three", "four"]);
    expect(onDurable).toHaveBeenCalledTimes(1);
    full.room = undefined;
    expect((await journal.append(draft("five"))).number).toBe(2);
    await journal.close();
    const { journal: again, recovered } = await open(directory);
    expect(said(recovered)).toEqual(["one", "five"]);
    expect(again.report).toEqual({});
    await again.close();
  });

  it("what was decided on top of a lost commit is lost with it; exclusive work waits for a disk that holds nothing refused", async () => {
    const full = new FullDisk();
    const { journal } = await open(await temporaryDirectory(), { disk: full.disk });
    full.syncFails = true;
    const first = journal.append(draft("one"));
    const work = journal.exclusive(async () => undefined);
    const second = journal.append(draft("two"));
    await expect(first).rejects.toMatchObject({ code: "store_io" });
    await expect(second).rejects.toMatchObject({ code: "store_io" });
    await expect(work).rejects.toThrow("EIO");
    full.syncFails = false;
    await journal.exclusive(async () => undefined);
    await journal.close();
  });

  it("what the events refer to could not be written: then they are not either", async () => {
    const directory = await temporaryDirectory();
    const { journal } = await open(directory);
    const lost = journal.append({ ...draft("one"), before: () => Promise.reject(new Error("no room for the blob")) });
    const after = journal.append(draft("two"));
    await expect(lost).rejects.toMatchObject({ code: "store_io" });
    await expect(after).rejects.toMatchObject({ code: "store_io" });
    expect((await journal.append(draft("three"))).number).toBe(1);
    await journal.close();
  });

  it("while it cannot even be freed of what failed, it goes on refusing", async () => {
    const full = new FullDisk();
    let stuck = true;
    const disk: Disk = {
      ...full.disk,
      append: async (path) => {
        const file = await full.disk.append(path);
        return {
          get size() {
            return file.size;
          },
          write: (bytes) => file.write(bytes),
          sync: () => file.sync(),
          truncate: (size) => (stuck ? Promise.reject(new Error("EIO")) : file.truncate(size)),
          close: () => file.close(),
        };
      },
    };
    const directory = await temporaryDirectory();
    const { journal } = await open(directory, { disk });
    full.room = 30;
    await expect(journal.append(draft("one"))).rejects.toMatchObject({ code: "store_io" });
    full.room = undefined;
    await expect(journal.append(draft("two"))).rejects.toMatchObject({ code: "store_io" });
    stuck = false;
    expect((await journal.append(draft("three"))).number).toBe(1);
    await journal.close();
    const { journal: again, recovered } = await open(directory);
    expect(said(recovered)).toEqual(["three"]);
    await again.close();
  });
});

describe("a process that dies", () => {
  it("at any change of the disk leaves a prefix with all that was acknowledged", async () => {
    for (let change = 1; ; change++) {
      const directory = join(await temporaryDirectory(), "journal");
      const disk = killedAt(change);
      const acknowledged: string[] = [];
      try {
        const { journal } = await open(directory, { disk });
        for (const text of ["one", "two", "three"]) {
          await journal.append(draft(text));
          acknowledged.push(text);
        }
        await journal.close();
      } catch {
        // The process is dead from here on.
      }
      await mkdir(directory, { recursive: true });
      const { journal: again, recovered } = await open(directory);
      const there = said(recovered);
      expect(["one", "two", "three"].slice(0, there.length)).toEqual(there);
      expect(there.slice(0, acknowledged.length)).toEqual(acknowledged);
      await again.append(draft("after"));
      await again.close();
      if (!disk.wasKilled()) break;
    }
  });
});

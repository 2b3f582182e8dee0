/** What the store relies on of a disk, whichever it is. */
import { beforeEach, describe, expect, it } from "vitest";
import { type Disk, joinPath } from "../../../src/store/disk.ts";
import { Journal } from "../../../src/store/journal.ts";

export interface DiskUnderTest {
  readonly disk: Disk;
  /** A directory for this test alone. */
  readonly directory: string;
  /** The same files as whoever opens them next finds them. */
  reopen(): Promise<Disk>;
}

const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, "utf8"));
const textOf = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString("utf8");

export function describeDisk(open: () => Promise<DiskUnderTest>): void {
  let disk: Disk;
  let directory: string;
  let reopen: () => Promise<Disk>;
  const at = (name: string) => joinPath(directory, name);
  /** A file's text, now and for whoever opens the disk next. */
  const texts = async (name: string) => [
    textOf(await disk.read(at(name))),
    textOf(await (await reopen()).read(at(name))),
  ];

  beforeEach(async () => {
    const opened = await open();
    ({ disk, directory } = opened);
    reopen = async () => {
      disk = await opened.reopen();
      return disk;
    };
    await disk.makeDirectory(directory);
  });

  describe("a file", () => {
    it("that is not there is nothing, and has no size", async () => {
      expect(await disk.read(at("none"))).toBeUndefined();
      expect(await Array.fromAsync(disk.pieces(at("none")))).toEqual([]);
      expect(await disk.list(at("none"))).toEqual([]);
      await expect(disk.size(at("none"))).rejects.toThrow();
      await expect(disk.readRange(at("none"), 0, 1)).rejects.toThrow();
      await disk.remove(at("none"));
    });

    it("is replaced as a whole", async () => {
      await disk.replace(at("a"), bytesOf("first, and longer"));
      await disk.replace(at("a"), bytesOf("second"));
      expect(await disk.size(at("a"))).toBe(6);
      expect(await texts("a")).toEqual(["second", "second"]);
      expect(await disk.list(directory)).toEqual(["a"]);
    });

    it("is what was given, though the bytes are used for something else", async () => {
      const bytes = bytesOf("given");
      const replaced = disk.replace(at("a"), bytes);
      await replaced;
      bytes.fill(0);
      const read = await disk.read(at("a"));
      read?.fill(0);
      expect(await texts("a")).toEqual(["given", "given"]);
    });

    it("is created once", async () => {
      expect(await disk.create(at("a"), bytesOf("first"))).toBe(true);
      expect(await disk.create(at("a"), bytesOf("second"))).toBe(false);
      expect(await texts("a")).toEqual(["first", "first"]);
      expect(await disk.list(directory)).toEqual(["a"]);
    });

    it("may be empty", async () => {
      await disk.replace(at("a"), new Uint8Array());
      expect(await disk.size(at("a"))).toBe(0);
      expect(await texts("a")).toEqual(["", ""]);
    });

    it("is read in parts, and not behind its end", async () => {
      await disk.replace(at("a"), bytesOf("0123456789"));
      expect(textOf(await disk.readRange(at("a"), 3, 4))).toBe("3456");
      await expect(disk.readRange(at("a"), 8, 4)).rejects.toThrow();
      const pieces = await Array.fromAsync(disk.pieces(at("a")), (piece) => Buffer.from(piece));
      expect(Buffer.concat(pieces).toString()).toBe("0123456789");
    });

    it("of 5 MB is the same when it is read again", async () => {
      const bytes = Uint8Array.from({ length: 5_000_000 }, (_, index) => index * 31 + (index >> 9));
      await disk.replace(at("a"), bytes);
      expect(Buffer.compare((await disk.read(at("a"))) ?? Buffer.alloc(0), bytes)).toBe(0);
      expect(Buffer.compare((await (await reopen()).read(at("a"))) ?? Buffer.alloc(0), bytes)).toBe(0);
    });
  });

  describe("gathered pieces", () => {
    it("take the place of what lay there", async () => {
      await disk.replace(at("a"), bytesOf("what lay there, and longer"));
      await disk.gather(at("a"), [bytesOf("one "), bytesOf("two")]);
      await disk.settle(directory);
      expect(await texts("a")).toEqual(["one two", "one two"]);
    });

    it("are nothing when one of them fails", async () => {
      const failing = async function* () {
        yield bytesOf("one ");
        throw new Error("the second fails");
      };
      await expect(disk.gather(at("a"), failing())).rejects.toThrow("the second fails");
      expect(await texts("a")).toEqual([undefined, undefined]);
    });
  });

  describe("a name", () => {
    it("is given when it is free", async () => {
      await disk.gather(at("a"), [bytesOf("one")]);
      expect(await disk.name(at("a"), at("b"))).toBe(true);
      expect(await texts("b")).toEqual(["one", "one"]);
      expect(await disk.list(directory)).toEqual(["b"]);
    });

    it("is not taken from another", async () => {
      await disk.replace(at("a"), bytesOf("one"));
      await disk.replace(at("b"), bytesOf("two"));
      expect(await disk.name(at("a"), at("b"))).toBe(false);
      expect(await texts("a")).toEqual(["one", "one"]);
      expect(await texts("b")).toEqual(["two", "two"]);
      await expect(disk.name(at("none"), at("c"))).rejects.toThrow();
    });
  });

  describe("a file that grows", () => {
    it("has what was synced, and goes on where it ended", async () => {
      const file = await disk.append(at("a"));
      expect(file.size).toBe(0);
      await file.write(bytesOf("one "));
      await file.write(bytesOf("two "));
      await file.sync();
      await file.write(bytesOf("three "));
      expect(file.size).toBe(14);
      await file.sync();
      await file.close();
      const again = await (await reopen()).append(at("a"));
      expect(again.size).toBe(14);
      await again.write(bytesOf("four"));
      await again.sync();
      await again.close();
      expect(await texts("a")).toEqual(["one two three four", "one two three four"]);
    });

    it("is there as soon as it is opened", async () => {
      await (await disk.append(at("a"))).close();
      expect(await texts("a")).toEqual(["", ""]);
    });

    it("is cut, and grows from there", async () => {
      const file = await disk.append(at("a"));
      await file.write(bytesOf("0123456789"));
      await file.sync();
      await file.truncate(4);
      expect(file.size).toBe(4);
      await file.write(bytesOf("ab"));
      await file.sync();
      await file.truncate(6);
      await file.close();
      expect(await texts("a")).toEqual(["0123ab", "0123ab"]);
    });

    it("is cut within what was not synced yet", async () => {
      const file = await disk.append(at("a"));
      await file.write(bytesOf("0123"));
      await file.sync();
      await file.write(bytesOf("456789"));
      await file.truncate(6);
      await file.sync();
      await file.close();
      expect(await texts("a")).toEqual(["012345", "012345"]);
    });

    it("takes what is written while it syncs", async () => {
      const file = await disk.append(at("a"));
      const written: Promise<void>[] = [];
      for (let n = 0; n < 20; n++) {
        await file.write(bytesOf(`${n} `));
        written.push(file.sync());
      }
      await Promise.all(written);
      await file.truncate(file.size);
      await file.close();
      const expected = Array.from({ length: 20 }, (_, n) => `${n} `).join("");
      expect(await texts("a")).toEqual([expected, expected]);
    });
  });

  describe("a directory", () => {
    it("lists what is in it, sorted, and is no file", async () => {
      await disk.makeDirectory(at("d/e"));
      await disk.replace(at("d/b"), bytesOf("b"));
      await disk.replace(at("d/e/c"), bytesOf("c"));
      await disk.replace(at("d/a"), bytesOf("a"));
      expect(await disk.list(at("d"))).toEqual(["a", "b", "e"]);
      expect(await disk.size(at("d"))).toBeUndefined();
      await expect(disk.replace(at("d"), bytesOf("no"))).rejects.toThrow();
      expect(await (await reopen()).list(at("d"))).toEqual(["a", "b", "e"]);
    });

    it("is removed with all that is in it, and with nothing else", async () => {
      await disk.makeDirectory(at("d/e"));
      await disk.makeDirectory(at("da"));
      for (const name of ["d/a", "d/e/b", "da/c"]) await disk.replace(at(name), bytesOf(name));
      await disk.remove(at("d"));
      expect(await disk.list(at("d"))).toEqual([]);
      expect(await disk.read(at("d/e/b"))).toBeUndefined();
      expect(await texts("da/c")).toEqual(["da/c", "da/c"]);
      await disk.remove(at("da/c"));
      expect(await texts("da/c")).toEqual([undefined, undefined]);
    });
  });

  it("a journal on it has every commit again", async () => {
    const numbers: number[] = [];
    const journal = await Journal.open({ disk, directory: at("journal"), segmentSize: 2_000 });
    const draft = (n: number) => ({
      at: 1,
      entries: [{ stream: "s/1", event: { type: "SAID", text: `number ${n}` } }],
    });
    for (let n = 1; n <= 20; n++) await journal.append(draft(n));
    await Promise.all(Array.from({ length: 80 }, (_, n) => journal.append(draft(21 + n))));
    await journal.close();
    const again = await Journal.open({
      disk: await reopen(),
      directory: at("journal"),
      onCommit: ({ number }) => numbers.push(number),
    });
    await again.close();
    expect(numbers).toEqual(Array.from({ length: 100 }, (_, n) => n + 1));
    expect(again.report).toEqual({});
  });
}

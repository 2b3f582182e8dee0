/** Files between peers that pull: they arrive whole under safe names, or not at all, and their sender is told. */
import { createHash, hash, randomBytes } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import type { FileToSend } from "../../src/actors/files.ts";
import { FILE_CHUNK_SIZE, FILE_PULL_CHUNKS, FILE_PULLS_AHEAD } from "../../src/limits.ts";
import type { Disk } from "../../src/store/disk.ts";
import { encodeFileChunk, type FileChunk } from "../../src/wire/file-chunk.ts";
import { FullDisk } from "../store/disks.ts";
import { type FileWorld, openFileWorld } from "./world.ts";

let world: FileWorld;
beforeEach(async () => {
  world = await openFileWorld();
});

const LARGE = 5 * FILE_CHUNK_SIZE + 1234;
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** Serves every pull until the file is there, or is not. */
async function carry(transfer: string, file: FileToSend) {
  await world.offer(transfer, file);
  const outcome = world.outcomes.next();
  let isOver = false;
  const serving = (async () => {
    for (;;) {
      const pull = await Promise.race([world.pulls.next(), outcome]);
      if (!("first" in pull)) return;
      if (!isOver) await world.give(file, pull);
    }
  })();
  const result = await outcome;
  isOver = true;
  await serving;
  return result;
}

const pieceOf = (transferId: string, index: number, bytes: Uint8Array): FileChunk => ({
  transferId,
  index,
  bytes,
  sha256: hash("sha256", bytes, "hex"),
});
const slice = (bytes: Uint8Array, index: number) =>
  bytes.subarray(index * FILE_CHUNK_SIZE, (index + 1) * FILE_CHUNK_SIZE);

describe("a file", () => {
  it.each([0, 1, FILE_CHUNK_SIZE, FILE_CHUNK_SIZE + 1, LARGE])("of %i bytes arrives as it was", async (size) => {
    const bytes = randomBytes(size);
    const outcome = await carry("t", await world.file("data.bin", bytes));
    expect(outcome).toMatchObject({ saved: { name: "data.bin", size, sha256: sha256(bytes) } });
    expect((await readFile(join(world.inbox, "data.bin"))).equals(bytes)).toBe(true);
    expect(await world.acks.next()).toMatchObject({ success: true, file_name: "data.bin", transfer_id: "t" });
    expect(await world.arrived()).toEqual(["data.bin"]);
    await world.emptied("bob");
  });

  it("is asked for a few pieces at a time", async () => {
    const file = await world.file("data.bin", randomBytes(20 * FILE_CHUNK_SIZE));
    await world.offer("t", file);
    for (let pull = 0; pull < FILE_PULLS_AHEAD; pull++)
      expect(await world.pulls.next()).toMatchObject({ first: pull * FILE_PULL_CHUNKS, count: FILE_PULL_CHUNKS });
    const next = world.pulls.next();
    expect(await Promise.race([next, Promise.resolve("nothing")])).toBe("nothing");
    await world.give(file, { type: "mesh:file_pull", transfer_id: "t", first: 0, count: FILE_PULL_CHUNKS });
    expect(await next).toMatchObject({ first: FILE_PULLS_AHEAD * FILE_PULL_CHUNKS });
  });

  it.each(["alice", "bob"])("goes on where it was when %s is restarted", async (name) => {
    const bytes = randomBytes(12 * FILE_CHUNK_SIZE);
    const file = await world.file("data.bin", bytes);
    await world.offer("t", file);
    await world.give(file, await world.pulls.next());
    const second = await world.pulls.next();
    await world.restart(name);
    const outcome = world.outcomes.next();
    await world.give(file, second);
    const served = new Set<number>([0, second.first]);
    for (;;) {
      const pull = await Promise.race([world.pulls.next(), outcome]);
      if (!("first" in pull)) break;
      // What was served is on its way for good: asking for it again is the same message again.
      if (served.has(pull.first)) throw new Error(`pieces from ${pull.first} were asked for twice`);
      served.add(pull.first);
      await world.give(file, pull);
    }
    expect(await outcome).toMatchObject({ saved: { sha256: sha256(bytes) } });
  });

  it("comes whole, each piece taken once, when the disk of who takes it was full for a while", async () => {
    const full = new FullDisk();
    const [refused, taken] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let wasFull = false;
    const disk: Disk = {
      ...full.disk,
      // The piece still has room, and the commit that takes it has none.
      gather: async (path, parts) => {
        await full.disk.gather(path, parts);
        if (!wasFull) full.room = 0;
        wasFull = true;
      },
    };
    const world = await openFileWorld({
      bobsDisk: disk,
      noted: (text) => {
        if (text.includes("ENOSPC")) refused.resolve();
        if (text.includes("can be written again")) taken.resolve();
      },
    });
    const bytes = randomBytes(LARGE);
    const file = await world.file("data.bin", bytes);
    await world.offer("t", file);
    const first = await world.pulls.next();
    await world.give(file, first);
    await refused.promise;
    full.room = undefined;
    await taken.promise;
    const outcome = world.outcomes.next();
    for (let index = 1; index < Math.ceil(LARGE / FILE_CHUNK_SIZE); index++)
      await world.give(file, await world.pulls.next());
    expect(await outcome).toMatchObject({ saved: { sha256: sha256(bytes) } });
    expect(world.unreadable()).toBe(0);
  });

  it.each([
    ["other bytes", randomBytes(LARGE)],
    ["fewer bytes", randomBytes(10)],
  ])("that was changed after it was offered does not leave (%s)", async (_, changed) => {
    const file = await world.file("data.bin", randomBytes(LARGE));
    await world.offer("t", file);
    await writeFile(file.path, changed);
    await expect(world.give(file, await world.pulls.next())).rejects.toMatchObject({ code: "file_unreadable" });
    expect(await world.arrived()).toEqual([]);
  });
});

describe("the name that a file gets", () => {
  it.each([
    ["../../escape.txt", "escape.txt"],
    ["/etc/passwd", "passwd"],
    ["..\\..\\windows.ini", "windows.ini"],
    ["..", "_"],
    [".bashrc", "_bashrc"],
    ["a\u0000b\nc\u202ed.txt", "a_b_c_d.txt"],
    ["nul.txt", "_nul.txt"],
    ["data.txt. . ", "data.txt"],
    ["a:b|c?.txt", "a_b_c_.txt"],
    ["  ", "file"],
    [`${"ü".repeat(200)}.txt`, `${"ü".repeat(118)}.txt`],
  ])("%j is harmless", async (given, expected) => {
    expect(await carry("t", await world.file(given, Buffer.from("words")))).toMatchObject({
      saved: { name: expected },
    });
    expect(await world.arrived()).toEqual([expected]);
  });

  it("is its own: nothing is ever overwritten", async () => {
    await mkdir(world.inbox, { recursive: true });
    await writeFile(join(world.inbox, "notes.txt"), "the person's own");
    const names: unknown[] = [];
    for (const [transfer, words] of [
      ["a", "one"],
      ["b", "two"],
      ["c", "two"],
    ] as const)
      names.push(await carry(transfer, await world.file("notes.txt", Buffer.from(words))));
    expect(names).toMatchObject([
      { saved: { name: "notes (2).txt" } },
      { saved: { name: "notes (3).txt" } },
      { saved: { name: "notes (4).txt" } },
    ]);
    expect(await readFile(join(world.inbox, "notes.txt"), "utf8")).toBe("the person's own");
    expect(await readFile(join(world.inbox, "notes (4).txt"), "utf8")).toBe("two");
  });
});

describe("pieces in no good order", () => {
  it("become the same file", async () => {
    const bytes = randomBytes(3 * FILE_CHUNK_SIZE);
    await world.offer("t", await world.file("data.bin", bytes));
    const outcome = world.outcomes.next();
    await world.piece("x.2", pieceOf("t", 2, slice(bytes, 2)));
    await world.piece("x.1", pieceOf("t", 1, slice(bytes, 1)));
    await world.piece("x.1.again", pieceOf("t", 1, slice(bytes, 1)));
    await world.piece("x.0", pieceOf("t", 0, slice(bytes, 0)));
    expect(await outcome).toMatchObject({ saved: { sha256: sha256(bytes) } });
    await world.emptied("bob");
  });

  it("that belong to nothing are thrown away", async () => {
    await world.piece("stray", pieceOf("unknown", 0, randomBytes(FILE_CHUNK_SIZE)));
    await world.bytes("broken", Uint8Array.of(0xfe, 0xff, 0xff, 1, 2, 3));
    await world.bytes("short", Uint8Array.of(0xfe));
    const bytes = randomBytes(10);
    expect(await carry("t", await world.file("data.bin", bytes))).toMatchObject({ saved: { sha256: sha256(bytes) } });
    await world.emptied("bob");
  });
});

describe("a peer that means harm", () => {
  const bytes = randomBytes(LARGE);
  it.each<[string, (piece: (index: number) => FileChunk) => FileChunk]>([
    ["a piece that is too short", (piece) => pieceOf("t", 0, piece(0).bytes.subarray(1))],
    ["a last piece that is too long", () => pieceOf("t", 5, randomBytes(FILE_CHUNK_SIZE))],
    ["a piece beyond the end", () => pieceOf("t", 6, randomBytes(1))],
    ["a piece that is not what its hash says", (piece) => ({ ...piece(0), bytes: randomBytes(FILE_CHUNK_SIZE) })],
  ])("who sends %s ends the transfer", async (_, evil) => {
    await world.offer("t", await world.file("data.bin", bytes));
    const outcome = world.outcomes.next();
    await world.piece("good", pieceOf("t", 1, slice(bytes, 1)));
    await world.piece(
      "evil",
      evil((index) => pieceOf("t", index, slice(bytes, index))),
    );
    expect(await outcome).toMatchObject({ failed: { code: "file_damaged" } });
    expect(await world.acks.next()).toMatchObject({ success: false });
    expect(await world.arrived()).toEqual([]);
    await world.emptied("bob");
  });

  it("who sends more than was asked for ends it too: nothing piles up", async () => {
    const many = randomBytes(40 * FILE_CHUNK_SIZE);
    await world.offer("t", await world.file("data.bin", many));
    const outcome = world.outcomes.next();
    for (let index = 1; index < 40; index++) await world.piece(`p.${index}`, pieceOf("t", index, slice(many, index)));
    expect(await outcome).toMatchObject({ failed: { code: "file_damaged" } });
  });

  it("cannot exchange the bytes of a whole file", async () => {
    await world.offer("t", await world.file("data.bin", bytes));
    const outcome = world.outcomes.next();
    const other = randomBytes(LARGE);
    for (let index = 0; index < 6; index++) await world.piece(`p.${index}`, pieceOf("t", index, slice(other, index)));
    expect(await outcome).toMatchObject({ failed: { code: "file_damaged" } });
    expect(await world.arrived()).toEqual([]);
  });

  it("cannot make a piece larger than there are", async () => {
    await world.bytes("giant", encodeFileChunk(pieceOf("t", 0, randomBytes(FILE_CHUNK_SIZE + 1))));
    expect(await carry("t", await world.file("data.bin", Buffer.from("fine")))).toMatchObject({ saved: { size: 4 } });
  });
});

import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Blobs } from "../../src/store/blobs.ts";
import { realDisk } from "../../src/store/disk.ts";
import { readSnapshots, writeSnapshots } from "../../src/store/snapshots.ts";
import { diskWith, noSpace, seededRandom, temporaryDirectory } from "./disks.ts";

const random = seededRandom();
const versions = "a@1 b@2";
const file = { versions, position: 7, state: { actors: { "a/1": { value: "ü" } } } };

describe("snapshots", () => {
  const written = async () => {
    const home = await temporaryDirectory();
    await writeSnapshots(realDisk, home, file);
    const path = join(home, "snapshots", "snapshots.json");
    return { home, path, bytes: await readFile(path) };
  };

  it("are what was written, and the last that was written", async () => {
    const { home } = await written();
    expect(await readSnapshots(realDisk, home, versions)).toEqual(file);
    await writeSnapshots(realDisk, home, { ...file, position: 8 });
    expect(await readSnapshots(realDisk, home, versions)).toMatchObject({ position: 8 });
    expect(await readdir(join(home, "snapshots"))).toEqual(["snapshots.json"]);
  });

  it("of another program version, or none at all, are no snapshots", async () => {
    const { home } = await written();
    expect(await readSnapshots(realDisk, home, "a@2 b@2")).toBeUndefined();
    expect(await readSnapshots(realDisk, await temporaryDirectory(), versions)).toBeUndefined();
  });

  it("with any byte changed or cut off are no snapshots", async () => {
    const { home, path, bytes } = await written();
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 1;
      for (const content of [changed, bytes.subarray(0, at)]) {
        await writeFile(path, content);
        expect(await readSnapshots(realDisk, home, versions)).toBeUndefined();
      }
    }
  });

  it("that cannot be read are no snapshots: the journal has everything", async () => {
    const { home } = await written();
    const disk = diskWith({}, { read: () => Promise.reject(new Error("EIO")) });
    expect(await readSnapshots(disk, home, versions)).toBeUndefined();
  });
});

describe("blobs", () => {
  it("are named at once, and there when they were written", async () => {
    const home = join(await temporaryDirectory(), "blobs");
    const blobs = new Blobs(realDisk, home, random);
    const { ref, write } = blobs.reserve(Buffer.from("sealed bytes"));
    await expect(blobs.read(ref)).rejects.toThrow();
    await write();
    expect(Buffer.from(await blobs.read(ref)).toString()).toBe("sealed bytes");
    expect(ref.size).toBe(12);
  });

  it("are gone when they are removed, and removing one twice is no error", async () => {
    const home = join(await temporaryDirectory(), "blobs");
    const blobs = new Blobs(realDisk, home, random);
    const { ref, write } = blobs.reserve(Buffer.from("x"));
    await write();
    await blobs.remove(ref);
    await blobs.remove(ref);
    await expect(blobs.read(ref)).rejects.toThrow();
    expect(await readdir(home)).toEqual([]);
  });

  it("that nothing refers to are swept, the others stay", async () => {
    const home = join(await temporaryDirectory(), "blobs");
    const blobs = new Blobs(realDisk, home, random);
    await blobs.sweep(new Set());
    const [kept, left] = [blobs.reserve(Buffer.from("kept")), blobs.reserve(Buffer.from("left"))];
    await Promise.all([kept.write(), left.write()]);
    await blobs.sweep(new Set([kept.ref.blob]));
    expect(await readdir(home)).toEqual([kept.ref.blob]);
  });

  it("that cannot be written fail with the disk's own reason", async () => {
    const disk = diskWith({}, { gather: () => Promise.reject(noSpace()) });
    const { write } = new Blobs(disk, join(await temporaryDirectory(), "blobs"), random).reserve(Buffer.from("x"));
    await expect(write()).rejects.toThrow("ENOSPC");
  });
});

// Whatever the disk refuses, whenever it does: it is told as an error of ours that names the file and says what to do.

import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openMesh } from "../../src/actors/mesh.ts";
import { MeshNode } from "../../src/actors/node.ts";
import { environmentUnlock } from "../../src/actors/unlock.ts";
import { MeshError } from "../../src/errors.ts";
import { readHistory } from "../../src/inspect/history.ts";
import { type AppendFile, type Disk, realDisk } from "../../src/store/disk.ts";
import { openStoreKey } from "../../src/store/key.ts";
import { seal } from "../../src/store/seal.ts";
import { writeSnapshots } from "../../src/store/snapshots.ts";
import { offline } from "../actors/world.ts";
import { ALICE } from "../specification.ts";
import { seededRandom, temporaryDirectory } from "../store/disks.ts";
import { type Files, MemoryDisk } from "../store/memory-disk.ts";

const HOME = "/home/of/alice";
const CODES = {
  ENOSPC: "the disk is full",
  EROFS: "the file system is read-only",
  EACCES: "permission denied",
  EIO: "the disk reports an I/O error",
} as const;
type Code = keyof typeof CODES;

/** A disk whose n-th operation is refused by the system, and which one that was. */
function refusing(disk: Disk, n: number, code: Code): { disk: Disk; refused: () => string | undefined } {
  let count = 0;
  let refused: string | undefined;
  const step = <T>(path: string, work: () => Promise<T>): Promise<T> => {
    if (++count !== n) return work();
    refused = path;
    // As the system says it: with its code, and without a word about what to do.
    return Promise.reject(Object.assign(new Error(`${code}: refused`), { code }));
  };
  const file = (path: string, of: AppendFile): AppendFile => ({
    get size() {
      return of.size;
    },
    write: (bytes) => step(path, () => of.write(bytes)),
    sync: () => step(path, () => of.sync()),
    truncate: (size) => step(path, () => of.truncate(size)),
    close: () => of.close(),
  });
  return {
    refused: () => refused,
    disk: {
      makeDirectory: (path) => step(path, () => disk.makeDirectory(path)),
      read: (path) => step(path, () => disk.read(path)),
      pieces: async function* (path) {
        await step(path, async () => undefined);
        yield* disk.pieces(path);
      },
      size: (path) => step(path, () => disk.size(path)),
      realPath: (path) => step(path, () => disk.realPath(path)),
      readRange: (path, offset, length) => step(path, () => disk.readRange(path, offset, length)),
      replace: (path, bytes) => step(path, () => disk.replace(path, bytes)),
      create: (path, bytes) => step(path, () => disk.create(path, bytes)),
      gather: (path, pieces) => step(path, () => disk.gather(path, pieces)),
      name: (from, to) => step(to, () => disk.name(from, to)),
      append: (path) => step(path, async () => file(path, await disk.append(path))),
      list: (path) => step(path, () => disk.list(path)),
      settle: (path) => step(path, () => disk.settle(path)),
      remove: (path) => step(path, () => disk.remove(path)),
    },
  };
}

/** A home with a torn tail, a blob that nobody needs and a half written vault: opening it has much to do. */
async function usedHome(): Promise<Files> {
  const disk = new MemoryDisk();
  const node = await MeshNode.open({ home: HOME, ports: { ...offline(), disk } });
  const named = { type: "NAMED", name: "a", source: "registry" };
  for (const secret of ["one", "two"])
    await node.core.system.commit([{ stream: `conversation/${ALICE}`, event: named }], { secrets: { x: secret } })
      .durable;
  await node.close();
  const files = new Map(disk.files);
  const segment = join(HOME, "journal", "000000000001.jsonl");
  files.set(segment, Buffer.concat([files.get(segment) ?? new Uint8Array(), Buffer.from('{"n":3,"t":')]));
  files.set(join(HOME, "blobs", "0123"), new Uint8Array(3));
  files.set(join(HOME, "vault.0123456789ab.tmp"), new Uint8Array(3));
  return files;
}

describe("a refusal while a home is opened", () => {
  it.each(Object.keys(CODES) as Code[])("%s, at each operation of the disk", async (code) => {
    for (const [name, files] of [
      ["new", new Map()],
      ["used", await usedHome()],
    ] as const) {
      const before = JSON.stringify([...files.keys()]);
      let refusals = 0;
      for (let n = 1; ; n++) {
        const memory = new MemoryDisk(files);
        const { disk, refused } = refusing(memory, n, code);
        const error = await MeshNode.open({ home: HOME, ports: { ...offline(), disk } }).then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        const path = refused();
        if (path === undefined) break;
        // Snapshots are a cache: one that cannot be read is none.
        if (error === undefined) expect(path).toContain("snapshots");
        else {
          refusals++;
          expect(error, `${name} home, ${path}`).toBeInstanceOf(MeshError);
          if (!(error instanceof MeshError)) continue;
          expect(error.code, path).toMatch(/^store_(io|key_unreadable)$/);
          expect(error.message).toContain(`${path}: ${CODES[code]} (${code}).`);
          expect(error.message, "what to do").toMatch(/check space and permissions|Restore it from a backup/);
          expect(error.message.split(path).length, "the file is named once").toBe(2);
        }
        // What was refused did no harm: the next opening is as good as the first.
        const again = await MeshNode.open({ home: HOME, ports: { ...offline(), disk: memory } });
        expect(again.core.system.position).toBe(name === "new" ? 0 : 2);
      }
      expect(refusals, name).toBeGreaterThan(name === "new" ? 4 : 10);
      expect(JSON.stringify([...files.keys()])).toBe(before);
    }
  });
});

describe("on the real file system", () => {
  const opening = (home: string) =>
    openMesh({ home, ports: offline() }).then(
      (mesh) => mesh.close(),
      (error: unknown) => error,
    );

  it.each([
    ["vault", "store_io", "a directory stands where a file belongs (EISDIR)"],
    ["store.key", "store_key_unreadable", "a directory stands where a file belongs (EISDIR)"],
    ["journal/000000000001.jsonl", "store_io", "a directory stands where a file belongs (EISDIR)"],
    ["owner.lock", "store_io", ""],
  ])("a directory stands in the place of %s", async (name, code, reason) => {
    const home = await temporaryDirectory();
    const mesh = await openMesh({ home, ports: offline() });
    await mesh.close();
    await rm(join(home, name), { force: true });
    await mkdir(join(home, name), { recursive: true });
    expect(await opening(home)).toMatchObject({
      code,
      message: expect.stringContaining(`${join(home, name)}: ${reason}`),
    });
  });

  it("a file stands in the place of the state directory, or of a directory in it", async () => {
    const home = join(await temporaryDirectory(), "home");
    await writeFile(home, "");
    expect(await opening(home)).toMatchObject({ code: "store_io", message: expect.stringContaining(home) });
    const below = join(home, "below");
    expect(await opening(below)).toMatchObject({ code: "store_io", message: expect.stringContaining(below) });
    const other = await temporaryDirectory();
    await writeFile(join(other, "journal"), "");
    expect(await opening(other)).toMatchObject({
      code: "store_io",
      message: expect.stringContaining(`${join(other, "journal")}: a file stands where a directory belongs`),
    });
    await expect(readHistory(other)).rejects.toMatchObject({ code: "store_io" });
  });
});

describe("content that our own key sealed, or our own hash covers, in a form of another program", () => {
  it("a vault is refused and named", async () => {
    const home = await temporaryDirectory();
    const random = seededRandom();
    const { key } = await openStoreKey({
      disk: realDisk,
      home,
      random,
      unlock: environmentUnlock,
      hasData: false,
      opens: async () => true,
    });
    const sealed = seal(key, Buffer.from('{"epoch":"first"}'), "vault-v1", random);
    await writeFile(join(home, "vault"), Buffer.concat([Buffer.from("kars-mesh-vault-v1\n"), sealed]));
    await expect(MeshNode.open({ home, ports: offline() })).rejects.toMatchObject({
      code: "store_damaged",
      message: expect.stringContaining(`${join(home, "vault")} holds a vault of another form.`),
    });
  });

  it("snapshots are passed over", async () => {
    const home = await temporaryDirectory();
    const node = await MeshNode.open({ home, ports: offline() });
    const { versions } = node.core.system;
    const named = { type: "NAMED", name: "a", source: "registry" };
    await node.core.system.commit([{ stream: `conversation/${ALICE}`, event: named }]).durable;
    await node.close();
    for (const state of [
      {},
      { actors: {}, projections: { messages: { incoming: 1 } } },
      { actors: { "conversation/x": { value: "no such state" } }, projections: {} },
      { actors: { "unheard/of": {} }, projections: {} },
    ]) {
      await writeSnapshots(realDisk, home, { versions, position: 1, state });
      const again = await MeshNode.open({ home, ports: offline() });
      expect(again.core.system.state(`conversation/${ALICE}`)?.snapshot.context.name).toBe("a");
      await again.close();
    }
  });
});

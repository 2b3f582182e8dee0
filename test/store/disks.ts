/** Disks that count, disks that hold back, disks that are full, and disks of a process that dies. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type AppendFile, type Disk, realDisk } from "../../src/store/disk.ts";
import type { Random } from "../../src/store/seal.ts";
import { atTheEnd } from "../ending.ts";

/** A directory of this test's own, gone when it ends. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "kars-store-"));
  atTheEnd(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** The same bytes in every run. */
export function seededRandom(seed = 1): Random {
  let state = seed;
  return (length) =>
    Uint8Array.from({ length }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state >>> 24;
    });
}

interface FileHooks {
  readonly write?: (file: AppendFile, bytes: Uint8Array) => Promise<void>;
  readonly sync?: (file: AppendFile) => Promise<void>;
  readonly truncate?: (file: AppendFile, size: number) => Promise<void>;
  /** Makes the file look larger than it is. */
  readonly size?: (file: AppendFile) => number;
}

const hooked = (file: AppendFile, hooks: FileHooks): AppendFile => ({
  get size() {
    return hooks.size?.(file) ?? file.size;
  },
  write: (bytes) => hooks.write?.(file, bytes) ?? file.write(bytes),
  sync: () => hooks.sync?.(file) ?? file.sync(),
  truncate: (size) => hooks.truncate?.(file, size) ?? file.truncate(size),
  close: () => file.close(),
});

/** The real disk, with some of what its files do replaced. */
export const diskWith = (hooks: FileHooks, over: Partial<Disk> = {}): Disk => ({
  ...realDisk,
  append: async (path) => hooked(await realDisk.append(path), hooks),
  ...over,
});

/** Counts how often something was made durable. */
export function countingDisk(): Disk & { readonly syncs: () => number } {
  let syncs = 0;
  const disk = diskWith({
    sync: (file) => {
      syncs++;
      return file.sync();
    },
  });
  return { ...disk, syncs: () => syncs };
}

/** A disk whose syncs wait while it is held. */
export class HeldDisk {
  #isHeld = false;
  #waiting: (() => void)[] = [];
  #reached = Promise.withResolvers<void>();
  readonly disk: Disk = diskWith({ sync: (file) => this.#sync(file) });

  /** From now on no sync ends. Resolves when one has begun. */
  hold(): Promise<void> {
    this.#isHeld = true;
    this.#reached = Promise.withResolvers();
    return this.#reached.promise;
  }
  release(): void {
    this.#isHeld = false;
    for (const go of this.#waiting.splice(0)) go();
  }
  async #sync(file: AppendFile): Promise<void> {
    if (this.#isHeld) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
        this.#reached.resolve();
      });
    }
    await file.sync();
  }
}

export const noSpace = () => Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });

/** A disk that can become full: of what is written then, only the first bytes arrive. */
export class FullDisk {
  /** Bytes that still fit; undefined while there is room. */
  room: number | undefined;
  /** The same, noticed only when the bytes are to be made durable. */
  syncFails = false;
  readonly disk: Disk = diskWith(
    {
      write: async (file, bytes) => {
        if (this.room === undefined) return file.write(bytes);
        await file.write(bytes.subarray(0, this.room));
        throw noSpace();
      },
      sync: async (file) => {
        if (this.syncFails) throw Object.assign(new Error("EIO: i/o error, fdatasync"), { code: "EIO" });
        await file.sync();
      },
    },
    {
      replace: async (path, bytes) => {
        if (this.room !== undefined) throw noSpace();
        await realDisk.replace(path, bytes);
      },
    },
  );
}

/** The disk of a process that is killed at its n-th change: that one may arrive by half, and nothing comes after it. */
export function killedAt(change: number): Disk & { readonly wasKilled: () => boolean } {
  let changes = 0;
  const killed = () => new Error("killed");
  const step = <T>(work: () => Promise<T>): Promise<T> => (++changes >= change ? Promise.reject(killed()) : work());
  const disk = diskWith({
    write: async (file, bytes) => {
      if (++changes < change) return file.write(bytes);
      if (changes === change) await file.write(bytes.subarray(0, bytes.length >> 1));
      throw killed();
    },
    sync: (file) => step(() => file.sync()),
    truncate: (file, size) => step(() => file.truncate(size)),
  });
  return {
    ...disk,
    wasKilled: () => changes >= change,
    makeDirectory: (path) => step(() => disk.makeDirectory(path)),
    append: (path) =>
      step(async () => {
        const file = await disk.append(path);
        // What the dead process had open is closed for it.
        atTheEnd(() => file.close());
        return file;
      }),
    create: (path, bytes) => step(() => disk.create(path, bytes)),
    remove: (path) => step(() => disk.remove(path)),
    // A replacement has two moments: the new file is written beside the old one, and then takes its place.
    replace: async (path, bytes) => {
      await step(async () => undefined).catch(async (error: unknown) => {
        if (changes === change) await realDisk.create(`${path}.0123456789ab.tmp`, bytes);
        throw error;
      });
      await step(() => realDisk.replace(path, bytes));
    },
  };
}

/** Every file below a directory, with its bytes. */
export async function filesBelow(directory: string): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile()) files.set(path, await readFile(path));
  }
  return files;
}

import { randomBytes } from "node:crypto";
import { dirname, join, resolve } from "node:path";
import { type FileSystem, nodeFileSystem, type OpenFile } from "./file-system.ts";
import { GrowingFile, SPACE, type Space } from "./growing-file.ts";

// The file system as the store needs it: a port, so that a simulated disk can stand in its place.

/** A file that only grows. */
export interface AppendFile {
  /** Bytes written so far, durable or not. */
  readonly size: number;
  write(bytes: Uint8Array): Promise<void>;
  /** Resolves when all that was written is on disk (fdatasync). */
  sync(): Promise<void>;
  truncate(size: number): Promise<void>;
  close(): Promise<void>;
}

/** The bytes of a file, in order. */
export type Pieces = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

export interface Disk {
  /** Creates the directory and its parents, readable by the owner alone. */
  makeDirectory(path: string): Promise<void>;
  /** The whole file, or undefined when there is none. */
  read(path: string): Promise<Uint8Array | undefined>;
  /** The file's bytes in order, in pieces that last until the next is asked for; none when there is no file. */
  pieces(path: string): AsyncIterable<Uint8Array>;
  /** `length` bytes from `offset`. @throws when the file is shorter */
  readRange(path: string, offset: number, length: number): Promise<Uint8Array>;
  /** The size of a plain file in bytes; undefined when it is something else. @throws when there is nothing */
  size(path: string): Promise<number | undefined>;
  /** The path of the same file without links in it. @throws when there is nothing */
  realPath(path: string): Promise<string>;
  /** Replaces the file atomically and durably: write beside it, fsync, rename, fsync the directory. */
  replace(path: string, bytes: Uint8Array): Promise<void>;
  /** Creates the file atomically and durably. False when one of that name exists. */
  create(path: string, bytes: Uint8Array): Promise<boolean>;
  /**
   * Writes a file of pieces, which is on disk when this resolves but may have lost its name after a crash: for a file that is
   * looked at before it gets its own. What lay there is gone, and nothing lies there when a piece fails.
   */
  gather(path: string, pieces: Pieces): Promise<void>;
  /** Gives a file another name in its directory, atomically and durably. False, and nothing happens, when that is taken. */
  name(from: string, to: string): Promise<boolean>;
  /**
   * Opens a file to append to it, creating it (and syncing its directory) when it is missing. While it is open, and after a
   * crash, there may be zeros behind what was written.
   */
  append(path: string): Promise<AppendFile>;
  /** File names in a directory, sorted; none when it is missing. */
  list(directory: string): Promise<string[]>;
  /** Makes certain that a directory's names are on disk, also those that a process put there which died before it could. */
  settle(directory: string): Promise<void>;
  /** Removes a file or a directory tree; nothing happens when there is none. */
  remove(path: string): Promise<void>;
}

const hasCode = (error: unknown, ...codes: string[]) =>
  error instanceof Error && "code" in error && codes.some((code) => code === error.code);
const isMissing = (error: unknown) => hasCode(error, "ENOENT");

async function syncDirectory({ open }: FileSystem, path: string): Promise<void> {
  // Windows cannot open a directory; its renames are durable without.
  if (process.platform === "win32") return;
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeBeside(files: FileSystem, temporary: string, pieces: Pieces): Promise<void> {
  const handle = await files.open(temporary, "wx", 0o600);
  try {
    await handle.chmod(0o600);
    let position = 0;
    for await (const piece of pieces) {
      for (let at = 0; at < piece.length; ) {
        const { bytesWritten } = await handle.write(piece, at, piece.length - at, position);
        at += bytesWritten;
        position += bytesWritten;
      }
    }
    await handle.sync();
  } catch (error) {
    await handle.close();
    // What came of it takes space on a disk that may have none, and may be secrets that are to be forgotten.
    await files.rm(temporary, { force: true });
    throw error;
  }
  await handle.close();
}

/** Bytes of a file that are in memory at once, twice, when it is read in pieces. */
const PIECE_SIZE = 1024 * 1024;

/** While one piece is looked at the next is read. */
async function* piecesOf(handle: OpenFile): AsyncGenerator<Uint8Array> {
  const { size } = await handle.stat();
  const fresh = () => new Uint8Array(Math.min(PIECE_SIZE, size + 1));
  let [read, next] = [fresh(), fresh()];
  let reading = handle.read(read, 0, read.length, 0);
  try {
    for (let position = 0; ; [read, next] = [next, read]) {
      const { bytesRead } = await reading;
      if (bytesRead === 0) return;
      position += bytesRead;
      reading = handle.read(next, 0, next.length, position);
      yield read.subarray(0, bytesRead);
    }
  } finally {
    // Who stops early leaves one under way.
    await reading.catch(() => undefined);
  }
}

const isForbidden = (error: unknown) => hasCode(error, "EACCES", "EPERM");

const freshMark = () => randomBytes(6).toString("hex");

/**
 * A disk made of the calls of a file system.
 * @param mark gives a text that no other file beside carries in its name
 * @param space how much space a growing file is given at once
 */
export function diskOn(files: FileSystem, mark = freshMark, space: Space = SPACE): Disk {
  /** Directories whose names are surely on disk. */
  const certain = new Set<string>();

  /** Makes a directory durable in the one above it, and that one in the one above. */
  async function settleUpwards(path: string, first: string | undefined): Promise<void> {
    const above = dirname(path);
    const isNew = first !== undefined && path.length >= first.length;
    if (above === path || (certain.has(path) && !isNew)) return;
    try {
      await syncDirectory(files, above);
    } catch (error) {
      // What stands high above may not be ours to open; what was just made is.
      if (isNew || !isForbidden(error)) throw error;
      return;
    }
    await settleUpwards(above, first);
    certain.add(path);
  }

  async function name(from: string, to: string): Promise<boolean> {
    try {
      await files.link(from, to);
    } catch (error) {
      if (hasCode(error, "EEXIST")) return false;
      throw error;
    }
    await files.unlink(from);
    await syncDirectory(files, dirname(to));
    return true;
  }

  return {
    async makeDirectory(path) {
      const first = await files.mkdir(path, { recursive: true, mode: 0o700 });
      const whole = resolve(path);
      // Also when it was there: a process that died may have made it and not have come to this.
      await settleUpwards(whole, first && resolve(first));
    },
    async read(path) {
      try {
        return await files.readFile(path);
      } catch (error) {
        if (isMissing(error)) return undefined;
        throw error;
      }
    },
    async *pieces(path) {
      let handle: OpenFile;
      try {
        handle = await files.open(path, "r");
      } catch (error) {
        if (isMissing(error)) return;
        throw error;
      }
      try {
        yield* piecesOf(handle);
      } finally {
        await handle.close();
      }
    },
    async readRange(path, offset, length) {
      const handle = await files.open(path, "r");
      try {
        const bytes = new Uint8Array(length);
        let done = 0;
        while (done < length) {
          const { bytesRead } = await handle.read(bytes, done, length - done, offset + done);
          if (bytesRead === 0) throw new Error(`${path} ends before byte ${offset + length}`);
          done += bytesRead;
        }
        return bytes;
      } finally {
        await handle.close();
      }
    },
    async size(path) {
      const info = await files.stat(path);
      return info.isFile() ? info.size : undefined;
    },
    realPath: (path) => files.realpath(path),
    async replace(path, bytes) {
      const temporary = `${path}.${mark()}.tmp`;
      await writeBeside(files, temporary, [bytes]);
      try {
        await files.rename(temporary, path);
      } catch (error) {
        await files.rm(temporary, { force: true });
        throw error;
      }
      await syncDirectory(files, dirname(path));
    },
    async create(path, bytes) {
      const temporary = `${path}.${mark()}.tmp`;
      await writeBeside(files, temporary, [bytes]);
      try {
        return await name(temporary, path);
      } finally {
        await files.rm(temporary, { force: true });
      }
    },
    async gather(path, pieces) {
      try {
        await writeBeside(files, path, pieces);
      } catch (error) {
        if (!hasCode(error, "EEXIST")) throw error;
        await files.rm(path, { force: true });
        await writeBeside(files, path, pieces);
      }
    },
    name,
    async append(path) {
      const handle = await files.open(path, "a+", 0o600).then(async (created) => {
        await created.close();
        return files.open(path, "r+");
      });
      await handle.chmod(0o600);
      const { size } = await handle.stat();
      if (size === 0) await syncDirectory(files, dirname(path));
      return new GrowingFile(handle, size, space);
    },
    async list(directory) {
      try {
        return (await files.readdir(directory)).sort();
      } catch (error) {
        if (isMissing(error)) return [];
        throw error;
      }
    },
    settle: (directory) => syncDirectory(files, directory),
    async remove(path) {
      try {
        // Most are plain files, which need no looking at.
        await files.unlink(path);
      } catch (error) {
        if (!isMissing(error)) await files.rm(path, { recursive: true, force: true });
      }
    },
  };
}

export const realDisk: Disk = diskOn(nodeFileSystem);

export { join as joinPath };

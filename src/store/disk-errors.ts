import { MeshError } from "../errors.ts";
import type { AppendFile, Disk } from "./disk.ts";

// What a disk refuses is told as an error of ours that names the file, never as the system's own.

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full",
  EDQUOT: "the quota of the disk is used up",
  EROFS: "the file system is read-only",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EIO: "the disk reports an I/O error",
  EMFILE: "too many files are open",
  ENFILE: "too many files are open",
  ENOTDIR: "a file stands where a directory belongs",
  EISDIR: "a directory stands where a file belongs",
};

/** Why the disk refused, as part of a sentence: `permission denied (EACCES)`. */
export function reasonOf(error: unknown): string {
  if (error instanceof MeshError && error.cause !== undefined) return reasonOf(error.cause);
  if (!(error instanceof Error)) return String(error);
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  const reason = REASONS[code];
  return reason ? `${reason} (${code})` : error.message.replace(/\.$/, "");
}

/** A refusal of the disk as `store_io`, naming the file. */
export const refusedBy = (path: string, cause: unknown): MeshError =>
  cause instanceof MeshError ? cause : new MeshError("store_io", `${path}: ${reasonOf(cause)}.`, { cause });

async function telling<T>(path: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    throw refusedBy(path, cause);
  }
}

async function* tellingPieces(path: string, pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* pieces;
  } catch (cause) {
    throw refusedBy(path, cause);
  }
}

function tellingFile(path: string, file: AppendFile): AppendFile {
  return {
    get size() {
      return file.size;
    },
    write: (bytes) => telling(path, file.write(bytes)),
    sync: () => telling(path, file.sync()),
    truncate: (size) => telling(path, file.truncate(size)),
    close: () => telling(path, file.close()),
  };
}

/** The same disk; what it refuses is `store_io` with the file's name. */
export const tellingDisk = (disk: Disk): Disk => ({
  makeDirectory: (path) => telling(path, disk.makeDirectory(path)),
  read: (path) => telling(path, disk.read(path)),
  pieces: (path) => tellingPieces(path, disk.pieces(path)),
  size: (path) => telling(path, disk.size(path)),
  realPath: (path) => telling(path, disk.realPath(path)),
  readRange: (path, offset, length) => telling(path, disk.readRange(path, offset, length)),
  replace: (path, bytes) => telling(path, disk.replace(path, bytes)),
  create: (path, bytes) => telling(path, disk.create(path, bytes)),
  gather: (path, pieces) => telling(path, disk.gather(path, pieces)),
  name: (from, to) => telling(to, disk.name(from, to)),
  append: async (path) => tellingFile(path, await telling(path, disk.append(path))),
  list: (directory) => telling(directory, disk.list(directory)),
  settle: (directory) => telling(directory, disk.settle(directory)),
  remove: (path) => telling(path, disk.remove(path)),
});

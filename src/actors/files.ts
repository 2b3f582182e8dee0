import { createHash, hash } from "node:crypto";
import { basename, join, resolve } from "node:path";
import { MeshError } from "../errors.ts";
import { withoutHidden } from "../foreign.ts";
import { FILE_CHUNK_SIZE, FILE_NAME_SIZE_MAX, FILES_MAX } from "../limits.ts";
import type { Disk } from "../store/disk.ts";
import { secretByContent, secretByName } from "./secret-files.ts";

// Files that leave and files that come. The name that crosses the mesh is a bare file name; what comes back lands in the
// offload's own folder, whole, under a name of its own.

export interface FileToSend {
  readonly name: string;
  readonly path: string;
  readonly size: number;
  /** In hex. */
  readonly sha256: string;
  /** The SHA-256 of each piece of FILE_CHUNK_SIZE bytes, one after the other, in base64: what leaves is what was looked at. */
  readonly pieces: string;
}

/** The SHA-256 of a file, in hex, and of how many bytes: it is never in memory as a whole. */
async function digestOf(disk: Disk, path: string): Promise<{ readonly sha256: string; readonly size: number }> {
  const digest = createHash("sha256");
  let size = 0;
  for await (const piece of disk.pieces(path)) {
    digest.update(piece);
    size += piece.length;
  }
  return { sha256: digest.digest("hex"), size };
}

/** The same, with the hashes of its pieces. `begins` is told of its first bytes. */
async function inspect(disk: Disk, path: string, begins: (bytes: Uint8Array) => void) {
  const whole = createHash("sha256");
  const pieces: Buffer[] = [];
  let piece = createHash("sha256");
  let size = 0;
  for await (const bytes of disk.pieces(path)) {
    if (size === 0) begins(bytes);
    whole.update(bytes);
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + FILE_CHUNK_SIZE - (size % FILE_CHUNK_SIZE));
      piece.update(part);
      at += part.length;
      size += part.length;
      if (size % FILE_CHUNK_SIZE === 0) {
        pieces.push(piece.digest());
        piece = createHash("sha256");
      }
    }
  }
  if (size % FILE_CHUNK_SIZE > 0) pieces.push(piece.digest());
  return { sha256: whole.digest("hex"), size, pieces: Buffer.concat(pieces).toString("base64") };
}

/**
 * Looks at the files that an offload names. Two of the same name get different names on the mesh. A link leaves under its own name, and
 * the file that it leads to decides whether it is a secret.
 * @param meant paths of files that may go although they look like secrets
 * @param refusal why a file of that size does not go
 * @throws MeshError `file_unreadable`, `file_too_large`, `file_secret`, `limit_reached`
 */
export async function inspectFiles(
  disk: Disk,
  paths: readonly string[],
  meant: readonly string[] = paths,
  refusal: (path: string, size: number) => MeshError | undefined = () => undefined,
): Promise<FileToSend[]> {
  if (paths.length > FILES_MAX) throw new MeshError("limit_reached", `At most ${FILES_MAX} files go with one offload.`);
  const files: FileToSend[] = [];
  for (const given of paths) {
    const named = resolve(given);
    // What was looked at is what leaves, wherever the link leads later.
    const path = await readable(named, disk.realPath(named));
    const shown = path === named ? path : `${named}, which is ${path},`;
    const refuse = (why: string | undefined) => {
      if (why !== undefined && !meant.includes(given)) throw new MeshError("file_secret", `${shown} ${why}.`);
    };
    refuse(secretByName(path) ?? secretByName(named));
    const size = await readable(path, disk.size(path));
    if (size === undefined) throw new MeshError("file_unreadable", `${path} is not a file.`);
    const tooLarge = refusal(path, size);
    if (tooLarge) throw tooLarge;
    const name = freeName(basename(named), new Set(files.map((file) => file.name)));
    const looked = await readable(
      path,
      inspect(disk, path, (bytes) => refuse(secretByContent(bytes))),
    );
    files.push({ name, path, ...looked });
  }
  return files;
}

/** The bytes of a file that was looked at before. @throws MeshError `file_unreadable` when they are other bytes now */
export async function readInspected(disk: Disk, file: FileToSend): Promise<Uint8Array> {
  const bytes = await readable(file.path, disk.read(file.path));
  if (!bytes) throw new MeshError("file_unreadable", `${file.path} is not there any more.`);
  if (hash("sha256", bytes, "hex") !== file.sha256) throw changed(file);
  return bytes;
}

const HASH_SIZE = 32;

/** A piece of a file as it was when it was looked at. */
export interface Piece {
  readonly index: number;
  readonly bytes: Uint8Array;
  /** In hex. */
  readonly sha256: string;
}

/** So many pieces of a file that was looked at before, or those there are. @throws MeshError `file_unreadable` when they are other bytes now */
export async function readPieces(disk: Disk, file: FileToSend, from: number, count: number): Promise<Piece[]> {
  const offset = from * FILE_CHUNK_SIZE;
  const length = Math.min(count * FILE_CHUNK_SIZE, file.size - offset);
  if (length <= 0) return [];
  if ((await readable(file.path, disk.size(file.path))) !== file.size) throw changed(file);
  const bytes = await readable(file.path, disk.readRange(file.path, offset, length));
  const known = Buffer.from(file.pieces, "base64");
  return Array.from({ length: Math.ceil(length / FILE_CHUNK_SIZE) }, (_, at) => {
    const index = from + at;
    const piece = bytes.subarray(at * FILE_CHUNK_SIZE, (at + 1) * FILE_CHUNK_SIZE);
    const sha256 = hash("sha256", piece, "hex");
    if (known.toString("hex", index * HASH_SIZE, (index + 1) * HASH_SIZE) !== sha256) throw changed(file);
    return { index, bytes: piece, sha256 };
  });
}

/** Why a file that was looked at before did not arrive as it was: the file itself, or what took it. */
export async function problemWith(disk: Disk, file: FileToSend): Promise<MeshError | undefined> {
  const { sha256 } = await readable(file.path, digestOf(disk, file.path));
  return sha256 === file.sha256 ? undefined : changed(file);
}

const changed = ({ path }: FileToSend) =>
  new MeshError("file_unreadable", `${path} was changed after the offload was requested.`);

async function readable<T>(path: string, reading: Promise<T>): Promise<T> {
  try {
    return await reading;
  } catch (cause) {
    if (cause instanceof MeshError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new MeshError("file_unreadable", `${path}: ${reason}.`, { cause });
  }
}

/** What Windows takes for a device, whatever its ending. */
const DEVICE = /^(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)/i;

/**
 * A name without a path, a leading dot, or characters that cannot be seen, and of at most FILE_NAME_SIZE_MAX bytes, of which it
 * keeps the last: no file system takes it for anything else.
 */
export function safeName(name: string): string {
  const last = name.split(/[/\\]/).at(-1) ?? "";
  const plain = withoutHidden(last, "_")
    .replace(/[<>:"|?*]/g, "_")
    .replace(/^\.+/, "_")
    .replace(/[. ]+$/, "")
    .trim();
  const harmless = DEVICE.test(plain) ? `_${plain}` : plain;
  const bounded = [...harmless];
  for (let size = Buffer.byteLength(harmless); size > FILE_NAME_SIZE_MAX; )
    size -= Buffer.byteLength(bounded.shift() ?? "");
  return bounded.join("") || "file";
}

/** The name, or the name with a number before its ending, that is not taken. */
export function freeName(name: string, taken: ReadonlySet<string>): string {
  if (!taken.has(name)) return name;
  const dot = name.lastIndexOf(".");
  const [stem, ending] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ""];
  for (let number = 2; ; number++) {
    const candidate = `${stem} (${number})${ending}`;
    if (!taken.has(candidate)) return candidate;
  }
}

/** A file that lies whole under its name. */
export interface SavedFile {
  readonly name: string;
  readonly path: string;
  readonly size: number;
  /** In hex. */
  readonly sha256: string;
}

/** Where a file lies until it has its name, beside where it goes. */
export const PART = ".incoming.part";

interface Wanted extends Omit<SavedFile, "path"> {
  readonly directory: string;
  /** Names in the directory that are given to other files. */
  readonly taken: ReadonlySet<string>;
}

/**
 * Gives a gathered file a safe and free name near the one that is wanted. Nothing is ever overwritten: one of the same name and
 * the same bytes, which a crash may have left, is taken for the file itself.
 */
export async function nameFile(disk: Disk, gathered: string, wanted: Wanted): Promise<SavedFile> {
  const { directory, size, sha256 } = wanted;
  const taken = new Set(wanted.taken);
  for (;;) {
    const name = freeName(safeName(wanted.name), taken);
    const path = join(directory, name);
    if (await disk.name(gathered, path)) return { name, path, size, sha256 };
    if ((await disk.size(path)) === size && (await digestOf(disk, path)).sha256 === sha256) {
      await disk.remove(gathered);
      return { name, path, size, sha256 };
    }
    taken.add(name);
  }
}

/** Saves bytes as a file of its own, as `nameFile` names it. */
export async function saveFile(disk: Disk, wanted: Wanted, bytes: Uint8Array): Promise<SavedFile> {
  await disk.makeDirectory(wanted.directory);
  const part = join(wanted.directory, PART);
  await disk.gather(part, [bytes]);
  return nameFile(disk, part, wanted);
}

const PASSING: ReadonlySet<unknown> = new Set(["ENOSPC", "EDQUOT", "EIO", "EROFS"]);
/** Whether a disk that refuses so may take it later. */
export const isPassing = (error: unknown): boolean =>
  error instanceof Error && (("code" in error && PASSING.has(error.code)) || isPassing(error.cause));

import { createHash } from "node:crypto";
import { basename, join, resolve } from "node:path";
import { MeshError } from "../errors.ts";
import { FILE_NAME_LENGTH_MAX, FILE_SIZE_MAX, FILES_MAX } from "../limits.ts";
import type { Disk } from "../store/disk.ts";

// Files that leave and files that come. The name that crosses the mesh is a bare file name; what comes back lands in the
// offload's own folder, whole, under a name of its own.

export interface FileToSend {
  readonly name: string;
  readonly path: string;
  readonly size: number;
  readonly sha256: string;
}

const sha256Of = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

async function bytesOf(disk: Disk, path: string): Promise<Uint8Array> {
  const bytes = await disk.read(path);
  if (!bytes) throw new MeshError("file_unreadable", `${path} is not there any more.`);
  return bytes;
}

/**
 * Looks at the files that an offload names. Two of the same name get different names on the mesh.
 * @throws MeshError `file_unreadable`, `file_too_large`, `limit_reached`
 */
export async function inspectFiles(disk: Disk, paths: readonly string[]): Promise<FileToSend[]> {
  if (paths.length > FILES_MAX) throw new MeshError("limit_reached", `At most ${FILES_MAX} files go with one offload.`);
  const files: FileToSend[] = [];
  for (const given of paths) {
    const path = resolve(given);
    try {
      const size = await disk.size(path);
      if (size === undefined) throw new MeshError("file_unreadable", `${path} is not a file.`);
      if (size > FILE_SIZE_MAX)
        throw new MeshError("file_too_large", `${path} has ${size} bytes, at most ${FILE_SIZE_MAX} are sent.`);
      const name = freeName(basename(path), new Set(files.map((file) => file.name)));
      const bytes = await bytesOf(disk, path);
      files.push({ name, path, size: bytes.length, sha256: sha256Of(bytes) });
    } catch (cause) {
      if (cause instanceof MeshError) throw cause;
      throw new MeshError("file_unreadable", `${path}: ${cause instanceof Error ? cause.message : String(cause)}.`, {
        cause,
      });
    }
  }
  return files;
}

/** The bytes of a file that was looked at before. @throws MeshError `file_unreadable` when they are other bytes now */
export async function readInspected(disk: Disk, file: FileToSend): Promise<Uint8Array> {
  const bytes = await bytesOf(disk, file.path).catch((cause: unknown) => {
    if (cause instanceof MeshError) throw cause;
    throw new MeshError("file_unreadable", `${file.path}: ${cause instanceof Error ? cause.message : String(cause)}.`, {
      cause,
    });
  });
  if (sha256Of(bytes) !== file.sha256)
    throw new MeshError("file_unreadable", `${file.path} was changed after the offload was requested.`);
  return bytes;
}

/** A name without a path, control characters or a leading dot, that no file system takes for anything else. */
export function safeName(name: string): string {
  const last = name.split(/[/\\]/).at(-1) ?? "";
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must go
  const plain = last.replace(/[\x00-\x1f\x7f<>:"|?*]/g, "_").replace(/^\.+/, "_");
  const bounded = plain.slice(-FILE_NAME_LENGTH_MAX).trim();
  return bounded === "" ? "file" : bounded;
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

/** Writes a file whole or not at all, durably. Writing the same bytes again to the same place changes nothing. */
export async function saveFile(disk: Disk, directory: string, name: string, bytes: Uint8Array): Promise<string> {
  await disk.makeDirectory(directory);
  const path = join(directory, name);
  await disk.replace(path, bytes);
  return path;
}

import { constants, type Stats } from "node:fs";
import { chmod, lstat, open, opendir, realpath } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

// Files and folders where a task could write, held open, so that a name which the task exchanges leads nowhere else. The entries
// of a held folder are reached relative to the folder itself (openat(2)), and no link is followed.
//
// On Linux a thing is opened with O_PATH | O_NOFOLLOW, which neither reads nor wakes it, and is reached again through
// /proc/self/fd. Elsewhere its path is checked with realpath and lstat, which a process that still runs could outrun.

/** open(2) of Linux: whatever stands there, a link or a pipe among it, without touching it. Node does not name it. */
const O_PATH = 0o10000000;
const { O_RDONLY, O_NOFOLLOW = 0, O_NONBLOCK = 0 } = constants;
const isLinux = process.platform === "linux";
/** Names on Linux are bytes, which need not be text. */
const ENCODING = isLinux ? "latin1" : "utf8";

export interface Held {
  /** Leads to the thing itself, whatever its name is by now. */
  readonly path: string;
  /** What it was when it was opened. */
  readonly stats: Stats;
  close(): Promise<void>;
}

/** Holds what stands at a path. The last part of the path is not followed if it is a link. @throws when nothing is there */
export async function hold(path: string | Buffer): Promise<Held> {
  if (!isLinux) {
    const given = path.toString();
    const real = join(await realpath(dirname(given)), basename(given));
    return { path: real, stats: await lstat(real), close: async () => undefined };
  }
  const handle = await open(path, O_PATH | O_NOFOLLOW);
  try {
    return { path: `/proc/self/fd/${handle.fd}`, stats: await handle.stat(), close: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** The path of an entry, relative to its held folder. @param name without a slash */
export const entryPath = (folder: Held, name: Buffer | string): Buffer =>
  Buffer.concat([Buffer.from(`${folder.path}/`), Buffer.from(name)]);

export const holdEntry = (folder: Held, name: Buffer | string): Promise<Held> => hold(entryPath(folder, name));

export interface Entry {
  readonly name: Buffer;
  readonly isFolder: boolean;
}

/** The entries of a held folder. @throws when it is no folder, or closed to this user */
export async function* entriesOf(folder: Held): AsyncGenerator<Entry> {
  for await (const entry of await opendir(folder.path, { encoding: ENCODING }))
    yield { name: Buffer.from(entry.name, ENCODING), isFolder: entry.isDirectory() };
}

/** Opens a held file or folder to its owner, whatever its task made of its modes. @param mode its permissions from then on */
export async function openUp({ path, stats }: Held, mode: number): Promise<void> {
  // A link has no modes of its own, and on some systems those of its target would change.
  if (!stats.isSymbolicLink()) await chmod(path, mode);
}

/** The text of a held plain file; undefined when it is something else, or larger than `sizeMax`. */
export async function readText({ path, stats }: Held, sizeMax: number): Promise<string | undefined> {
  if (!stats.isFile() || stats.size > sizeMax) return undefined;
  // On Linux the path is itself a link, to the very thing; elsewhere it must not have become one.
  const handle = await open(path, O_RDONLY | O_NONBLOCK | (isLinux ? 0 : O_NOFOLLOW));
  try {
    const bytes = Buffer.alloc(sizeMax + 1);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, 0);
    return bytesRead > sizeMax ? undefined : bytes.toString("utf8", 0, bytesRead);
  } finally {
    await handle.close();
  }
}

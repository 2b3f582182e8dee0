import { constants, type Dirent, existsSync } from "node:fs";
import { access, chmod, lstat, readdir, statfs } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { refusedBy } from "../../store/disk-errors.ts";
import { DISK_FREE_LOW_SIZE, DISK_FREE_MIN_SIZE } from "../limits.ts";
import { counted, type Finding, note, ok, problem } from "./check.ts";

// The machine and the files of a home, looked at from outside.

/** As the package says. */
const NODE_NEEDED = [22, 16] as const;

export function nodeVersion(version = process.versions.node): Finding {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const isEnough = major > NODE_NEEDED[0] || (major === NODE_NEEDED[0] && minor >= NODE_NEEDED[1]);
  return isEnough
    ? ok(`Node.js ${version}.`)
    : problem(`Node.js ${version} is too old: install ${NODE_NEEDED.join(".")} or newer from nodejs.org.`);
}

interface Exposed {
  readonly path: string;
  /** Readable or writable by others, as permission bits; 0 when only the owner is wrong. */
  readonly mode: number;
  readonly isForeign: boolean;
  readonly isDirectory: boolean;
}

async function* below(path: string, entry?: Dirent): AsyncGenerator<string> {
  yield path;
  if (entry && !entry.isDirectory()) return;
  for (const each of await readdir(path, { withFileTypes: true }))
    if (!each.isSymbolicLink()) yield* below(join(path, each.name), each);
}

/** What others can get at, or somebody else owns. */
async function exposed(home: string): Promise<{ readonly files: number; readonly found: Exposed[] }> {
  const found: Exposed[] = [];
  let files = 0;
  for await (const path of below(home)) {
    // What went meanwhile is exposed to nobody.
    const info = await lstat(path).catch(() => undefined);
    if (!info) continue;
    files++;
    const mode = info.mode & 0o077;
    const isForeign = info.uid !== process.getuid?.();
    if (mode !== 0 || isForeign) found.push({ path, mode, isForeign, isDirectory: info.isDirectory() });
  }
  return { files, found };
}

/** Files 0600, directories 0700, all of them the user's own. */
export async function permissions(home: string): Promise<Finding> {
  if (process.platform === "win32") return note("Not looked at on Windows, where the folder's own rights hold.");
  const { files, found } = await exposed(home);
  const [first] = found;
  if (!first) return ok(`${counted(files, "file")} and directories, which only you can get at.`);
  const name = relative(dirname(home), first.path);
  const more = found.length > 1 ? ` and ${found.length - 1} more` : "";
  return first.isForeign && first.mode === 0
    ? problem(`${name}${more} belong to another user: chown them to yours.`)
    : problem(`Others can get at ${name}${more}: kars-mesh doctor --repair takes that back.`);
}

/** Takes from others what they could get at. @returns how many files and directories */
export async function narrowPermissions(home: string): Promise<number> {
  if (process.platform === "win32" || !existsSync(home)) return 0;
  const { found } = await exposed(home);
  const open = found.filter(({ mode }) => mode !== 0);
  for (const { path, isDirectory } of open) {
    await chmod(path, isDirectory ? 0o700 : 0o600).catch((cause: unknown) => {
      throw refusedBy(path, cause);
    });
  }
  return open.length;
}

const inMegabytes = (bytes: number) =>
  bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.floor(bytes / 1e6)} MB`;

/** Room, and the right to write. */
export async function diskSpace(home: string): Promise<Finding> {
  for (const path of [home, join(home, "journal"), join(home, "vault")]) {
    const refusal = await access(path, constants.W_OK).catch((error: NodeJS.ErrnoException) =>
      error.code === "ENOENT" ? undefined : error,
    );
    if (refusal) return problem(refusedBy(path, refusal).message);
  }
  const { bavail, bsize } = await statfs(home);
  const free = bavail * bsize;
  const text = `${inMegabytes(free)} are free`;
  if (free < DISK_FREE_MIN_SIZE) return problem(`Only ${text}: make room, or nothing more can be kept.`);
  return free < DISK_FREE_LOW_SIZE
    ? note(`Only ${text}: make room soon.`)
    : ok(`${text}, and the home can be written.`);
}

import { constants, type Dirent } from "node:fs";
import { chmod, copyFile, mkdir, open, readdir, realpath } from "node:fs/promises";
import { joinPath, realDisk } from "./disk.ts";
import { refusedBy, tellingDisk } from "./disk-errors.ts";
import { type JournalScan, scanJournal, segmentsOf } from "./scan.ts";
import type { Random } from "./seal.ts";
import { applyPatch, openPatch } from "./secrets.ts";
import { freshEpochKey, openVault, type Secret } from "./vault.ts";

// Salvage: the longest sound prefix of a home's journal as a new home beside it, with the newest secrets that can be read.
// The damaged home is only read.

const disk = tellingDisk(realDisk);

/** What is written anew, or belongs to a process, or is left of one. */
const isOwn = (name: string) =>
  ["journal", "vault", "snapshots"].includes(name) || name.startsWith("owner.") || name.endsWith(".tmp");

/** A copy that is on disk when this resolves; sockets and the like are left out. */
async function copyDurably(from: string, to: string, entry: Dirent): Promise<void> {
  if (entry.isDirectory()) {
    await mkdir(to, { mode: 0o700 });
    for (const each of await readdir(from, { withFileTypes: true }))
      await copyDurably(joinPath(from, each.name), joinPath(to, each.name), each);
    return syncPath(to);
  }
  if (!entry.isFile()) return;
  await copyFile(from, to, constants.COPYFILE_FICLONE);
  await chmod(to, 0o600);
  await syncPath(to);
}

/** Makes a file or the names in a directory durable. */
export async function syncPath(path: string): Promise<void> {
  // Windows cannot open a directory; its renames are durable without.
  const handle = await open(path, "r").catch((error: unknown) => {
    if (process.platform === "win32") return undefined;
    throw error;
  });
  try {
    if (process.platform !== "win32") await handle?.sync();
  } finally {
    await handle?.close();
  }
}

export interface Salvaged {
  readonly scan: JournalScan;
  /** Commits whose secrets could not be read: they were sealed in another epoch than the vault's. */
  readonly unreadable: number;
  /** The commit that the old vault was of. */
  readonly position: number;
}

/**
 * Writes a new home at `to`, where nothing may be. Its vault is of the end of its journal and holds the secrets that the old
 * vault and all its whole lines have, even those behind the damage, as far as `lasts` says so: what belongs to a ratchet is as
 * old as the journal now and must not be used again.
 * @throws MeshError `store_damaged` when the vault does not open, `store_io`
 */
export async function salvageStore(options: {
  readonly from: string;
  readonly to: string;
  /** The store key. */
  readonly key: Uint8Array;
  readonly random: Random;
  readonly now: number;
  readonly lasts: (secret: string) => boolean;
}): Promise<Salvaged> {
  const { from, to, key, random, now, lasts } = options;
  const { document } = await openVault(disk, from, key, random, now, true);
  const secrets = new Map<string, Secret>(Object.entries(document.secrets));
  let unreadable = 0;
  const take = (commit: Parameters<typeof openPatch>[1]) => {
    try {
      applyPatch(secrets, openPatch(document, commit) ?? {});
    } catch {
      // Of another epoch: what the vault has counts. It is told how many there are.
      unreadable++;
    }
  };
  const journal = joinPath(from, "journal");
  const scan = await scanJournal(disk, journal, { onSound: take, onBehind: take });
  await telling(to, () => mkdir(to, { mode: 0o700 }));
  await telling(to, async () => {
    for (const entry of await readdir(await realpath(from), { withFileTypes: true }))
      if (!isOwn(entry.name)) await copyDurably(joinPath(from, entry.name), joinPath(to, entry.name), entry);
  });
  await disk.makeDirectory(joinPath(to, "journal"));
  for (const segment of await segmentsOf(disk, journal)) {
    if (!scan.end || segment > scan.end.segment) break;
    const bytes = (await disk.read(joinPath(journal, segment))) ?? new Uint8Array();
    const sound = segment === scan.end.segment ? bytes.subarray(0, scan.end.offset) : bytes;
    if (sound.length > 0) await disk.replace(joinPath(to, "journal", segment), sound);
  }
  const vault = await openVault(disk, to, key, random, now);
  await vault.write({
    epoch: document.epoch + 1,
    key: freshEpochKey(random),
    position: scan.head,
    since: now,
    secrets: Object.fromEntries([...secrets].filter(([name]) => lasts(name))),
  });
  await telling(to, () => syncPath(to));
  return { scan, unreadable, position: document.position };
}

async function telling<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw refusedBy(path, cause);
  }
}

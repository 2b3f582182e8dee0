import type { Stats } from "node:fs";
import { lstat } from "node:fs/promises";
import { entriesOf, entryPath, type Held, holdEntry, openUp } from "./held.ts";
import { ENTRIES_MAX, FOLDER_DEPTH_MAX } from "./limits.ts";

// How much lies in a task's folders, all the way down. No link is followed, also none that takes the place of a folder meanwhile.

export interface Extent {
  bytes: number;
  entries: number;
  /** Folders in each other. */
  depth: number;
}

const isTooMuch = ({ entries, depth }: Extent): boolean => entries > ENTRIES_MAX || depth > FOLDER_DEPTH_MAX;
const isClosed = ({ mode }: Stats): boolean => (mode & 0o500) !== 0o500;

/**
 * Measures held folders; stops when there is more than `ENTRIES_MAX` and `FOLDER_DEPTH_MAX` allow.
 * @param opens whether a folder that its task closed to its own user is opened again to be measured; else it counts as empty
 */
export async function measure(folders: readonly Held[], opens: (folder: Stats) => boolean): Promise<Extent> {
  const extent: Extent = { bytes: 0, entries: 0, depth: 0 };
  for (const folder of folders) await add(extent, folder, 1, opens);
  return extent;
}

async function add(extent: Extent, folder: Held, depth: number, opens: (folder: Stats) => boolean): Promise<void> {
  extent.depth = Math.max(extent.depth, depth);
  if (isTooMuch(extent)) return;
  const below: Buffer[] = [];
  try {
    if (isClosed(folder.stats) && opens(folder.stats)) await openUp(folder, 0o700);
    for await (const { name, isFolder } of entriesOf(folder)) {
      extent.entries++;
      if (isTooMuch(extent)) return;
      if (isFolder) below.push(name);
      else extent.bytes += (await lstat(entryPath(folder, name)).catch(() => undefined))?.size ?? 0;
    }
  } catch {
    // It is closed, or was just taken away.
  }
  for (const name of below) {
    if (isTooMuch(extent)) return;
    const inner = await holdEntry(folder, name).catch(() => undefined);
    if (!inner) continue;
    try {
      if (inner.stats.isDirectory()) await add(extent, inner, depth + 1, opens);
    } finally {
      await inner.close();
    }
  }
}

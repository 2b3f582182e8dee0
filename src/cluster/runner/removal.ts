import { randomBytes } from "node:crypto";
import { rename, rmdir, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { entriesOf, entryPath, type Held, hold, holdEntry, openUp } from "./held.ts";

// Takes away what a task left, whatever its modes and depth. A deep tree is laid flat: the folders in a folder are moved up beside
// it, so that no path grows long and no more than three folders are held at a time. No link is followed.

const ASIDE = "gone-";
const fresh = (): string => `${ASIDE}${randomBytes(9).toString("base64url")}`;

const hasCode = (error: unknown, ...codes: string[]): boolean =>
  error instanceof Error && "code" in error && codes.some((code) => code === error.code);

/** Takes away a file, a link or a whole tree; nothing happens when there is none. Its name is free from the first step on. */
export async function removeTree(path: string): Promise<void> {
  // A process that was left behind and still writes there does not meet what takes that name next.
  const aside = basename(path).startsWith(ASIDE) ? path : join(dirname(path), fresh());
  try {
    if (aside !== path) await rename(path, aside);
    const tree = await hold(aside);
    try {
      if (tree.stats.isDirectory()) await empty(tree);
    } finally {
      await tree.close();
    }
    await (tree.stats.isDirectory() ? rmdir(aside) : unlink(aside));
  } catch (error) {
    if (!hasCode(error, "ENOENT")) throw error;
  }
}

/** Removes all that lies in a folder. @throws what the system said last, when nothing of it can be removed any more */
async function empty(tree: Held): Promise<void> {
  await openUp(tree, 0o700);
  for (;;) {
    let [found, removed]: [number, number] = [0, 0];
    let problem: unknown;
    for await (const { name } of entriesOf(tree)) {
      found++;
      try {
        await take(tree, name);
        removed++;
      } catch (error) {
        problem = error;
      }
    }
    if (found === 0) return;
    if (removed === 0) throw problem;
  }
}

/** Removes a file; or the files of a folder, which moves what folders it has up beside it and then goes, as those do after it. */
async function take(tree: Held, first: Buffer): Promise<void> {
  const waiting: (Buffer | string)[] = [first];
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    const path = entryPath(tree, name);
    const folder = await holdFolder(tree, name);
    if (!folder) {
      await unlink(path);
      continue;
    }
    try {
      for await (const { name: below, isFolder } of entriesOf(folder)) {
        const inner = isFolder ? await holdFolder(folder, below) : undefined;
        if (inner) {
          await inner.close();
          const moved = fresh();
          await rename(entryPath(folder, below), entryPath(tree, moved));
          waiting.push(moved);
        } else await unlink(entryPath(folder, below));
      }
    } finally {
      await folder.close();
    }
    await rmdir(path);
  }
}

/** Holds a folder and opens it to its owner, without which it cannot be moved either; undefined when it is something else. */
async function holdFolder(within: Held, name: Buffer | string): Promise<Held | undefined> {
  const held = await holdEntry(within, name);
  try {
    if (held.stats.isDirectory()) {
      if ((held.stats.mode & 0o700) !== 0o700) await openUp(held, 0o700);
      return held;
    }
  } catch (error) {
    await held.close();
    throw error;
  }
  await held.close();
  return undefined;
}

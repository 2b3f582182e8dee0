import { mkdtemp, rename } from "node:fs/promises";
import { join } from "node:path";
import { RAISE_THERE, tooLarge } from "../../actors/file-size.ts";
import { MeshError } from "../../errors.ts";
import { FILES_MAX } from "../../limits.ts";
import { entriesOf, entryPath, type Held, hold, holdEntry, openUp } from "./held.ts";
import { LEFT_OUT_NAMED_MAX } from "./limits.ts";

// The files that a task left in out/. Each is looked at and moved, relative to the held working directory, to a folder that the
// task never saw: what is read, judged by a policy and sent lies there. What is no plain file of the task's own stays behind.

export interface Results {
  readonly files: readonly string[];
  /** What stays behind, and why: text for the summary. Empty when nothing does. */
  readonly leftOut: string;
}

/** Why a thing is no result; undefined when it is one. */
function refusalOf({ stats }: Held): string | undefined {
  if (stats.isSymbolicLink()) return "a link";
  if (stats.isDirectory()) return "a folder";
  if (!stats.isFile()) return "no plain file";
  // Its other name may be anywhere, and its bytes somebody else's.
  return stats.nlink > 1 ? "a hard link" : undefined;
}

async function named<T>(folder: Held, name: Buffer | string, use: (held: Held) => Promise<T>): Promise<T> {
  const held = await holdEntry(folder, name);
  try {
    return await use(held);
  } finally {
    await held.close();
  }
}

const words = (names: readonly string[]): string => {
  if (names.length === 0) return "";
  const more = names.length - LEFT_OUT_NAMED_MAX;
  return `Left out of the results: ${names.slice(0, LEFT_OUT_NAMED_MAX).join(", ")}${more > 0 ? ` and ${more} more` : ""}.`;
};

/**
 * Moves what is in `out/` to a fresh folder beside the working directory.
 * @param work the task's working directory, held since before the task began
 * @param apart a folder that the task does not reach, on the same file system
 * @throws MeshError `limit_reached`, `file_too_large` when there are more or larger files than may be sent
 */
export async function collectResults(work: Held, apart: string, sizeMax: number): Promise<Results> {
  const out = await holdEntry(work, "out").catch(() => undefined);
  if (!out) return { files: [], leftOut: words(["out (not there any more)"]) };
  try {
    if (!out.stats.isDirectory()) {
      const refusal = refusalOf(out);
      return { files: [], leftOut: words([`out (${refusal ?? "no folder"})`]) };
    }
    await openUp(out, 0o700);
    const names: string[] = [];
    const left: string[] = [];
    for await (const { name } of entriesOf(out)) {
      const text = name.toString("utf8");
      const refusal = await named(out, name, async (held) => {
        const why = refusalOf(held);
        if (why === undefined && held.stats.size > sizeMax) throw tooLarge(text, held.stats.size, sizeMax, RAISE_THERE);
        return why ?? (Buffer.from(text).equals(name) ? undefined : "its name is no text");
      });
      if (refusal === undefined) names.push(text);
      else left.push(`${text} (${refusal})`);
    }
    if (names.length > FILES_MAX)
      throw new MeshError(
        "limit_reached",
        `The task left ${names.length} files in out/, and at most ${FILES_MAX} are sent back.`,
      );
    const files = await move(out, names.sort(), apart, sizeMax, left);
    return { files, leftOut: words(left) };
  } finally {
    await out.close();
  }
}

/** Moves files, and looks again at what was moved. */
async function move(
  out: Held,
  names: readonly string[],
  apart: string,
  sizeMax: number,
  left: string[],
): Promise<string[]> {
  if (names.length === 0) return [];
  const path = await mkdtemp(join(apart, "results-"));
  const folder = await hold(path);
  const files: string[] = [];
  try {
    for (const name of names) {
      await rename(entryPath(out, name), entryPath(folder, name));
      const refusal = await named(folder, name, async (held) => {
        const why = refusalOf(held);
        if (why !== undefined || held.stats.size > sizeMax) return why ?? "larger than it was";
        await openUp(held, 0o600);
        return undefined;
      });
      if (refusal === undefined) files.push(join(path, name));
      else left.push(`${name} (${refusal})`);
    }
  } finally {
    await folder.close();
  }
  return files;
}

import { realpath, stat } from "node:fs/promises";
import { isAbsolute, join, relative, resolve, sep } from "node:path";
import { secretByName } from "../actors/secret-files.ts";
import { MeshError } from "../errors.ts";
import { FILE_MEGABYTES_MAX, FILES_MAX } from "../limits.ts";
import type { ToolContext } from "./api.ts";
import { expandTilde, type PluginConfig } from "./config.ts";

// Which files an agent may hand to a cluster. What a message talked it into must not carry the user's keys away.

const MEGABYTE = 1_000_000;
const DEVICES = /^[/](proc|sys|dev)([/]|$)/;

const isInside = (folder: string, path: string) => {
  const way = relative(folder, path);
  return way === "" || !(way === ".." || way.startsWith(`..${sep}`) || isAbsolute(way));
};

async function realpathOf(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (cause) {
    throw new MeshError("file_unreadable", `${path}: ${cause instanceof Error ? cause.message : String(cause)}.`, {
      cause,
    });
  }
}

/** Whether a part of the way from a folder is hidden. */
const isHidden = (folder: string, path: string) =>
  relative(folder, path)
    .split(sep)
    .some((part) => part.startsWith("."));

/** Whether everything in a folder looks like a secret. */
const isSecret = (folder: string) => secretByName(join(folder, "file")) !== undefined;

/** Files that an agent may send, by their real paths. */
export interface Resolved {
  readonly files: string[];
  /** Those of them that the person named one by one, or in a folder of secrets: they are meant, whatever they look like. */
  readonly meant: string[];
}

/**
 * The real paths of files, which are relative to the agent's workspace. Those in the workspace may go, and those in the upload roots
 * that the person named, but for what is hidden there; none outside of the workspace where the agent is kept to it. The state
 * directory of this node never.
 * @throws MeshError `input_invalid`, `file_unreadable`, `file_too_large`
 */
export async function resolveFiles(
  files: readonly string[],
  { workspaceDir, sandboxed, fsPolicy }: ToolContext,
  { home, uploadRoots, limits }: Pick<PluginConfig, "home" | "uploadRoots" | "limits">,
): Promise<Resolved> {
  if (files.length === 0) return { files: [], meant: [] };
  const { filesPerOffload: most = FILES_MAX, megabytesPerFile, megabytesPerOffload } = limits;
  if (files.length > most)
    throw new MeshError("input_invalid", `files: ${files.length} are given, and one offload takes at most ${most}.`);
  // A folder that is not there yet holds nothing.
  const placeOf = (folder: string) => realpath(folder).catch(() => resolve(folder));
  const workspace = await placeOf(workspaceDir ?? process.cwd());
  const state = await placeOf(home);
  const confined = sandboxed === true || fsPolicy?.workspaceOnly === true;
  const roots = await Promise.all(uploadRoots.map(placeOf));
  const paths = await Promise.all(
    files.map(async (file, index) => {
      const path = await realpathOf(resolve(workspace, expandTilde(file)));
      const refuse = (reason: string) => new MeshError("input_invalid", `files.${index}: ${path} ${reason}.`);
      if (isInside(state, path)) throw refuse("belongs to the mesh node itself");
      if (isInside(workspace, path)) return path;
      if (confined) throw refuse(`lies outside the workspace ${workspace}`);
      if (DEVICES.test(path)) throw refuse("is not a stored file");
      const root = roots.find((each) => isInside(each, path));
      if (root === undefined)
        throw refuse(
          `lies outside the workspace ${workspace} and the folders of uploadRoots (${roots.join(", ") || "none"}); copy it to the workspace, or ask the user to name its folder in uploadRoots`,
        );
      // A hidden folder that the person named is meant.
      if (isHidden(root, path))
        throw refuse(`is hidden, or in a hidden folder; copy it to the workspace ${workspace} if it is really meant`);
      return path;
    }),
  );
  const sizes = await Promise.all(paths.map(async (path) => (await stat(path)).size));
  const largest = paths[sizes.findIndex((size) => size > (megabytesPerFile ?? FILE_MEGABYTES_MAX) * MEGABYTE)];
  if (largest !== undefined)
    throw new MeshError(
      "file_too_large",
      `${largest} has more than ${megabytesPerFile ?? FILE_MEGABYTES_MAX} MB, the most that one file may have.`,
    );
  if (megabytesPerOffload !== undefined) {
    const total = sizes.reduce((sum, size) => sum + size, 0);
    if (total > megabytesPerOffload * MEGABYTE)
      throw new MeshError(
        "file_too_large",
        `files: together ${total} bytes, and one offload takes at most ${megabytesPerOffload} MB.`,
      );
  }
  const isMeant = (path: string) => roots.some((root) => root === path || (isSecret(root) && isInside(root, path)));
  return { files: paths, meant: paths.filter(isMeant) };
}

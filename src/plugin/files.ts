import { realpath } from "node:fs/promises";
import { isAbsolute, relative, resolve, sep } from "node:path";
import { MeshError } from "../errors.ts";
import type { ToolContext } from "./api.ts";
import { expandTilde } from "./config.ts";

// Which files an agent may hand to a cluster. What a message talked it into must not carry the user's keys away.

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

/**
 * The real paths of files, which are relative to the agent's workspace. Inside the workspace every file may go; elsewhere
 * none that is hidden or lies in a hidden folder (keys, credentials, histories), and none at all where the agent is kept to its
 * workspace. The state directory of this node never.
 * @throws MeshError `input_invalid`, `file_unreadable`
 */
export async function resolveFiles(
  files: readonly string[],
  { workspaceDir, sandboxed, fsPolicy }: ToolContext,
  home: string,
): Promise<string[]> {
  if (files.length === 0) return [];
  const workspace = await realpathOf(resolve(workspaceDir ?? process.cwd()));
  const state = await realpath(home).catch(() => resolve(home));
  const confined = sandboxed === true || fsPolicy?.workspaceOnly === true;
  return Promise.all(
    files.map(async (file, index) => {
      const path = await realpathOf(resolve(workspace, expandTilde(file)));
      const refuse = (reason: string) => new MeshError("input_invalid", `files.${index}: ${path} ${reason}.`);
      if (isInside(state, path)) throw refuse("belongs to the mesh node itself");
      if (isInside(workspace, path)) return path;
      if (confined) throw refuse(`lies outside the workspace ${workspace}`);
      if (DEVICES.test(path)) throw refuse("is not a stored file");
      if (path.split(sep).some((part) => part.startsWith(".")))
        throw refuse(`is hidden, or in a hidden folder; copy it to the workspace ${workspace} if it is really meant`);
      return path;
    }),
  );
}

import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { basename, isAbsolute, resolve } from "node:path";
import { promisify } from "node:util";
import { MeshError } from "../errors.ts";
import type { PolicyHook } from "./policy.ts";
import { PROBE_WAIT_MS } from "./runner/limits.ts";
import { presetOf } from "./runner/presets.ts";

// Commands that an operator gives with --policy and --runner are looked at when the cluster starts: a mistyped one would refuse,
// or fail, every task, and only when the first one comes.
//
// The shell says whether it understands the command. The first word, if it means itself to the shell, has to be a program; so has
// the script behind an interpreter to be there. What only the command itself could tell is left to its first run.

/** A word that the shell takes as it stands. */
const PLAIN = /^[\w%+,./:@-]+$/;
const ASSIGNMENT = /^\w+=[\w%+,./:@-]*$/;
/** Programs whose first argument, if it is no option, is a script. */
const INTERPRETERS: ReadonlySet<string> = new Set(["node", "python", "python3", "sh", "bash", "dash", "ruby", "perl"]);

const SHELL = "/bin/sh";

/** What a shell says against a script of its own; undefined when it ends well. */
async function complaintOf(args: readonly string[]): Promise<string | undefined> {
  try {
    await promisify(execFile)(SHELL, args, { timeout: PROBE_WAIT_MS });
    return undefined;
  } catch (error) {
    const said = error instanceof Error && "stderr" in error ? String(error.stderr) : "";
    return said.trim().split("\n")[0] || "it cannot be run";
  }
}

const canRun = async (path: string): Promise<boolean> => {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
};
const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );
const isProgram = async (name: string): Promise<boolean> =>
  (await complaintOf(["-c", 'command -v "$1"', "sh", name])) === undefined;

/**
 * What is wrong with a shell command, as far as that shows without running it.
 * @param directory where it will run; undefined when that is a task's own folder, in which its relative paths may be there by then
 */
export async function problemOf(command: string, directory: string | undefined): Promise<string | undefined> {
  if (process.platform === "win32") return undefined;
  const complaint = await complaintOf(["-n", "-c", command]);
  if (complaint !== undefined) return `the shell does not understand it (${complaint})`;
  const words = command.trim().split(/\s+/);
  while (words[0] !== undefined && ASSIGNMENT.test(words[0])) words.shift();
  const [program = "", script = ""] = words;
  if (!PLAIN.test(program)) return program === "" ? "it is empty" : undefined;
  const placed = (path: string) => (isAbsolute(path) ? path : directory && resolve(directory, path));
  if (program.includes("/")) {
    const path = placed(program);
    if (path !== undefined && !(await canRun(path))) return `${path} is no program that this user can run`;
  } else if (!(await isProgram(program))) return `${program} is not found on the PATH`;
  if (!INTERPRETERS.has(basename(program)) || !PLAIN.test(script) || script.startsWith("-")) return undefined;
  const path = placed(script);
  return path === undefined || (await isThere(path)) ? undefined : `${path} is not there`;
}

/** @throws MeshError `input_invalid` when a command that every task depends on cannot be run here */
export async function checkCommands(runner: string | null, policy: PolicyHook | undefined): Promise<void> {
  const refused = policy && (await problemOf(policy.command, policy.directory));
  if (refused !== undefined)
    throw new MeshError(
      "input_invalid",
      `--policy: ${refused}. It would refuse every task. Name a program that is here, or leave --policy out.`,
    );
  const preset = presetOf(runner);
  if (preset && !(await isProgram(preset.program)))
    throw new MeshError(
      "input_invalid",
      `--runner ${preset.name}: ${preset.program} is not found on the PATH. Install ${preset.title}, or give --runner a command. kars-local runners shows which agents are here.`,
    );
  const failing = runner === null || preset ? undefined : await problemOf(runner, undefined);
  if (failing !== undefined)
    throw new MeshError(
      "input_invalid",
      `--runner: ${failing}. Every task would fail. Name a program that is here; kars-local runners shows the agents that go by a name.`,
    );
}

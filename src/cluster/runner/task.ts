import { mkdir, realpath } from "node:fs/promises";
import { extname, join } from "node:path";
import type { ErrorCode } from "../../errors.ts";
import { execute } from "./execute.ts";
import { inventory } from "./inventory.ts";
import { presetOf, promptOf } from "./presets.ts";
import type { TaskRules } from "./rules.ts";
import type { TokensUsed } from "./usage.ts";

// What a sandbox does with a task. With an agent runner, a preset or any command gets the task on its standard input.
// Without one, `run <file> [arguments]` executes a script that was sent along; any other task gets an inventory of its files,
// which says that nobody was there to read the task.

export interface TaskProgress {
  readonly stage: string;
  readonly message: string;
  /** A whole number from 0 to 100, where the output names a percentage. */
  readonly pct?: number;
}

export interface TaskResult {
  readonly ok: boolean;
  /** What came of it, or why nothing did. */
  readonly summary: string;
  /** Files to send back: the plain files of `out/`, where the task reaches them no more. */
  readonly files: readonly string[];
  /** The exit code; null when nothing was executed, or a signal ended it. */
  readonly exit: number | null;
  /** Why it failed, when that is more than the task's own affair. */
  readonly code?: ErrorCode;
  /** The same in the cluster's own words: nothing of the task's. */
  readonly reason?: string;
  /** All that it printed, in a file. */
  readonly log?: string;
  readonly tokens?: TokensUsed;
}

export interface TaskOptions {
  /** A text that no other task on this host has: its processes are known by it. */
  readonly mark: string;
  readonly task: string;
  /** Names of the files in the working directory. */
  readonly files: readonly string[];
  readonly directory: string;
  /** A folder beside it for what is to be forgotten: home and temporary files of whatever runs. */
  readonly scratch: string;
  /** Where the log is written, beside the working directory and out of the task's reach; so are its results. */
  readonly log: string;
  /** A preset's name, a shell command, or null for the built-in runner. */
  readonly runner: string | null;
  readonly rules: TaskRules;
  readonly timeoutMinutes: number;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: TaskProgress) => void;
  /** Told whenever more tokens are known to have been used: all of them so far. */
  readonly onUsage: (tokens: TokensUsed) => void;
}

const NODE = "node";
const INTERPRETERS: Readonly<Record<string, string>> = {
  ".js": NODE,
  ".mjs": NODE,
  ".cjs": NODE,
  ".ts": NODE,
  ".mts": NODE,
  ".py": "python3",
  ".sh": "sh",
};

/** Splits a command line at white space; single and double quotes hold words together. */
export function splitWords(line: string): string[] {
  const words = line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g);
  return [...words].map(([, double, single, plain]) => double ?? single ?? plain ?? "");
}

/** Node, allowed to read and write the task's folders and nothing else. */
const nodeWords = ({ rules, directory, scratch }: TaskOptions): string[] => [
  process.execPath,
  ...(rules.node_permission
    ? [
        "--permission",
        ...[directory, scratch].flatMap((path) => [`--allow-fs-read=${path}/`, `--allow-fs-write=${path}/`]),
      ]
    : []),
];

const DENIED = /\bERR_ACCESS_DENIED\b/;
const DENIED_NOTE =
  "On this cluster a Node script may read and write its working directory only, and start no processes, workers or addons.";

async function runScript(options: TaskOptions, file: string, args: readonly string[]): Promise<TaskResult> {
  const interpreter = INTERPRETERS[extname(file)];
  if (interpreter === undefined) {
    const known = Object.keys(INTERPRETERS).join(", ");
    return { ok: false, exit: null, summary: `${file} is no script that can be run here (${known}).`, files: [] };
  }
  const words = interpreter === NODE ? nodeWords(options) : [interpreter];
  const { rules } = options;
  const result = await execute(options, { words: [...words, file, ...args], title: file, input: "", rules });
  const isDenied = interpreter === NODE && rules.node_permission && !result.ok && DENIED.test(result.summary);
  return isDenied ? { ...result, summary: `${result.summary}\n${DENIED_NOTE}` } : result;
}

export async function runTask(given: TaskOptions): Promise<TaskResult> {
  const { runner, task, files, rules } = given;
  await mkdir(join(given.directory, "out"), { recursive: true });
  await mkdir(given.scratch, { recursive: true });
  // Whoever is confined to a path is told the one that the system uses.
  const options = {
    ...given,
    directory: await realpath(given.directory),
    scratch: await realpath(given.scratch),
  };
  const preset = presetOf(runner);
  if (preset)
    return execute(options, {
      words: [preset.program, ...preset.args(options.timeoutMinutes)],
      title: preset.title,
      input: promptOf(task, files),
      rules: { ...rules, variables: [...rules.variables, ...preset.variables] },
      reader: preset.reader,
    });
  if (runner !== null) return execute(options, { words: ["sh", "-c", runner], title: runner, input: task, rules });
  const [verb, file, ...args] = splitWords(task.trim());
  if (verb === "run" && file !== undefined && files.includes(file)) return runScript(options, file, args);
  return inventory(options);
}

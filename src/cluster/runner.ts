import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { extname, join } from "node:path";
import { createInterface } from "node:readline";
import { FILE_SIZE_MAX, FILES_MAX, PROGRESS_LINE_LENGTH_MAX, SUMMARY_LENGTH_MAX } from "../limits.ts";

// What a sandbox does with a task. With an agent runner, any command gets the task on its standard input. Without one,
// `run <file> [arguments]` executes a script that was sent along; any other task gets an inventory of its files, which says
// that nobody was there to read the task.

export interface TaskProgress {
  readonly stage: string;
  readonly message: string;
  /** 0 to 100, where the output names a percentage. */
  readonly pct?: number;
}

export interface TaskResult {
  readonly ok: boolean;
  /** What came of it, or why nothing did. */
  readonly summary: string;
  /** Files to send back: everything in `out/`. */
  readonly files: readonly string[];
}

export interface TaskOptions {
  readonly task: string;
  /** Names of the files in the working directory. */
  readonly files: readonly string[];
  readonly directory: string;
  /** A shell command, or null for the built-in runner. */
  readonly runner: string | null;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: TaskProgress) => void;
}

const INTERPRETERS: Readonly<Record<string, readonly string[]>> = {
  ".js": [process.execPath],
  ".mjs": [process.execPath],
  ".cjs": [process.execPath],
  ".ts": [process.execPath],
  ".mts": [process.execPath],
  ".py": ["python3"],
  ".sh": ["sh"],
};

/** Splits a command line at white space; single and double quotes hold words together. */
export function splitWords(line: string): string[] {
  const words = line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g);
  return [...words].map(([, double, single, plain]) => double ?? single ?? plain ?? "");
}

export async function runTask(options: TaskOptions): Promise<TaskResult> {
  await mkdir(join(options.directory, "out"), { recursive: true });
  if (options.runner !== null) return execute(options, ["sh", "-c", options.runner], options.task);
  const [verb, file, ...rest] = splitWords(options.task.trim());
  if (verb === "run" && file !== undefined && options.files.includes(file)) {
    const interpreter = INTERPRETERS[extname(file)];
    if (interpreter) return execute(options, [...interpreter, file, ...rest], "");
    const known = Object.keys(INTERPRETERS).join(", ");
    return { ok: false, summary: `${file} is no script that can be run here (${known}).`, files: [] };
  }
  return inventory(options);
}

async function execute(options: TaskOptions, command: readonly string[], input: string): Promise<TaskResult> {
  const [program = "", ...args] = command;
  const begun = Date.now();
  options.onProgress({ stage: "running", message: [program, ...args].join(" ").slice(0, PROGRESS_LINE_LENGTH_MAX) });
  const child = spawn(program, args, {
    cwd: options.directory,
    stdio: ["pipe", "pipe", "pipe"],
    signal: options.signal,
  });
  const ended = new Promise<{ code: number | null; problem?: string }>((resolve) => {
    child.once("error", (error) => resolve({ code: null, problem: error.message }));
    child.once("close", (code) => resolve({ code }));
  });
  // A program that does not read its input closes it early, and that is its own affair.
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  const output = new Tail();
  const errors = new Tail();
  let lines = 0;
  createInterface({ input: child.stdout }).on("line", (line) => {
    lines++;
    output.add(line);
    const percent = /(?:^|\D)(\d{1,3}(?:\.\d+)?)\s?%/.exec(line)?.[1];
    const pct = percent === undefined ? undefined : Number(percent);
    options.onProgress({
      stage: "running",
      message: line.slice(0, PROGRESS_LINE_LENGTH_MAX),
      ...(pct !== undefined && pct <= 100 && { pct }),
    });
  });
  createInterface({ input: child.stderr }).on("line", (line) => errors.add(line));
  const { code, problem } = await ended;
  const seconds = Math.round((Date.now() - begun) / 100) / 10;
  if (code !== 0) {
    const how = problem ?? (code === null ? "was ended" : `exited with ${code}`);
    return {
      ok: false,
      summary: `${args[0] ?? program} ${how} after ${seconds} s.\n${errors.text || output.text}`.trim(),
      files: [],
    };
  }
  const files = await outputFiles(options.directory);
  return {
    ok: true,
    summary: output.text || `Exit 0 after ${seconds} s, ${lines} lines, ${files.length} files.`,
    files,
  };
}

/** The last lines of an output, as many as a summary holds. */
class Tail {
  #lines: string[] = [];
  #size = 0;
  add(line: string): void {
    this.#lines.push(line);
    this.#size += line.length + 1;
    while (this.#size > SUMMARY_LENGTH_MAX && this.#lines.length > 1)
      this.#size -= (this.#lines.shift()?.length ?? 0) + 1;
  }
  get text(): string {
    return this.#lines.join("\n").slice(-SUMMARY_LENGTH_MAX);
  }
}

/** Plain files directly in `out/`, by name. @throws when there are more or larger ones than may be sent */
async function outputFiles(directory: string): Promise<string[]> {
  const folder = join(directory, "out");
  const entries = (await readdir(folder, { withFileTypes: true })).filter((entry) => entry.isFile());
  const paths = entries.map(({ name }) => join(folder, name)).sort();
  if (paths.length > FILES_MAX)
    throw new Error(`the task left ${paths.length} files in out/, at most ${FILES_MAX} are sent back`);
  for (const path of paths) {
    if ((await stat(path)).size > FILE_SIZE_MAX)
      throw new Error(`${path.slice(folder.length + 1)} has more than ${FILE_SIZE_MAX} bytes`);
  }
  return paths;
}

const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll("`", "'");

async function inventory({ files, directory, onProgress }: TaskOptions): Promise<TaskResult> {
  const rows: string[] = [];
  let bytes = 0;
  for (const [index, name] of files.entries()) {
    const content = await readFile(join(directory, name));
    bytes += content.length;
    const lines = content.reduce((count, byte) => count + (byte === 10 ? 1 : 0), 0);
    rows.push(
      `| ${cell(name)} | ${content.length} | ${lines} | \`${createHash("sha256").update(content).digest("hex")}\` |`,
    );
    onProgress({ stage: "running", message: `read ${name}`, pct: Math.round(((index + 1) / files.length) * 100) });
  }
  const note =
    "No agent runner is configured on this cluster, so nobody read the task: this is an inventory of the files that came with it. " +
    "Send a script and the task `run <file> [arguments]`, or start the cluster with --runner.";
  const report = [
    "# Inventory",
    "",
    note,
    "",
    "| name | bytes | lines | SHA-256 |",
    "| --- | ---: | ---: | --- |",
    ...rows,
    "",
  ].join("\n");
  const path = join(directory, "out", "inventory.md");
  await writeFile(path, report);
  return { ok: true, summary: `${note}\n\n${files.length} files, ${bytes} bytes; see inventory.md.`, files: [path] };
}

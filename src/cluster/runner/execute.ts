import { type ChildProcess, spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { MeshError } from "../../errors.ts";
import { PROGRESS_LINE_LENGTH_MAX } from "../../limits.ts";
import { type Held, hold } from "./held.ts";
import { isolate } from "./isolation.ts";
import { OUTPUT_END_WAIT_MS, TASK_STOP_WAIT_MS } from "./limits.ts";
import { measure } from "./measure.ts";
import { Lines, Tail, TaskLog } from "./output.ts";
import type { Reader, Told } from "./presets.ts";
import { MARK, TaskProcesses } from "./processes.ts";
import { collectResults, type Results } from "./results.ts";
import { fileSizeMaxOf, type TaskRules } from "./rules.ts";
import type { TaskOptions, TaskResult } from "./task.ts";
import { atLeast, NO_TOKENS, readUsage, totalOf, USAGE_FILE, USAGE_VARIABLE } from "./usage.ts";
import { Watch } from "./watch.ts";

// Runs one command in the task's folder, isolated and watched, and sees to it that nothing of it is left when it has ended.

export interface Command {
  readonly words: readonly string[];
  /** What it is called where people read it. */
  readonly title: string;
  /** Its standard input. */
  readonly input: string;
  readonly rules: TaskRules;
  /** What its output means, when that is more than lines for people. */
  readonly reader?: ((told: Told) => Reader) | undefined;
}

/** What of its own environment a task's process is given: the rest would tell it of its cluster. */
const VARIABLES = ["PATH", "LANG", "LC_ALL", "TZ", "SystemRoot"];

function environment({ scratch, mark }: TaskOptions, { variables }: TaskRules): Record<string, string> {
  const given: Record<string, string> = {};
  for (const name of [...VARIABLES, ...variables]) {
    const value = process.env[name];
    if (value !== undefined) given[name] = value;
  }
  return { ...given, HOME: scratch, TMPDIR: scratch, [USAGE_VARIABLE]: join(scratch, USAGE_FILE), [MARK]: mark };
}

interface End {
  /** Null when it was ended by a signal, or never began. */
  readonly code: number | null;
  readonly problem?: string;
}

/** How the first process ends, and when nothing is read from it any more. */
function endsOf(child: ChildProcess): { readonly exited: Promise<End>; readonly closed: Promise<void> } {
  return {
    exited: new Promise((resolve) => {
      child.once("error", (error) => resolve({ code: null, problem: `could not be started: ${error.message}` }));
      child.once("exit", (code) => resolve({ code }));
    }),
    closed: new Promise((resolve) => {
      child.once("error", () => resolve());
      child.once("close", () => resolve());
    }),
  };
}

/** What programs say when the system allows them no more processes. */
const NO_FORK = /\bcannot fork\b|\bEAGAIN\b|resource temporarily unavailable/i;
const NO_FORK_NOTE =
  "It may have had as many processes as this cluster allows a task; its operator can raise that with --processes.";

const PERCENT = /(?:^|\D)(\d{1,3}(?:\.\d+)?)\s?%/;

/** @throws Error when it cannot be isolated as the rules want it */
export async function execute(options: TaskOptions, command: Command): Promise<TaskResult> {
  // Held before the task begins: what it makes of their names afterwards leads nowhere.
  const work = await hold(options.directory);
  try {
    const scratch = await hold(options.scratch);
    try {
      return await executeIn(work, scratch, options, command);
    } finally {
      await scratch.close();
    }
  } finally {
    await work.close();
  }
}

async function executeIn(work: Held, home: Held, options: TaskOptions, command: Command): Promise<TaskResult> {
  const { directory, scratch, signal, onProgress, onUsage } = options;
  const { rules, title } = command;
  const folders = [work, home];
  const before = (await measure(folders, () => false)).bytes;
  const { command: words, isolation } = await isolate(command.words, { work: directory, scratch }, rules);
  signal.throwIfAborted();
  onProgress({ stage: "running", message: title.slice(0, PROGRESS_LINE_LENGTH_MAX) });
  const begun = Date.now();
  const [program = "", ...args] = words;
  const child = spawn(program, args, {
    cwd: directory,
    env: environment(options, rules),
    stdio: ["pipe", "pipe", "pipe"],
  });
  const { exited, closed } = endsOf(child);
  const processes = new TaskProcesses(child.pid, isolation.ownProcesses ? undefined : options.mark);
  const log = new TaskLog(options.log);
  const told: Told = { final: undefined, problem: undefined, tokens: NO_TOKENS };
  const breaches: string[] = [];

  let tokens = NO_TOKENS;
  const count = async () => {
    const counted = command.reader ? told.tokens : ((await readUsage(home)) ?? NO_TOKENS);
    const now = atLeast(tokens, counted);
    if (totalOf(now) > totalOf(tokens)) onUsage(now);
    tokens = now;
  };

  const watch = new Watch({
    limits: rules.limits,
    processes,
    folders,
    before,
    printed: () => log.size,
    onBreach: (what) => {
      breaches.push(what);
      processes.end();
    },
    onMeasured: () => void count(),
  });

  // Asked to end, and a little later ended.
  let patience: NodeJS.Timeout | undefined;
  const stop = () => {
    processes.signal("SIGTERM");
    patience = setTimeout(() => processes.end(), TASK_STOP_WAIT_MS);
  };
  signal.addEventListener("abort", stop, { once: true });

  // A program that does not read its input closes it early, and that is its own affair.
  child.stdin.on("error", () => undefined);
  child.stdin.end(command.input);
  const output = new Tail();
  const errors = new Tail();
  let lines = 0;
  const read = command.reader?.(told);
  const out = new Lines((line) => {
    lines++;
    if (!read) output.add(line);
    const message = read ? read(line) : line.slice(0, PROGRESS_LINE_LENGTH_MAX);
    if (message === undefined) return;
    const percent = read ? undefined : PERCENT.exec(line)?.[1];
    // Whole numbers: decimals would carry words past a policy.
    const pct = percent === undefined ? undefined : Math.floor(Number(percent));
    onProgress({ stage: "running", message, ...(pct !== undefined && pct <= 100 && { pct }) });
  });
  const err = new Lines((line) => errors.add(line));
  for (const [stream, to] of [
    [child.stdout, out],
    [child.stderr, err],
  ] as const)
    stream.on("data", (chunk: Buffer) => {
      log.add(chunk);
      watch.printed();
      // Of a task that is over its limit, nothing more is read.
      if (breaches.length === 0) to.add(chunk);
    });

  const { code, problem } = await exited;
  // What it left running ends with it; then nobody holds its output open any more.
  const left = await processes.end();
  // One that got away may hold it open for ever.
  const deadline = setTimeout(() => {
    child.stdout.destroy();
    child.stderr.destroy();
  }, OUTPUT_END_WAIT_MS);
  await closed;
  clearTimeout(deadline);
  clearTimeout(patience);
  signal.removeEventListener("abort", stop);
  watch.stop();
  out.end();
  err.end();
  await watch.measured(true);
  await count();
  const path = await log.close();
  const seconds = Math.round((Date.now() - begun) / 100) / 10;
  const result = {
    exit: code,
    ...(totalOf(tokens) > 0 && { tokens }),
    ...(path === undefined ? {} : { log: path }),
  };
  const failed = (how: string, words: string, more: Partial<TaskResult> = {}): TaskResult => ({
    ok: false,
    summary: `${title} ${how} after ${seconds} s.\n${words}`.trim(),
    files: [],
    ...result,
    ...more,
  });
  if (left > 0)
    return failed(`left ${left} processes that cannot be ended,`, "The cluster's operator must look at them.");
  const [reason] = breaches;
  if (reason !== undefined)
    return failed(`was ended: ${reason},`, errors.text || output.text, { code: "limit_reached", reason });
  if (code !== 0 || told.problem !== undefined) {
    const how = problem ?? (code === null ? "was ended" : code === 0 ? "failed" : `exited with ${code}`);
    const said = errors.text || output.text;
    const hint = rules.limits.processes !== null && NO_FORK.test(said) ? NO_FORK_NOTE : undefined;
    return failed(how, [told.problem, said, hint].filter(Boolean).join("\n"));
  }
  let results: Results;
  try {
    results = await collectResults(work, dirname(options.log), fileSizeMaxOf(rules));
  } catch (error) {
    if (!(error instanceof MeshError)) throw error;
    return failed("left what cannot be sent back,", error.message, { code: error.code });
  }
  const { files, leftOut } = results;
  const said = told.final || output.text || `Exit 0 after ${seconds} s, ${lines} lines, ${files.length} files.`;
  return { ok: true, summary: [said, leftOut].filter(Boolean).join("\n\n"), files, ...result };
}

import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { onTestFinished } from "vitest";
import { probeIsolation } from "../../src/cluster/runner/isolation.ts";
import { DEFAULT_RULES, type TaskRules } from "../../src/cluster/runner/rules.ts";
import { runTask, type TaskOptions, type TaskProgress, type TaskResult } from "../../src/cluster/runner/task.ts";
import type { TokensUsed } from "../../src/cluster/runner/usage.ts";

/** Tasks in folders of their own, as a sandbox runs them. */

export function folder(): string {
  const path = realpathSync(mkdtempSync(join(tmpdir(), "kars-task-")));
  onTestFinished(() => rmSync(path, { recursive: true, force: true, maxRetries: 5 }));
  return path;
}

export interface Errand {
  readonly result: Promise<TaskResult>;
  readonly directory: string;
  readonly progress: readonly TaskProgress[];
  readonly usage: readonly TokensUsed[];
  /** Resolves when a line of progress holds this. */
  readonly says: (text: string) => Promise<string>;
  readonly cancel: () => void;
  /** Processes that carry the task's mark. */
  readonly alive: () => string[];
}

export const isLinux = process.platform === "linux";

/** What this host lets an ordinary task be isolated by. */
export const isolation = await probeIsolation({ network: "auto", hidden: [] }, probePlace());

function probePlace() {
  const path = realpathSync(mkdtempSync(join(tmpdir(), "kars-probe-")));
  process.once("exit", () => rmSync(path, { recursive: true, force: true }));
  const place = { work: join(path, "work"), scratch: join(path, "scratch") };
  mkdirSync(place.work);
  mkdirSync(place.scratch);
  return place;
}

export interface ErrandOptions {
  readonly files?: Readonly<Record<string, string>>;
  readonly rules?: Partial<TaskRules>;
  readonly runner?: string;
  /** What runs it; `runTask` unless given. */
  readonly run?: (options: TaskOptions) => Promise<TaskResult>;
  /** Where the sandbox's folder is made. */
  readonly within?: string;
}

export function begin(
  task: string,
  { files = {}, rules = {}, runner, run = runTask, within = folder() }: ErrandOptions = {},
): Errand {
  const home = join(within, "sandbox");
  const directory = join(home, "work");
  mkdirSync(directory, { recursive: true });
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content);
  const stop = new AbortController();
  const progress: TaskProgress[] = [];
  const usage: TokensUsed[] = [];
  let told = Promise.withResolvers<void>();
  const result = run({
    mark: home,
    task,
    files: Object.keys(files),
    directory,
    scratch: join(home, "scratch"),
    log: join(home, "log.txt"),
    runner: runner ?? null,
    rules: { ...DEFAULT_RULES, ...rules },
    timeoutMinutes: 5,
    signal: stop.signal,
    onProgress: (news) => {
      progress.push(news);
      told.resolve();
      told = Promise.withResolvers();
    },
    onUsage: (tokens) => usage.push(tokens),
  });
  const ended = result.then(
    () => undefined,
    () => undefined,
  );
  onTestFinished(async () => {
    stop.abort();
    await ended;
  });
  return {
    result,
    directory,
    progress,
    usage,
    async says(text) {
      for (;;) {
        const found = progress.find(({ message }) => message.includes(text));
        if (found) return found.message;
        const isOver = await Promise.race([told.promise, ended.then(() => true)]);
        if (isOver === true) throw new Error(`ended without saying ${text}: ${(await result).summary}`);
      }
    },
    cancel: () => stop.abort(),
    alive: () => marked(home),
  };
}

/** A script that was sent along, run. */
export const script = (name: string, content: string, options: ErrandOptions = {}): Errand =>
  begin(`run ${name}`, { ...options, files: { ...options.files, [name]: content } });

/** Command lines of the processes with this mark. */
function marked(mark: string): string[] {
  if (!isLinux) return [];
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const isOurs = readFileSync(`/proc/${pid}/environ`, "utf8").includes(`KARS_TASK=${mark}\0`);
        return isOurs ? [`${pid} ${readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")}`] : [];
      } catch {
        return [];
      }
    });
}

/** A search path with all programs of this one, but for those that make namespaces. */
export function pathWithoutNamespaces(): string {
  const path = folder();
  for (const from of [dirname(process.execPath), "/bin", "/usr/bin"])
    for (const name of existsSync(from) ? readdirSync(from) : [])
      if (!["unshare", "setpriv"].includes(name) && !existsSync(join(path, name)))
        symlinkSync(join(from, name), join(path, name));
  return path;
}

/** Whether a program is there. */
export function has(program: string): boolean {
  try {
    execFileSync("sh", ["-c", `command -v ${program}`], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

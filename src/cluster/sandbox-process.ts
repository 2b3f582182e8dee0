import { type ChildProcess, fork } from "node:child_process";
import { appendFile } from "node:fs/promises";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { RUN_LOG_SIZE_MAX } from "../limits.ts";
import { safeParse } from "../parse.ts";
import { Did } from "../wire/text.ts";
import { presetOf } from "./runner/presets.ts";
import { endMarked } from "./runner/processes.ts";
import { type SandboxBackend, type Spawn, TaskNews } from "./sandboxes.ts";

// The real process of a sandbox: a child with a scrubbed environment, in a group of its own.

/** What a sandbox tells its parent. */
const Report = z.union([z.object({ ready: Did }), TaskNews]);

/** What a task's process may see of the cluster's environment. */
const ENVIRONMENT = ["PATH", "LANG", "LC_ALL", "TZ", "SystemRoot"] as const;

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined || process.platform === "win32") return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // Nobody is left in it.
  }
}

function keepLog(child: ChildProcess, path: string): void {
  let left = RUN_LOG_SIZE_MAX;
  const keep = (chunk: Buffer) => {
    const kept = chunk.subarray(0, Math.max(0, left));
    left -= kept.length;
    // A log that cannot be written is no reason to end a run.
    if (kept.length > 0) appendFile(path, kept, { mode: 0o600 }).catch(() => undefined);
  };
  child.stdout?.on("data", keep);
  child.stderr?.on("data", keep);
}

export const spawnProcess: Spawn = async (config, hooks) => {
  const { directory, rules } = config;
  const entry = fileURLToPath(new URL(`./sandbox-main${extname(import.meta.url)}`, import.meta.url));
  const env: Record<string, string> = { HOME: directory, TMPDIR: directory };
  for (const key of [...ENVIRONMENT, ...rules.variables, ...(presetOf(config.runner)?.variables ?? [])]) {
    const value = process.env[key];
    if (value !== undefined) env[key] = value;
  }
  const child = fork(entry, [], {
    cwd: join(directory, "work"),
    env,
    execArgv: ["--disable-warning=ExperimentalWarning"],
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    // A process group of its own, so that nothing it started outlives it.
    detached: process.platform !== "win32",
  });
  keepLog(child, join(directory, "log"));
  child.on("message", (message) => {
    const report = safeParse(Report, message);
    if (!report.success) return;
    if ("ready" in report.data) hooks.ready(report.data.ready);
    else hooks.told(report.data);
  });
  // What it told before it ended is read before its end is told.
  const silent = new Promise<void>((resolve) => child.once("disconnect", resolve));
  child.once("exit", (code) => {
    killGroup(child);
    Promise.all([endMarked(directory), silent]).finally(() => hooks.exited(code));
  });
  const pid = await new Promise<number>((resolve, reject) => {
    child.once("spawn", () => resolve(child.pid ?? 0));
    child.once("error", reject);
  });
  child.send(config);
  return { pid, end: (force) => child.kill(force ? "SIGKILL" : "SIGTERM") };
};

/** Sandboxes as processes of this machine, which end with the cluster. */
export const processBackend: SandboxBackend = { spawn: spawnProcess };

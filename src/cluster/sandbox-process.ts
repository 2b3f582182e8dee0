import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { appendFile } from "node:fs/promises";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { RUN_LOG_SIZE_MAX } from "../limits.ts";
import { safeParse } from "../parse.ts";
import { TaskNews } from "../wire/payload.ts";
import { Did } from "../wire/text.ts";
import { presetOf } from "./runner/presets.ts";
import { endMarked } from "./runner/processes.ts";
import type { ClusterConfig, SandboxBackend, SandboxConfig, SandboxHooks, SandboxProcess } from "./sandboxes.ts";

// The real process of a sandbox: a child with a scrubbed environment, in a group of its own.

/** What a sandbox tells its parent. */
const Report = z.union([z.object({ ready: Did }), TaskNews]);

const ENVIRONMENT = ["PATH", "LANG", "LC_ALL", "TZ", "SystemRoot"] as const;

const entry = fileURLToPath(new URL(`./sandbox-main${extname(import.meta.url)}`, import.meta.url));

/** What of a cluster decides on the environment. */
type Told = Pick<ClusterConfig, "runner" | "rules">;

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

/** What the process of a sandbox sees of the cluster's environment. */
function environmentOf({ runner, rules }: Told): NodeJS.ProcessEnv {
  const names = [...ENVIRONMENT, ...rules.variables, ...(presetOf(runner)?.variables ?? [])];
  return Object.fromEntries(names.map((name) => [name, process.env[name]]).filter(([, value]) => value !== undefined));
}

/** A process that waits to be told what it is. */
function startProcess(env: NodeJS.ProcessEnv): ChildProcess {
  return fork(entry, [], {
    // It goes to its own folder when it knows which that is.
    cwd: dirname(entry),
    env,
    execArgv: ["--disable-warning=ExperimentalWarning"],
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    // A process group of its own, so that nothing it started outlives it.
    detached: process.platform !== "win32",
  });
}

async function begin(child: ChildProcess, config: SandboxConfig, hooks: SandboxHooks): Promise<SandboxProcess> {
  const { directory } = config;
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
  if (child.pid === undefined) await once(child, "spawn");
  child.send(config);
  return { pid: child.pid ?? 0, end: (force) => child.kill(force ? "SIGKILL" : "SIGTERM") };
}

/**
 * Sandboxes as processes of this machine, which end with the cluster. One more than there are tasks is started beforehand and
 * waits to be told what it is, so that a task need not wait for it.
 */
export function processBackend(): SandboxBackend {
  let spare: { readonly child: ChildProcess; readonly env: string } | undefined;
  let isClosed = false;

  const prepare = (told: Told): void => {
    if (spare || isClosed) return;
    const env = environmentOf(told);
    const child = startProcess(env);
    const started = { child, env: JSON.stringify(env) };
    const forget = () => {
      if (spare === started) spare = undefined;
    };
    // One that cannot be started is not missed: the next task starts its own, and says what is wrong.
    child.once("error", forget).once("exit", forget);
    spare = started;
  };

  const take = (told: Told): ChildProcess => {
    const env = environmentOf(told);
    const taken = spare;
    spare = undefined;
    if (taken?.child.connected && taken.env === JSON.stringify(env)) return taken.child;
    taken?.child.kill("SIGKILL");
    return startProcess(env);
  };

  return {
    prepare,
    spawn: (config, hooks) =>
      begin(take(config), config, {
        ...hooks,
        ready: (did) => {
          prepare(config);
          hooks.ready(did);
        },
      }),
    async close() {
      isClosed = true;
      if (!spare) return;
      const { child } = spare;
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    },
  };
}

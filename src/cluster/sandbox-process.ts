import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:fs";
import { appendFile } from "node:fs/promises";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { RUN_LOG_SIZE_MAX } from "../limits.ts";
import { safeParse } from "../parse.ts";
import { presetOf } from "./runner/presets.ts";
import { endMarked } from "./runner/processes.ts";
import { removeTree } from "./runner/removal.ts";
import { type Order, Report } from "./sandbox-orders.ts";
import type {
  AgentConfig,
  ClusterConfig,
  SandboxBackend,
  SandboxConfig,
  SandboxHooks,
  SandboxProcess,
  StandingHooks,
  StandingProcess,
} from "./sandboxes.ts";

// The real process of a sandbox: a child with a scrubbed environment, in a group of its own.

/** With Node's own cache of what is compiled, if the cluster has one, a sandbox starts in half the time; tasks are not told of it. */
const ENVIRONMENT = ["PATH", "LANG", "LC_ALL", "TZ", "SystemRoot", "NODE_COMPILE_CACHE"] as const;

const { O_APPEND, O_CREAT, O_NOFOLLOW = 0, O_WRONLY } = constants;
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

/** Where a task is not isolated, it could put a link there. */
const APPEND = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW;

function keepLog(child: ChildProcess, path: string): void {
  let left = RUN_LOG_SIZE_MAX;
  const keep = (chunk: Buffer) => {
    const kept = chunk.subarray(0, Math.max(0, left));
    left -= kept.length;
    // A log that cannot be written is no reason to end a run.
    if (kept.length > 0) appendFile(path, kept, { flag: APPEND, mode: 0o600 }).catch(() => undefined);
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

/** Tells a process who it is. Resolves with its id when it runs. */
async function begin(child: ChildProcess, agent: AgentConfig, hear: (report: Report) => void): Promise<number> {
  keepLog(child, join(agent.directory, "log"));
  child.on("message", (message) => {
    const report = safeParse(Report, message);
    if (report.success) hear(report.data);
  });
  if (child.pid === undefined) await once(child, "spawn");
  order(child, { be: agent });
  return child.pid ?? 0;
}

/** One that has just ended hears nothing, and its end is told by itself. */
const order = (child: ChildProcess, told: Order): void => void child.send(told, () => undefined);

/** Calls back when a process has ended, after all that it told before. */
function onEnd(child: ChildProcess, ended: (code: number | null) => void): void {
  const silent = new Promise<void>((resolve) => child.once("disconnect", resolve));
  child.once("exit", (code) => {
    killGroup(child);
    silent.finally(() => ended(code));
  });
}

/** A sandbox for one task, with which it ends. */
async function spawnOnce(child: ChildProcess, config: SandboxConfig, hooks: SandboxHooks): Promise<SandboxProcess> {
  onEnd(child, (code) => endMarked(config.directory).finally(() => hooks.exited(code)));
  const pid = await begin(child, config, (report) => {
    if ("failed" in report) hooks.failed(report.failed);
    else if ("ready" in report) hooks.ready(report.ready);
    else if ("news" in report) hooks.told(report.news);
  });
  order(child, { serve: config });
  return { pid, end: (force) => child.kill(force ? "SIGKILL" : "SIGTERM") };
}

interface Served {
  readonly directory: string;
  readonly hooks: SandboxHooks;
}

/** A sandbox that stands. */
async function standUp(child: ChildProcess, agent: AgentConfig, hooks: StandingHooks): Promise<StandingProcess> {
  const served = new Map<string, Served>();
  let did = "";
  const over = async (run: string, code: number | null) => {
    const task = served.get(run);
    served.delete(run);
    if (!task) return;
    await endMarked(task.directory);
    task.hooks.exited(code);
  };
  onEnd(child, (code) => {
    Promise.all([...served.keys()].map((run) => over(run, code))).finally(() => hooks.exited(code));
  });
  const end = (force: boolean) => void child.kill(force ? "SIGKILL" : "SIGTERM");
  const pid = await begin(child, agent, (report) => {
    if ("ready" in report) {
      did = report.ready;
      hooks.ready(did);
    } else if ("failed" in report) hooks.failed(report.failed);
    else if ("dropped" in report) over(report.dropped, 0);
    else served.get(report.run)?.hooks.told(report.news);
  });
  return {
    pid,
    end,
    serve(config, asked) {
      const { run, directory } = config;
      served.set(run, { directory, hooks: asked });
      order(child, { serve: config });
      asked.ready(did);
      return { pid, end: (force) => (force ? end(true) : order(child, { drop: run })) };
    },
  };
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

  /** The next one is made ready when this one is. */
  const andPrepare = (told: Told, ready: (did: string) => void) => (did: string) => {
    prepare(told);
    ready(did);
  };

  return {
    prepare,
    spawn: (config, hooks) => spawnOnce(take(config), config, { ...hooks, ready: andPrepare(config, hooks.ready) }),
    stand: (agent, cluster, hooks) =>
      standUp(take(cluster), agent, { ...hooks, ready: andPrepare(cluster, hooks.ready) }),
    remove: removeTree,
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

import { type ChildProcess, fork } from "node:child_process";
import { appendFile, mkdir, rm } from "node:fs/promises";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { RUN_LOG_MAX } from "../limits.ts";
import { Did } from "../wire/text.ts";

// The sandboxes' processes: each a process of its own with its own folder, its own mesh identity and a scrubbed environment.

/** What a sandbox is told by its parent, once. */
export const SandboxConfig = z.object({
  directory: z.string(),
  run: z.string(),
  name: z.string(),
  laptop: Did,
  controller: Did,
  cluster: z.string(),
  relay_url: z.string(),
  registry_url: z.string(),
  capabilities: z.array(z.string()),
  timeout_minutes: z.number(),
  runner: z.string().nullable(),
});
export type SandboxConfig = z.infer<typeof SandboxConfig>;

/** What every sandbox of a cluster is told alike. */
export type ClusterConfig = Pick<SandboxConfig, "controller" | "cluster" | "relay_url" | "registry_url" | "runner">;

/** What a sandbox tells its parent. */
const Report = z.object({ ready: Did });

const STOP_GRACE_MS = 3_000;
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

interface Hooks {
  ready(did: string): void;
  exited(code: number | null): void;
}

export class Sandboxes {
  readonly #directory: string;
  readonly #cluster: () => ClusterConfig;
  readonly #running = new Map<string, ChildProcess>();

  constructor(directory: string, cluster: () => ClusterConfig) {
    this.#directory = directory;
    this.#cluster = cluster;
  }

  isRunning(run: string): boolean {
    return this.#running.has(run);
  }

  /** Starts a sandbox. Resolves with its process id. */
  async spawn(
    run: string,
    {
      laptop,
      name,
      capabilities,
      timeoutMinutes,
    }: { laptop: string; name: string; capabilities: readonly string[]; timeoutMinutes: number },
    hooks: Hooks,
  ): Promise<number> {
    const directory = this.#folderOf(run);
    await mkdir(join(directory, "work"), { recursive: true, mode: 0o700 });
    const entry = fileURLToPath(new URL(`./sandbox-main${extname(import.meta.url)}`, import.meta.url));
    const env: Record<string, string> = { HOME: directory, TMPDIR: directory };
    for (const key of ENVIRONMENT) {
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
    this.#running.set(run, child);
    this.#keepLog(child, join(directory, "log"));
    child.on("message", (message) => {
      const report = Report.safeParse(message);
      if (report.success) hooks.ready(report.data.ready);
    });
    child.on("exit", (code) => {
      this.#running.delete(run);
      killGroup(child);
      hooks.exited(code);
    });
    const config: SandboxConfig = {
      ...this.#cluster(),
      directory,
      run,
      name,
      laptop,
      capabilities: [...capabilities],
      timeout_minutes: timeoutMinutes,
    };
    const pid = await new Promise<number>((resolve, reject) => {
      child.once("spawn", () => resolve(child.pid ?? 0));
      child.once("error", reject);
    });
    child.send(config);
    return pid;
  }

  #keepLog(child: ChildProcess, path: string): void {
    let left = RUN_LOG_MAX;
    const keep = (chunk: Buffer) => {
      const kept = chunk.subarray(0, Math.max(0, left));
      left -= kept.length;
      // A log that cannot be written is no reason to end a run.
      if (kept.length > 0) appendFile(path, kept).catch(() => undefined);
    };
    child.stdout?.on("data", keep);
    child.stderr?.on("data", keep);
  }

  /** Asks a sandbox to end, and ends it if it does not. False when it does not run. */
  async stop(run: string): Promise<boolean> {
    const child = this.#running.get(run);
    if (!child) return false;
    const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_GRACE_MS);
    await exited;
    clearTimeout(timer);
    killGroup(child);
    return true;
  }

  async stopAll(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((run) => this.stop(run)));
  }

  /** Removes what a sandbox left, its identity and files among it. */
  remove(run: string): Promise<void> {
    return rm(this.#folderOf(run), { recursive: true, force: true });
  }

  #folderOf(run: string): string {
    return join(this.#directory, Buffer.from(run).toString("base64url").slice(0, 100));
  }
}

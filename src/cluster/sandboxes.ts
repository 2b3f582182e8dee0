import { z } from "zod";
import type { Clock } from "../actors/ports.ts";
import { ERROR_CODES } from "../errors.ts";
import { SANDBOX_STOP_WAIT_MS } from "../limits.ts";
import { type Disk, joinPath } from "../store/disk.ts";
import { Did } from "../wire/text.ts";
import { PolicyHook } from "./policy.ts";
import { TaskRules } from "./runner/rules.ts";

// The sandboxes of a cluster: each a process of its own with its own folder, its own mesh identity and a scrubbed environment.

/** What a sandbox is told by its parent, once. */
export const SandboxConfig = z.object({
  directory: z.string(),
  run: z.string(),
  name: z.string(),
  laptop: Did,
  grant: z.string(),
  /** The only task that it runs; null when that was not written down. */
  task_sha256: z.string().nullable(),
  controller: Did,
  cluster: z.string(),
  relay_url: z.string(),
  registry_url: z.string(),
  capabilities: z.array(z.string()),
  timeout_minutes: z.number(),
  runner: z.string().nullable(),
  rules: TaskRules,
  policy: PolicyHook.nullable(),
});
export type SandboxConfig = z.infer<typeof SandboxConfig>;

/** What every sandbox of a cluster is told alike. */
export type ClusterConfig = Pick<
  SandboxConfig,
  "controller" | "cluster" | "relay_url" | "registry_url" | "runner" | "rules" | "policy"
>;

/** What a sandbox tells its cluster of its task, as it happens: no words of the task's. */
export const TaskNews = z.discriminatedUnion("type", [
  z.object({ type: z.literal("begun"), files: z.int().min(0), bytes: z.int().min(0) }),
  /** Tokens of a language model, all until now. */
  z.object({ type: z.literal("used"), tokens: z.int().min(0) }),
  z.object({
    type: z.literal("ended"),
    ok: z.boolean(),
    exit: z.int().nullable(),
    code: z.enum(ERROR_CODES).nullable(),
    reason: z.string().max(1000).nullable(),
  }),
]);
export type TaskNews = z.infer<typeof TaskNews>;

/** What a sandbox's process tells; `exited` last, and once. */
export interface SandboxHooks {
  ready(did: string): void;
  told(news: TaskNews): void;
  exited(code: number | null): void;
}

export interface SandboxProcess {
  readonly pid: number;
  /** Asks it to end, or ends it. */
  end(force: boolean): void;
}

/** Starts the process of a sandbox, in its folder. Resolves when it runs. */
export type Spawn = (config: SandboxConfig, hooks: SandboxHooks) => Promise<SandboxProcess>;

/** What one sandbox is for. */
export interface Wanted {
  readonly laptop: string;
  readonly grant: string;
  readonly name: string;
  readonly capabilities: readonly string[];
  readonly timeoutMinutes: number;
  readonly taskHash: string | null;
}

interface Running {
  readonly process: Promise<SandboxProcess>;
  readonly exited: Promise<void>;
}

export interface SandboxesOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly spawn: Spawn;
  /** Where the sandboxes have their folders. */
  readonly directory: string;
  readonly cluster: () => ClusterConfig;
}

export class Sandboxes {
  readonly #options: SandboxesOptions;
  readonly #running = new Map<string, Running>();

  constructor(options: SandboxesOptions) {
    this.#options = options;
  }

  isRunning(run: string): boolean {
    return this.#running.has(run);
  }

  /** Starts a sandbox. Resolves with its process id. */
  async spawn(
    run: string,
    { laptop, grant, name, capabilities, timeoutMinutes, taskHash }: Wanted,
    hooks: SandboxHooks,
  ): Promise<number> {
    const { disk, cluster, spawn } = this.#options;
    const directory = this.#folderOf(run);
    await disk.makeDirectory(joinPath(directory, "work"));
    const config: SandboxConfig = {
      ...cluster(),
      directory,
      run,
      name,
      laptop,
      grant,
      task_sha256: taskHash,
      capabilities: [...capabilities],
      timeout_minutes: timeoutMinutes,
    };
    const exited = Promise.withResolvers<void>();
    const process = spawn(config, {
      ready: hooks.ready,
      told: hooks.told,
      exited: (code) => {
        this.#running.delete(run);
        exited.resolve();
        hooks.exited(code);
      },
    });
    this.#running.set(run, { process, exited: exited.promise });
    try {
      return (await process).pid;
    } catch (error) {
      this.#running.delete(run);
      throw error;
    }
  }

  /** Asks a sandbox to end, and ends it if it does not. False when it does not run. */
  async stop(run: string): Promise<boolean> {
    const running = this.#running.get(run);
    if (!running) return false;
    const { clock } = this.#options;
    const process = await running.process;
    process.end(false);
    const disarm = clock.at(clock.now() + SANDBOX_STOP_WAIT_MS, () => process.end(true));
    await running.exited;
    disarm();
    return true;
  }

  async stopAll(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((run) => this.stop(run)));
  }

  /** Removes what a sandbox left, its identity and files among it. */
  remove(run: string): Promise<void> {
    return this.#options.disk.remove(this.#folderOf(run));
  }

  #folderOf(run: string): string {
    return joinPath(this.#options.directory, Buffer.from(run).toString("base64url").slice(0, 100));
  }
}

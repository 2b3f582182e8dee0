import { createHash } from "node:crypto";
import { z } from "zod";
import type { Clock } from "../actors/ports.ts";
import { MeshError } from "../errors.ts";
import { AUTHORITIES_SIZE_MAX, SANDBOX_STOP_WAIT_MS } from "../limits.ts";
import { type Disk, joinPath } from "../store/disk.ts";
import type { TaskNews } from "../wire/payload.ts";
import { Did } from "../wire/text.ts";
import { PolicyHook } from "./policy.ts";
import { TaskRules } from "./runner/rules.ts";
import type { StandingSandboxes } from "./standing.ts";

// The sandboxes of a cluster: each a process of its own, here or elsewhere, with its own folder and its own mesh identity.

/** Who a sandbox is. */
export const AgentConfig = z.object({
  directory: z.string(),
  name: z.string(),
  controller: Did,
  cluster: z.string(),
  relay_url: z.string(),
  registry_url: z.string(),
  capabilities: z.array(z.string()),
  /** Authorities that it trusts beside those of its system, PEM. */
  authorities: z.string().max(AUTHORITIES_SIZE_MAX).optional(),
});
export type AgentConfig = z.infer<typeof AgentConfig>;

/** What it is to do, and for whom. */
export const SandboxConfig = AgentConfig.extend({
  run: z.string(),
  laptop: Did,
  grant: z.string(),
  /** The only task that it runs; null when that was not written down. */
  task_sha256: z.string().nullable(),
  timeout_minutes: z.number(),
  runner: z.string().nullable(),
  rules: TaskRules,
  policy: PolicyHook.nullable(),
});
export type SandboxConfig = z.infer<typeof SandboxConfig>;

/** The same as a file, with the identity that the sandbox has for this one run: the seed of an Ed25519 key, in base64. */
export const SandboxFile = SandboxConfig.extend({ seed: z.base64().length(44) });
export type SandboxFile = z.infer<typeof SandboxFile>;

/** What every sandbox of a cluster is told alike. */
export type ClusterConfig = Pick<
  SandboxConfig,
  "controller" | "cluster" | "relay_url" | "registry_url" | "authorities" | "runner" | "rules" | "policy"
>;

/** What a sandbox's process tells; `exited` last, and once. */
export interface SandboxHooks {
  /** What its start waits for, in words for the laptop. */
  starting(phase: "spawning" | "scheduled", words: string): void;
  ready(did: string): void;
  /** It cannot go on, and why; it is being removed. */
  failed(detail: string): void;
  told(news: TaskNews): void;
  exited(code: number | null): void;
}

export interface SandboxProcess {
  /** Its process id, if it is a process of this machine. */
  readonly pid: number | null;
  /** Asks it to end, or ends it. */
  end(force: boolean): void;
}

/** Starts the process of a sandbox, in its folder. Resolves when it runs. */
export type Spawn = (config: SandboxConfig, hooks: SandboxHooks) => Promise<SandboxProcess>;

/** A sandbox that takes one task after the other. */
export interface StandingProcess extends SandboxProcess {
  /** Gives it a task. `end` of what is returned lets go of the task; with force it ends the sandbox. */
  serve(config: SandboxConfig, hooks: SandboxHooks): SandboxProcess;
}
export type StandingHooks = Pick<SandboxHooks, "ready" | "failed" | "exited">;

/** Where sandboxes run. */
export interface SandboxBackend {
  /** Makes ready for the next sandbox of a cluster; `spawn` does without. */
  prepare?(cluster: ClusterConfig): void;
  /** Asked again for the same run, as after a crash, one that outlives its cluster is not started twice. */
  readonly spawn: Spawn;
  /** Starts one that stands. Absent where none can. */
  stand?(agent: AgentConfig, cluster: ClusterConfig, hooks: StandingHooks): Promise<StandingProcess>;
  /**
   * Takes up again what an earlier process of this cluster started; undefined when it is not there any more. Without it
   * sandboxes end with the cluster.
   */
  adopt?(sandbox: Pick<SandboxConfig, "run" | "directory">, hooks: SandboxHooks): Promise<SandboxProcess | undefined>;
  /** Takes away the folder of a sandbox, whatever a task made of it. Without it the disk does, for folders that no task reaches. */
  remove?(directory: string): Promise<void>;
  /** Removes what is left of runs that are not known. */
  sweep?(isKnown: (run: string) => boolean): Promise<void>;
  /** Lets go of sandboxes that can be taken up again, and of what was made ready. */
  close?(): Promise<void>;
}

/** What one sandbox is for. */
export interface Wanted {
  readonly laptop: string;
  readonly grant: string;
  readonly name: string;
  readonly capabilities: readonly string[];
  readonly timeoutMinutes: number;
  readonly taskHash: string | null;
  /** It goes to the sandbox that stands under that name. */
  readonly isStanding: boolean;
}

interface Running {
  readonly process: Promise<SandboxProcess | undefined>;
  readonly exited: Promise<void>;
}

export interface SandboxesOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly backend: SandboxBackend;
  /** Where the sandboxes have their folders. */
  readonly directory: string;
  readonly cluster: () => ClusterConfig;
  readonly standing: Pick<StandingSandboxes, "serve" | "end" | "has">;
}

export class Sandboxes {
  readonly #options: SandboxesOptions;
  readonly #running = new Map<string, Running>();

  constructor(options: SandboxesOptions) {
    this.#options = options;
  }

  /** The cluster is up: the next sandbox may be made ready. */
  prepare(): void {
    this.#options.backend.prepare?.(this.#options.cluster());
  }

  /** Starts a sandbox. Resolves with its process id, if it has one. */
  async spawn(
    run: string,
    { laptop, grant, name, capabilities, timeoutMinutes, taskHash, isStanding }: Wanted,
    hooks: SandboxHooks,
  ): Promise<number | null> {
    const { disk, cluster, backend, standing } = this.#options;
    const directory = this.#folderOf(run);
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
    // Held from the first step on: who ends it meanwhile waits for what is to be ended.
    const process = await this.#hold(run, hooks, async (own) => {
      await disk.makeDirectory(joinPath(directory, "work"));
      return isStanding ? standing.serve(config, own) : backend.spawn(config, own);
    });
    return process?.pid ?? null;
  }

  /** Whether a sandbox runs: in this process's hold, or taken up again if an earlier one left it running. */
  async reclaim(run: string, hooks: SandboxHooks): Promise<boolean> {
    const { backend } = this.#options;
    const directory = this.#folderOf(run);
    const adopt = async (own: SandboxHooks) => backend.adopt?.({ run, directory }, own);
    try {
      return (await this.#hold(run, hooks, adopt)) !== undefined;
    } catch (error) {
      if (error instanceof MeshError) throw error;
      // It was just being started, and could not be: whoever started it tells.
      return false;
    }
  }

  /** The process that is there, or the one that `begin` gives. */
  async #hold(
    run: string,
    hooks: SandboxHooks,
    begin: (hooks: SandboxHooks) => Promise<SandboxProcess | undefined>,
  ): Promise<SandboxProcess | undefined> {
    const known = this.#running.get(run);
    if (known) return known.process;
    const exited = Promise.withResolvers<void>();
    const forget = () => {
      this.#running.delete(run);
      exited.resolve();
    };
    const process = begin({
      ...hooks,
      exited: (code) => {
        forget();
        hooks.exited(code);
      },
    });
    this.#running.set(run, { process, exited: exited.promise });
    try {
      const held = await process;
      if (!held) forget();
      return held;
    } catch (error) {
      forget();
      throw error;
    }
  }

  /** Asks a sandbox to end, and ends it if it does not. False when it does not run. */
  async stop(run: string): Promise<boolean> {
    const running = this.#running.get(run);
    if (!running) return false;
    const { clock } = this.#options;
    // Of one that could not be started tells whoever started it.
    const process = await running.process.catch(() => undefined);
    if (!process) return false;
    process.end(false);
    const disarm = clock.at(clock.now() + SANDBOX_STOP_WAIT_MS, () => process.end(true));
    await running.exited;
    disarm();
    return true;
  }

  /** The cluster closes: what can be taken up again goes on, the rest ends. */
  async close(): Promise<void> {
    const { backend, standing } = this.#options;
    if (!backend.adopt) await Promise.all([...this.#running.keys()].map((run) => this.stop(run)));
    await standing.end();
    await backend.close?.();
  }

  /**
   * Removes what an earlier process of this cluster left of runs that do not go on: what still runs, and folders.
   * @param known the runs that go on, when it is asked
   */
  async sweep(known: () => readonly string[]): Promise<void> {
    const { backend, disk, directory, standing } = this.#options;
    await backend.sweep?.((run) => known().includes(run));
    const problems: unknown[] = [];
    for (const name of await disk.list(directory)) {
      const isKnown = standing.has(name) || known().some((run) => folderOf(run) === name);
      if (isKnown) continue;
      await removeFolder(this.#options, joinPath(directory, name)).catch((error: unknown) => problems.push(error));
    }
    if (problems.length > 0) throw problems[0];
  }

  /** Removes what a sandbox left, its identity and files among it. */
  remove(run: string): Promise<void> {
    return removeFolder(this.#options, this.#folderOf(run));
  }

  #folderOf(run: string): string {
    return joinPath(this.#options.directory, folderOf(run));
  }
}

/** The folder of a run: its laptop chose the id, and two runs never share one. */
function folderOf(run: string): string {
  const name = Buffer.from(run).toString("base64url");
  return name.length <= 100 ? name : createHash("sha256").update(run).digest("hex");
}

export const removeFolder = (
  { backend, disk }: { readonly backend: SandboxBackend; readonly disk: Disk },
  path: string,
): Promise<void> => (backend.remove ? backend.remove(path) : disk.remove(path));

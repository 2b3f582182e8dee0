import type { Core } from "../actors/core.ts";
import type { MeshNode } from "../actors/node.ts";
import { MeshError } from "../errors.ts";
import { SANDBOX_STOP_WAIT_MS } from "../limits.ts";
import type { StandingContext } from "../machines/standing/events.ts";
import { type Disk, joinPath } from "../store/disk.ts";
import {
  type ClusterConfig,
  removeFolder,
  type SandboxBackend,
  type SandboxConfig,
  type SandboxHooks,
  type SandboxProcess,
  type StandingProcess,
} from "./sandboxes.ts";

// Sandboxes that the operator keeps running, each under its name: they take one task after the other.

export const standingOf = (name: string): string => `standing/${name}`;

export interface StandingView {
  readonly name: string;
  readonly state: "starting" | "ready" | "resting" | "closing";
  readonly did: string | null;
  readonly capabilities: readonly string[];
  readonly pid: number | null;
  readonly opened_at: string;
  /** Why its process ended last; null while it is up. */
  readonly failure: string | null;
}

export interface StandingOptions {
  readonly disk: Disk;
  readonly backend: SandboxBackend;
  /** Where they have their folders. */
  readonly directory: string;
  readonly cluster: () => ClusterConfig;
  /** Takes one that is gone out of the registry. */
  readonly forget: (did: string) => Promise<void>;
}

interface Held {
  readonly process: Promise<StandingProcess>;
  readonly exited: Promise<void>;
  isReady: boolean;
}

export class StandingSandboxes {
  readonly #core: Core;
  readonly #options: StandingOptions;
  readonly #held = new Map<string, Held>();
  #isClosed = false;

  constructor(node: MeshNode, options: StandingOptions) {
    this.#core = node.core;
    this.#options = options;
    node.perform("standing", {
      start: ({ name }: { name: string }) => this.#start(name),
      remove: ({ name }: { name: string }) => this.#remove(name),
    });
  }

  /** Those that are to run, by their names. */
  list(): StandingView[] {
    return [...this.#core.system.streams("standing")]
      .flatMap(([, state]) => this.#viewOf(state.snapshot.context, state.snapshot.value) ?? [])
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  find(name: string): StandingView | undefined {
    const state = this.#core.system.decided(standingOf(name));
    return state && this.#viewOf(state.snapshot.context, state.snapshot.value);
  }

  #viewOf(context: StandingContext, value: unknown): StandingView | undefined {
    if (value === "gone") return undefined;
    const { name, did, capabilities, openedAt, detail } = context;
    const held = this.#held.get(name);
    return {
      name,
      state: value === "closing" ? "closing" : held?.isReady ? "ready" : detail === null ? "starting" : "resting",
      did,
      capabilities,
      pid: held?.isReady ? context.pid : null,
      opened_at: new Date(openedAt).toISOString(),
      failure: held?.isReady ? null : detail,
    };
  }

  /** @throws MeshError `sandbox_exists`; `input_invalid` where sandboxes are no processes of this machine */
  async open(name: string, capabilities: readonly string[]): Promise<void> {
    if (!this.#options.backend.stand)
      throw new MeshError("input_invalid", "On Kubernetes each task has a sandbox of its own; none can stand.");
    if (this.find(name)) throw new MeshError("sandbox_exists", `${name}:`);
    await this.#commit(name, { type: "OPENED", capabilities: [...capabilities] });
  }

  unknown(name: string): never {
    throw new MeshError("sandbox_unknown", `${name}:`);
  }

  /** @throws MeshError `sandbox_unknown` */
  async close(name: string): Promise<void> {
    if (!this.find(name)) this.unknown(name);
    await this.#commit(name, { type: "CLOSED" });
  }

  /** Gives the sandbox of that name a task. @throws Error when it is not up */
  async serve(config: SandboxConfig, hooks: SandboxHooks): Promise<SandboxProcess> {
    const held = this.#held.get(config.name);
    if (!held?.isReady) throw new Error(`the sandbox ${config.name} is not up`);
    return (await held.process).serve(config, hooks);
  }

  /** The cluster closes: they end with it, and stand again when it is opened. */
  async end(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#held.keys()].map((name) => this.#end(name)));
  }

  #commit(name: string, event: { readonly type: string; readonly [field: string]: unknown }): Promise<void> {
    return this.#core.system.commit([{ stream: standingOf(name), event }]).durable;
  }

  #note(name: string, event: { readonly type: string; readonly [field: string]: unknown }): void {
    this.#commit(name, event).catch((error: unknown) =>
      this.#core.note(`The sandbox ${name} could not be noted: ${String(error)}`),
    );
  }

  async #start(name: string): Promise<void> {
    const { backend, cluster, disk } = this.#options;
    const view = this.find(name);
    if (this.#isClosed || this.#held.has(name) || !view || !backend.stand) return;
    const exited = Promise.withResolvers<void>();
    const directory = this.#folderOf(name);
    const exit = (detail: string) => {
      this.#held.delete(name);
      exited.resolve();
      if (!this.#isClosed) this.#note(name, { type: "EXITED", detail: detail.slice(0, 1000) });
    };
    /** What its process said why it cannot go on. */
    let failure: string | undefined;
    const begin = async (stand: NonNullable<SandboxBackend["stand"]>) => {
      await disk.makeDirectory(directory);
      const told = cluster();
      return stand({ ...told, directory, name, capabilities: [...view.capabilities] }, told, {
        ready: (did) => {
          held.isReady = true;
          this.#note(name, { type: "READY", did });
        },
        failed: (detail) => {
          failure = detail;
        },
        exited: (code) => exit(failure ?? `it ended (exit ${code ?? "by signal"})`),
      });
    };
    const held: Held = { process: begin(backend.stand), exited: exited.promise, isReady: false };
    this.#held.set(name, held);
    const process = await held.process.catch((error: unknown) => {
      exit(`it could not be started: ${error instanceof Error ? error.message : String(error)}`);
    });
    if (process) await this.#commit(name, { type: "SPAWNED", pid: process.pid });
  }

  async #end(name: string): Promise<void> {
    const held = this.#held.get(name);
    if (!held) return;
    const process = await held.process.catch(() => undefined);
    process?.end(false);
    const { clock } = this.#core.ports;
    const disarm = clock.at(clock.now() + SANDBOX_STOP_WAIT_MS, () => process?.end(true));
    if (process) await held.exited;
    disarm();
  }

  async #remove(name: string): Promise<void> {
    await this.#end(name);
    const { did } = this.find(name) ?? {};
    if (did) await this.#options.forget(did);
    // It is gone whatever its tasks left there; what could not be removed is tried again when the cluster starts.
    await removeFolder(this.#options, this.#folderOf(name)).catch((error: unknown) =>
      this.#core.note(`What is left of the sandbox ${name} could not be removed: ${String(error)}`),
    );
    await this.#commit(name, { type: "REMOVED" });
  }

  /** Whether a folder of that name is one's that is to run. */
  has(folder: string): boolean {
    return this.list().some(({ name }) => folderOf(name) === folder);
  }

  #folderOf(name: string): string {
    return joinPath(this.#options.directory, folderOf(name));
  }
}

const folderOf = (name: string): string => `standing-${Buffer.from(name).toString("base64url").slice(0, 100)}`;

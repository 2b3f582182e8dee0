import { join as joinPath } from "node:path";
import type { Core } from "../actors/core.ts";
import { compose, type Draft, entriesOnly } from "../actors/drafts.ts";
import type { MeshNode } from "../actors/node.ts";
import { type Clock, repeat } from "../actors/ports.ts";
import type { Follow, Work } from "../actors/work.ts";
import { asMeshError, MeshError } from "../errors.ts";
import { PROGRESS_EVERY_MS, RETRY_MIN_MS, SIGN_OF_LIFE_EVERY_MS } from "../limits.ts";
import type { PayloadInput, PayloadOf } from "../wire/payload.ts";
import { Account } from "./account.ts";
import type { TaskOptions, TaskProgress, TaskResult } from "./runner/task.ts";
import { SandboxFiles } from "./sandbox-files.ts";
import type { SandboxConfig } from "./sandboxes.ts";

// One task in a sandbox, for one laptop: it says hello, takes files and the task, tells how it goes, and sends back the files
// that came of it and a summary.

/** What is done with a task. Who shares no machine with the controller tells it by the account. */
export type Perform = (options: TaskOptions, account: Account) => Promise<TaskResult>;

export interface ErrandOptions {
  readonly node: MeshNode;
  readonly perform: Perform;
  readonly note: (text: string) => void;
}

export class Errand {
  readonly laptop: string;
  readonly files: SandboxFiles;
  readonly #config: SandboxConfig;
  readonly #options: ErrandOptions;
  readonly #work: string;
  readonly #stop = new AbortController();
  readonly #account: Account;
  #task: PayloadOf<"offload_task"> | undefined;
  #isBegun = false;
  /** Settles when nothing of the task runs any more. */
  #working: Promise<void> = Promise.resolve();

  constructor(config: SandboxConfig, options: ErrandOptions) {
    this.#config = config;
    this.#options = options;
    this.laptop = config.laptop;
    this.#work = joinPath(config.directory, "work");
    this.#account = new Account(options.node, config, (draft) => this.#persist(draft));
    this.files = new SandboxFiles({
      core: () => options.node.core,
      laptop: config.laptop,
      run: config.run,
      directory: this.#work,
      rules: config.rules,
      isBegun: () => this.#isBegun,
      onReceived: () => this.#beginning(),
    });
  }

  get #core(): Core {
    return this.#options.node.core;
  }
  get #clock(): Clock {
    return this.#core.ports.clock;
  }

  /** The laptop learns that it may send files and task. */
  hello(): Promise<void> {
    const { name, run } = this.#config;
    return this.#insist(
      {
        type: "offload_hello",
        request_id: run,
        from_agent: name,
        message: `${name} is ready`,
        accepts: ["offload_task"],
      },
      `${run}.hello`,
    );
  }

  /** Work from the laptop; undefined when it is none of this task's. */
  async take({ payload, id }: Work): Promise<Follow | undefined> {
    const { run } = this.#config;
    if (payload.type === "file_transfer")
      return (payload.request_id ?? run) === run ? this.files.take(payload, id) : undefined;
    if (payload.type === "mesh:file_pull") return this.files.pulled(payload);
    if (payload.type === "file_transfer_ack") return this.files.answered(payload);
    if (payload.type !== "offload_task" || payload.request_id !== run) return undefined;
    this.#task ??= payload;
    return this.#beginning();
  }

  /** Whether its controller is told of it by messages. */
  get isTold(): boolean {
    return this.#account.isKept;
  }

  /** Ends the task, if it runs. Resolves when nothing of it runs any more. */
  end(): Promise<void> {
    this.#stop.abort();
    this.files.end();
    return this.#working;
  }

  /** The task begins when all its files are here. */
  #beginning(): Follow {
    const task = this.#task;
    if (!task || this.#isBegun || this.files.received.size < task.files.length) return entriesOnly();
    const { run } = this.#config;
    const begin = () => {
      this.#isBegun = true;
      this.#working = this.#perform(task.task).catch((error: unknown) => this.#fail(error));
    };
    return { ...this.#said({ type: "task_received", request_id: run }, `${run}.received`), begin };
  }

  async #fail(error: unknown): Promise<void> {
    const { note } = this.#options;
    note(String(error));
    if (this.#stop.signal.aborted) return;
    const { run } = this.#config;
    const reason = error instanceof Error ? error.message : String(error);
    const code = error instanceof MeshError ? error.code : "cluster_refused";
    await this.#insist(
      { type: "offload_error", request_id: run, error: reason, phase: "running", code },
      `${run}.error`,
      // It is being closed: whoever waits for the run learns that it has ended.
    ).catch((unsaid: unknown) => note(String(unsaid)));
  }

  async #perform(task: string): Promise<void> {
    const config = this.#config;
    const clock = this.#clock;
    const { run, directory } = config;
    const begun = clock.now();
    const elapsed = () => Math.round((clock.now() - begun) / 100) / 10;
    const telling = this.#telling(elapsed);
    try {
      const given: TaskOptions = {
        task,
        files: [...this.files.received],
        directory: this.#work,
        scratch: joinPath(directory, "scratch"),
        log: joinPath(directory, "log.txt"),
        mark: directory,
        runner: config.runner,
        rules: config.rules,
        timeoutMinutes: config.timeout_minutes,
        signal: this.#stop.signal,
        onProgress: telling.onProgress,
        onUsage: () => undefined,
      };
      // The laptop ends the run once it has its result: what the controller is to know of it goes before.
      const result = await this.#options.perform(given, this.#account).finally(() => {
        // How far it was says nothing any more, and of a result that was refused it would say something.
        telling.stop();
        return this.#account.told;
      });
      // Whoever ended it knows why, and tells the laptop.
      if (this.#stop.signal.aborted) return;
      const commit = (draft: () => Draft) => this.#persist(draft);
      if (result.log !== undefined) await this.files.sendLog(result.log, commit);
      if (this.#stop.signal.aborted) return;
      if (!result.ok) {
        const failure = { error: result.summary, code: result.code ?? "cluster_refused", exit_code: result.exit };
        await this.#insist({ type: "offload_error", request_id: run, phase: "running", ...failure }, `${run}.error`);
        return;
      }
      const names = await this.files.send(result.files, commit);
      await this.#insist(
        {
          type: "offload_done",
          request_id: run,
          summary: result.summary,
          output_files: names,
          ...(result.tokens && { tokens_used: result.tokens }),
          duration_seconds: elapsed(),
          exit_code: result.exit,
        },
        `${run}.done`,
      );
    } finally {
      telling.stop();
    }
  }

  /** Tells the laptop how it goes: at most every so often, with the line that was held back at the next beat. */
  #telling(elapsed: () => number): {
    readonly onProgress: (progress: TaskProgress) => void;
    readonly stop: () => void;
  } {
    const { run } = this.#config;
    const clock = this.#clock;
    let [count, told, held, isOver] = [0, 0, false, false];
    let latest: TaskProgress = { stage: "starting", message: "the task begins" };
    const tell = () => {
      told = clock.now();
      held = false;
      const { stage, pct, message } = latest;
      const payload: PayloadInput = {
        type: "offload_progress",
        request_id: run,
        stage,
        ...(pct === undefined ? {} : { pct }),
        message,
        elapsed_seconds: elapsed(),
      };
      this.#commit(this.#said(payload, `${run}.progress.${count++}`)).catch((error: unknown) =>
        this.#options.note(String(error)),
      );
    };
    const endBeat = repeat(clock, PROGRESS_EVERY_MS, () => {
      if (held || clock.now() - told >= SIGN_OF_LIFE_EVERY_MS) tell();
    });
    const stop = () => {
      isOver = true;
      endBeat();
    };
    const onProgress = (progress: TaskProgress) => {
      if (isOver) return;
      const changed = progress.stage !== latest.stage;
      latest = progress;
      if (changed || clock.now() - told >= PROGRESS_EVERY_MS) tell();
      else held = true;
    };
    return { onProgress, stop };
  }

  // What is said

  #said(payload: PayloadInput, id: string): Draft {
    return compose(this.#core, this.laptop, payload, id);
  }

  async #commit({ entries, secrets, before }: Draft): Promise<void> {
    await this.#core.system.commit(entries, { secrets, before }).durable;
  }

  /** Commits what must be said; a disk that refuses is tried again until it takes it. */
  async #persist(draft: () => Draft): Promise<void> {
    try {
      await this.#commit(draft());
    } catch (error) {
      if (asMeshError(error).code !== "store_io" || this.#stop.signal.aborted) throw error;
      const clock = this.#clock;
      await new Promise<void>((resolve) => clock.at(clock.now() + RETRY_MIN_MS, resolve));
      await this.#persist(draft);
    }
  }

  #insist(payload: PayloadInput, id: string): Promise<void> {
    return this.#persist(() => this.#said(payload, id));
  }
}

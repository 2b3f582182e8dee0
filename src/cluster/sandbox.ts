import { join as joinPath } from "node:path";
import { MeshNode } from "../actors/node.ts";
import type { StoreLimits } from "../actors/opening.ts";
import { compose, type Draft, entriesOnly } from "../actors/outgoing.ts";
import { type Ports, repeat } from "../actors/ports.ts";
import { noLaterThan } from "../actors/settling.ts";
import type { Follow, Work } from "../actors/work.ts";
import { asMeshError, MeshError } from "../errors.ts";
import { PROGRESS_EVERY_MS, RETRY_MIN_MS, SANDBOX_STOP_WAIT_MS, SIGN_OF_LIFE_EVERY_MS } from "../limits.ts";
import type { PayloadInput, PayloadOf } from "../wire/payload.ts";
import { Account } from "./account.ts";
import type { TaskOptions, TaskProgress, TaskResult } from "./runner/task.ts";
import { SandboxFiles } from "./sandbox-files.ts";
import type { SandboxConfig } from "./sandboxes.ts";

// A sandbox: a node of its own that serves one laptop, once. It says hello, takes files and a task, tells how it goes, and
// sends back the files that came of it and a summary.

export interface SandboxOptions {
  readonly ports: Ports;
  /** What is done with a task. Who shares no machine with the controller tells it by the account. */
  readonly runTask: (options: TaskOptions, account: Account) => Promise<TaskResult>;
  readonly limits?: Partial<StoreLimits> | undefined;
  /** Of the identity that it is to have, 32 bytes; a new one unless given. */
  readonly seed?: Uint8Array | undefined;
  readonly ready: (did: string) => void;
  readonly note: (text: string) => void;
}

/** Runs one sandbox. Resolves when it has said hello, with what ends it. */
export async function runSandbox(config: SandboxConfig, options: SandboxOptions): Promise<() => Promise<void>> {
  const { ports, runTask, note } = options;
  const { clock } = ports;
  const { laptop, run } = config;
  const work = joinPath(config.directory, "work");
  const stop = new AbortController();
  let task: PayloadOf<"offload_task"> | undefined;
  let started = false;
  let working: Promise<void> = Promise.resolve();

  const commit = async ({ entries, secrets, before }: Draft) => {
    await node.core.system.commit(entries, { secrets, before }).durable;
  };
  const say = (payload: PayloadInput, id: string) => commit(compose(node.core, laptop, payload, id));

  /** Commits what must be said; a disk that refuses is tried again until it takes it. */
  const persist = async (draft: () => Draft): Promise<void> => {
    try {
      await commit(draft());
    } catch (error) {
      if (asMeshError(error).code !== "store_io" || stop.signal.aborted) throw error;
      await new Promise<void>((resolve) => clock.at(clock.now() + RETRY_MIN_MS, resolve));
      await persist(draft);
    }
  };
  const insist = (payload: PayloadInput, id: string) => persist(() => compose(node.core, laptop, payload, id));

  const perform = async ({ task }: PayloadOf<"offload_task">) => {
    const begun = clock.now();
    const elapsed = () => Math.round((clock.now() - begun) / 100) / 10;
    let count = 0;
    let told = 0;
    let latest: TaskProgress = { stage: "starting", message: "the task begins" };
    const tell = async () => {
      told = clock.now();
      await say(
        {
          type: "offload_progress",
          request_id: run,
          stage: latest.stage,
          ...(latest.pct === undefined ? {} : { pct: latest.pct }),
          message: latest.message,
          elapsed_seconds: elapsed(),
        },
        `${run}.progress.${count++}`,
      );
    };
    // The latest line goes out at most every so often; the one that was held back goes out with the next beat.
    let held = false;
    const stopBeat = repeat(clock, PROGRESS_EVERY_MS, () => {
      if (held || clock.now() - told >= SIGN_OF_LIFE_EVERY_MS) {
        held = false;
        tell().catch((error: unknown) => note(String(error)));
      }
    });
    try {
      const given: TaskOptions = {
        task,
        files: [...files.received],
        directory: work,
        scratch: joinPath(config.directory, "scratch"),
        log: joinPath(config.directory, "log.txt"),
        mark: config.directory,
        runner: config.runner,
        rules: config.rules,
        timeoutMinutes: config.timeout_minutes,
        signal: stop.signal,
        onProgress: (progress) => {
          const changed = progress.stage !== latest.stage;
          latest = progress;
          if (changed || clock.now() - told >= PROGRESS_EVERY_MS) tell().catch((error: unknown) => note(String(error)));
          else held = true;
        },
        onUsage: () => undefined,
      };
      // The laptop ends the run once it has its result: what the controller is to know of it goes before.
      const result = await runTask(given, account).finally(() => account.told);
      stopBeat();
      // Whoever ended it knows why, and tells the laptop.
      if (stop.signal.aborted) return;
      if (result.log !== undefined) await files.sendLog(result.log, persist);
      if (!result.ok) {
        await insist(
          {
            type: "offload_error",
            request_id: run,
            error: result.summary,
            phase: "running",
            code: result.code ?? "cluster_refused",
            exit_code: result.exit,
          },
          `${run}.error`,
        );
        return;
      }
      const names = await files.send(result.files, persist);
      await insist(
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
      stopBeat();
    }
  };

  /** The task begins when all its files are here. */
  const beginning = (): Follow => {
    if (!task || started || files.received.size < task.files.length) return entriesOnly();
    const given = task;
    const begin = () => {
      started = true;
      working = perform(given)
        .catch(async (error: unknown) => {
          note(String(error));
          if (stop.signal.aborted) return;
          const reason = error instanceof Error ? error.message : String(error);
          const code = error instanceof MeshError ? error.code : "cluster_refused";
          await insist(
            { type: "offload_error", request_id: run, error: reason, phase: "running", code },
            `${run}.error`,
          );
        })
        // It is being closed: whoever waits for the run learns that it has ended.
        .catch((error: unknown) => note(String(error)));
    };
    return { ...compose(node.core, laptop, { type: "task_received", request_id: run }, `${run}.received`), begin };
  };

  const files = new SandboxFiles({
    core: () => node.core,
    laptop,
    run,
    directory: work,
    rules: config.rules,
    onReceived: beginning,
  });

  const onWork = async ({ peer, payload, id }: Work): Promise<Follow | undefined> => {
    if (peer !== laptop) return undefined;
    if (payload.type === "file_transfer") return files.take(payload, id);
    if (payload.type === "mesh:file_pull") return files.pulled(payload);
    if (payload.type === "file_transfer_ack") return files.answered(payload);
    if (payload.type !== "offload_task" || payload.request_id !== run) return undefined;
    task ??= payload;
    return beginning();
  };

  const node = await MeshNode.open({
    home: joinPath(config.directory, "home"),
    ports,
    limits: options.limits ?? {},
    onWork,
    files,
    onNote: note,
  });
  const account = new Account(node, config, persist);
  node.start();
  await node.membership.join({
    controller: config.controller,
    cluster: config.cluster,
    relayUrl: config.relay_url,
    registryUrl: config.registry_url,
    name: config.name,
    capabilities: config.capabilities.filter((capability) => capability !== "offload").concat("sandbox"),
    seed: options.seed,
  });
  options.ready(node.core.keyring.identity.did);
  await insist(
    {
      type: "offload_hello",
      request_id: run,
      from_agent: config.name,
      message: `${config.name} is ready`,
      accepts: ["offload_task"],
    },
    `${run}.hello`,
  );
  return async () => {
    stop.abort();
    // How its task ended is told as long as the controller waits for its end.
    if (account.isKept) await noLaterThan(clock, clock.now() + SANDBOX_STOP_WAIT_MS, working);
    // A name that stays in the registry after its bearer is gone would mislead whoever looks for it.
    await node.core
      .registry()
      .remove(node.core.keyring.identity)
      .catch((error: unknown) => note(String(error)));
    await node.close();
  };
}

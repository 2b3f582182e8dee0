import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { basename, join as joinPath } from "node:path";
import { freeName, safeName, saveFile } from "../actors/files.ts";
import { MeshNode } from "../actors/node.ts";
import { compose, type Draft } from "../actors/outgoing.ts";
import type { Follow, Work } from "../actors/work.ts";
import { FILE_SIZE_MAX, FILES_MAX, PROGRESS_EVERY_MS } from "../limits.ts";
import type { PayloadInput, PayloadOf } from "../wire/payload.ts";
import { runTask, type TaskProgress } from "./runner.ts";
import type { SandboxConfig } from "./sandboxes.ts";

// A sandbox: a node of its own that serves one laptop, once. It says hello, takes files and a task, tells how it goes, and
// sends back the files that came of it and a summary.

const SIGN_OF_LIFE_MS = 20_000;

export async function runSandbox(
  config: SandboxConfig,
  hooks: { ready(did: string): void; note(text: string): void },
): Promise<() => Promise<void>> {
  const { laptop, run } = config;
  const work = joinPath(config.directory, "work");
  const received = new Set<string>();
  const stop = new AbortController();
  let started = false;

  const say = async (payload: PayloadInput, id: string) => {
    const draft = compose(node.core, laptop, payload, id);
    await node.core.system.commit(draft.entries, { secrets: draft.secrets, before: draft.before }).durable;
  };

  const takeFile = async (payload: PayloadOf<"file_transfer">, id: string): Promise<Draft> => {
    const bytes = Buffer.from(payload.file_data, "base64");
    const whole =
      bytes.length === payload.size_bytes &&
      (payload.sha256 === undefined || payload.sha256 === createHash("sha256").update(bytes).digest("hex"));
    const answer = (success: boolean, error?: string) =>
      compose(
        node.core,
        laptop,
        {
          type: "file_transfer_ack",
          file_name: payload.file_name,
          success,
          request_id: run,
          ...(error === undefined ? {} : { error }),
        },
        `${id}.ack`,
      );
    if (!whole) return answer(false, "the file did not arrive whole");
    if (received.size >= FILES_MAX) return answer(false, "too many files");
    const name = freeName(safeName(payload.file_name), received);
    await saveFile(work, name, bytes);
    received.add(name);
    return answer(true);
  };

  const perform = async (task: PayloadOf<"offload_task">) => {
    const begun = Date.now();
    const elapsed = () => Math.round((Date.now() - begun) / 100) / 10;
    let count = 0;
    let told = 0;
    let latest: TaskProgress = { stage: "starting", message: "the task begins" };
    const tell = async () => {
      told = Date.now();
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
    const beat = setInterval(() => {
      if (held || Date.now() - told >= SIGN_OF_LIFE_MS) {
        held = false;
        tell().catch((error: unknown) => hooks.note(String(error)));
      }
    }, PROGRESS_EVERY_MS);
    try {
      const result = await runTask({
        task: task.task,
        files: [...received],
        directory: work,
        runner: config.runner,
        signal: stop.signal,
        onProgress: (progress) => {
          const changed = progress.stage !== latest.stage;
          latest = progress;
          if (changed || Date.now() - told >= PROGRESS_EVERY_MS)
            tell().catch((error: unknown) => hooks.note(String(error)));
          else held = true;
        },
      });
      clearInterval(beat);
      if (!result.ok) {
        await say(
          { type: "offload_error", request_id: run, error: result.summary, phase: "running", code: "cluster_refused" },
          `${run}.error`,
        );
        return;
      }
      const names = await sendFiles(result.files);
      await say(
        {
          type: "offload_done",
          request_id: run,
          summary: result.summary,
          output_files: names,
          duration_seconds: elapsed(),
        },
        `${run}.done`,
      );
    } finally {
      clearInterval(beat);
    }
  };

  const sendFiles = async (paths: readonly string[]): Promise<string[]> => {
    const names: string[] = [];
    for (const [index, path] of paths.entries()) {
      const bytes = await readFile(path);
      const name = freeName(basename(path), new Set(names));
      if (bytes.length > FILE_SIZE_MAX)
        throw new Error(`the result file ${name} is larger than ${FILE_SIZE_MAX} bytes`);
      await say(
        {
          type: "file_transfer",
          file_name: name,
          file_data: bytes.toString("base64"),
          size_bytes: bytes.length,
          sha256: createHash("sha256").update(bytes).digest("hex"),
          request_id: run,
        },
        `${run}.result.${index}`,
      );
      names.push(name);
    }
    return names;
  };

  const onWork = async ({ peer, payload, id }: Work): Promise<Follow | undefined> => {
    if (peer !== laptop) return undefined;
    if (payload.type === "file_transfer") return takeFile(payload, id);
    if (payload.type !== "offload_task" || payload.request_id !== run || started) return undefined;
    started = true;
    const begin = () => {
      perform(payload).catch(async (error: unknown) => {
        hooks.note(String(error));
        const reason = error instanceof Error ? error.message : String(error);
        await say(
          { type: "offload_error", request_id: run, error: reason, phase: "running", code: "cluster_refused" },
          `${run}.error`,
        );
      });
    };
    return { ...compose(node.core, laptop, { type: "task_received", request_id: run }, `${run}.received`), begin };
  };

  const node = await MeshNode.open({ home: joinPath(config.directory, "home"), onWork, onNote: hooks.note });
  node.start();
  await node.membership.join({
    controller: config.controller,
    cluster: config.cluster,
    relayUrl: config.relay_url,
    registryUrl: config.registry_url,
    name: config.name,
    capabilities: config.capabilities.filter((capability) => capability !== "offload").concat("sandbox"),
  });
  hooks.ready(node.core.keyring.identity.did);
  await say(
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
    // A name that stays in the registry after its bearer is gone would mislead whoever looks for it.
    await node.core
      .registry()
      .remove(node.core.keyring.identity)
      .catch((error: unknown) => hooks.note(String(error)));
    await node.close();
  };
}

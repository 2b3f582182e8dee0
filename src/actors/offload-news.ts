import { hash } from "node:crypto";
import { join as joinPath } from "node:path";
import { type ErrorCode, isErrorCode, MeshError } from "../errors.ts";
import type { Body } from "../machines/definition.ts";
import type { UntimedOffloadEvent as Event, OffloadContext } from "../machines/offload/events.ts";
import { offloadRefusal } from "../wire/legacy.ts";
import type { Payload, PayloadOf } from "../wire/payload.ts";
import type { Admission } from "./admission.ts";
import type { Core } from "./core.ts";
import { compose, type Draft, entriesOnly, join } from "./drafts.ts";
import { isPassing, type SavedFile, saveFile } from "./files.ts";
import { type OffloadFiles, tooMany } from "./offload-files.ts";
import { offloadOf, viewOffload } from "./offload-view.ts";
import type { Work } from "./work.ts";

// What a cluster says about an offload, as events of its machine.

/** An event of an offload with words that belong to it. */
export function told(
  core: Core,
  id: string,
  words: string | undefined,
  event: (note: { note?: Body }) => Event,
): Draft {
  if (words === undefined || words === "") return entriesOnly({ stream: offloadOf(id), event: event({}) });
  const { body, secrets, before } = core.bodies.seal(offloadOf(id), words);
  return { entries: [{ stream: offloadOf(id), event: event({ note: body }) }], secrets, ...(before && { before }) };
}

export class OffloadNews {
  readonly #core: Core;
  readonly #admission: Admission;
  readonly #files: OffloadFiles;
  readonly #folder: string;

  /** @param folder where result files are saved, a folder an offload */
  constructor(core: Core, admission: Admission, files: OffloadFiles, folder: string) {
    this.#core = core;
    this.#files = files;
    this.#admission = admission;
    this.#folder = folder;
  }

  /** The events that a cluster's word about an offload means; undefined when it is about none of ours, or not from who may say it. */
  async handle({ peer, payload, id: messageId }: Work): Promise<Draft | undefined> {
    if (payload.type === "mesh:file_pull") return this.#files.pulled(peer, payload);
    if (payload.type === "file_transfer_ack") return this.#files.acknowledged(peer, payload);
    const id =
      "request_id" in payload && typeof payload.request_id === "string"
        ? payload.request_id
        : this.#offloadOfSandbox(peer);
    const state = id === undefined ? undefined : this.#core.system.decided(offloadOf(id));
    if (!state || id === undefined) return undefined;
    const context: OffloadContext = state.snapshot.context;
    if (context.controller === "") return undefined;
    const isController = peer === context.controller;
    const isSandbox = peer === context.sandbox.did;
    if (isController) return this.#fromController(id, payload);
    if (isSandbox || payload.type === "offload_hello") return this.#fromSandbox(id, peer, payload, messageId);
    this.#core.note(`${payload.type} about offload ${id} came from ${peer}, which is not its sandbox; ignored.`);
    return undefined;
  }

  /** Older sandboxes send files without naming the offload: it is the one that runs there. */
  #offloadOfSandbox(peer: string): string | undefined {
    for (const [, state] of this.#core.system.streams("offload")) {
      const context: OffloadContext = state.snapshot.context;
      if (context.sandbox.did === peer && state.snapshot.matches("active")) return context.id;
    }
    return undefined;
  }

  #fromController(id: string, payload: Payload): Draft | undefined {
    switch (payload.type) {
      case "offload_status":
        return join(
          told(this.#core, id, payload.message, (note) => ({
            type: "STATUS",
            phase: payload.phase,
            sandbox: payload.sandbox_name ?? null,
            sandbox_did: payload.sandbox_did ?? null,
            ...note,
          })),
          entriesOnly(...this.#admission.expected(payload.sandbox_did)),
        );
      case "offload_error":
        if (payload.phase === "cancelled") return entriesOnly({ stream: offloadOf(id), event: { type: "CANCELLED" } });
        return told(this.#core, id, payload.error, (note) => ({ type: "FAILED", code: codeOf(payload), ...note }));
      default:
        return undefined;
    }
  }

  async #fromSandbox(id: string, peer: string, payload: Payload, messageId: string): Promise<Draft | undefined> {
    switch (payload.type) {
      case "offload_hello":
        return told(this.#core, id, payload.message, (note) => ({
          type: "GREETED",
          did: peer,
          awaits_task: payload.accepts?.includes("offload_task") ?? false,
          ...note,
        }));
      case "task_received":
        return entriesOnly({ stream: offloadOf(id), event: { type: "STARTED" } });
      case "offload_progress":
        return told(this.#core, id, payload.message, (note) => ({
          type: "PROGRESSED",
          stage: payload.stage ?? null,
          pct: payload.pct ?? null,
          ...note,
        }));
      case "offload_error": {
        const code = isErrorCode(payload.code) ? payload.code : "cluster_refused";
        const exit = payload.exit_code === undefined ? {} : { exit: payload.exit_code };
        return told(this.#core, id, payload.error, (note) => ({ type: "FAILED", code, ...exit, ...note }));
      }
      case "file_transfer":
        return this.#receiveFile(id, peer, payload, messageId);
      case "offload_done":
        return this.#finish(id, payload);
      default:
        return undefined;
    }
  }

  #finish(id: string, payload: PayloadOf<"offload_done">): Draft {
    const { body, secrets, before } = this.#core.bodies.seal(offloadOf(id), payload.summary);
    const tokens = payload.tokens_used;
    const event: Event = {
      type: "FINISHED",
      body,
      outputs: payload.output_files.length,
      tokens: tokens ? { prompt: tokens.prompt ?? 0, completion: tokens.completion ?? 0 } : null,
      duration_seconds: payload.duration_seconds ?? null,
      ...(payload.exit_code !== undefined && { exit: payload.exit_code }),
    };
    return { entries: [{ stream: offloadOf(id), event }], secrets, ...(before && { before }) };
  }

  /** The file lies whole under its name before the event says so; a repetition finds the same bytes in the same place. */
  async #receiveFile(id: string, peer: string, payload: PayloadOf<"file_transfer">, messageId: string): Promise<Draft> {
    const bytes = Buffer.from(payload.file_data, "base64");
    const sha256 = hash("sha256", bytes, "hex");
    const problem =
      bytes.length !== payload.size_bytes
        ? `${bytes.length} bytes came where ${payload.size_bytes} were announced`
        : payload.sha256 !== undefined && payload.sha256 !== sha256
          ? "the hash does not match"
          : undefined;
    const answer = (success: boolean, error?: string) =>
      compose(
        this.#core,
        peer,
        {
          type: "file_transfer_ack",
          file_name: payload.file_name,
          success,
          request_id: id,
          ...(error === undefined ? {} : { error }),
        },
        `${messageId}.ack`,
      );
    const fail = ({ code, message }: MeshError) =>
      join(
        told(this.#core, id, message, (note) => ({ type: "FAILED", code, ...note })),
        answer(false, message),
      );
    const context: OffloadContext | undefined = this.#core.system.decided(offloadOf(id))?.snapshot.context;
    const refused = tooMany(context?.results.length ?? 0) ?? this.#files.refusal(payload.file_name, bytes.length, true);
    if (refused) return fail(refused);
    if (problem !== undefined) return fail(new MeshError("file_damaged", `${payload.file_name}: ${problem}.`));
    const taken = new Set((await viewOffload(this.#core, this.#folder, id)).files.map(({ name }) => name));
    let file: SavedFile;
    try {
      const directory = joinPath(this.#folder, id);
      const wanted = { directory, name: payload.file_name, taken, size: bytes.length, sha256 };
      file = await saveFile(this.#core.ports.disk, wanted, bytes);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const failure = new MeshError("store_io", `${payload.file_name} could not be saved: ${reason}.`, {
        cause: error,
      });
      // What may pass is tried again; the file is still in the conversation.
      if (isPassing(error)) throw failure;
      return fail(failure);
    }
    const { name, path, size } = file;
    const { body, secrets, before } = this.#core.bodies.seal(offloadOf(id), JSON.stringify({ name, path }));
    const event: Event = { type: "FILE_SAVED", body, size, sha256 };
    return join({ entries: [{ stream: offloadOf(id), event }], secrets, ...(before && { before }) }, answer(true));
  }
}

/** The refusal's code: its own, or what a controller's words say (deployed clusters have no codes). */
const codeOf = ({ code, error }: PayloadOf<"offload_error">): ErrorCode =>
  isErrorCode(code) ? code : offloadRefusal(error);

import { createHash, randomUUID } from "node:crypto";
import { join as joinPath } from "node:path";
import { z } from "zod";
import { asMeshError, type ErrorCode, isErrorCode, MeshError } from "../errors.ts";
import { OFFLOAD_TIMEOUT_MINUTES, TASK_SIZE_MAX } from "../limits.ts";
import type { Body } from "../machines/definition.ts";
import type { UntimedOffloadEvent as Event, OffloadContext } from "../machines/offload/events.ts";
import type { Payload, PayloadOf } from "../wire/payload.ts";
import { type Core, isoNow } from "./core.ts";
import { freeName, inspectFiles, readInspected, safeName, saveFile } from "./files.ts";
import type { Work } from "./incoming.ts";
import { compose, type Draft, entriesOnly, join } from "./outgoing.ts";
import type { ActorState } from "./state.ts";

// Offloads as the laptop drives them: the effects of the offload machine, and what the cluster says about them.

export const offloadOf = (id: string): string => `offload/${id}`;

/** What the sealed body of a request says. */
const Request = z.object({
  task: z.string(),
  files: z.array(z.object({ name: z.string(), path: z.string(), size: z.number(), sha256: z.string() })),
});
const SavedFile = z.object({ name: z.string(), path: z.string() });

export type OffloadStatus = "pending" | "running" | "done" | "error" | "cancelled" | "lost";

/** An offload as tools and command lines show it. */
export interface OffloadView {
  readonly offload_id: string;
  readonly status: OffloadStatus;
  readonly phase: string;
  readonly progress: { readonly stage: string | null; readonly pct: number | null; readonly message: string | null };
  readonly summary: string | null;
  readonly files: readonly {
    readonly name: string;
    readonly path: string;
    readonly size: number;
    readonly sha256: string;
  }[];
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly task: string | null;
  readonly sandbox: string | null;
  readonly requested_at: string;
  readonly ended_at: string | null;
  readonly duration_seconds: number | null;
  readonly folder: string;
}

const PENDING: ReadonlySet<string> = new Set(["new", "requested", "accepted", "spawning", "ready"]);

export const phaseOf = ({ snapshot }: ActorState): string => {
  const { value } = snapshot;
  return typeof value === "string" ? value : String(value.active ?? Object.keys(value)[0]);
};

export function statusOf(phase: string): OffloadStatus {
  if (phase === "done" || phase === "error" || phase === "cancelled" || phase === "lost") return phase;
  return PENDING.has(phase) ? "pending" : "running";
}
export const isOver = (status: OffloadStatus): boolean => status !== "pending" && status !== "running";

export class Offloads {
  readonly #core: Core;
  readonly #folder: string;

  constructor(core: Core, home: string) {
    this.#core = core;
    this.#folder = joinPath(home, "offloads");
    core.system.perform("offload", {
      request: (params: { offload: string }) => this.#attempt(params.offload, () => this.#request(params.offload)),
      upload: (params: { offload: string }) => this.#attempt(params.offload, () => this.#upload(params.offload)),
      cleanUp: (params: { offload: string; reason: string }) => this.#cleanUp(params.offload, params.reason),
    });
  }

  // Commands

  /** Begins an offload; resolves when the intent is durable. @throws MeshError on files that cannot be sent */
  async begin(options: {
    readonly controller: string;
    readonly task: string;
    readonly files: readonly string[];
    readonly target: { readonly name?: string | undefined; readonly capability?: string | undefined };
    readonly timeoutMinutes?: number | undefined;
  }): Promise<string> {
    if (Buffer.byteLength(options.task) > TASK_SIZE_MAX)
      throw new MeshError("limit_reached", `A task has at most ${TASK_SIZE_MAX} bytes.`);
    const files = await inspectFiles(options.files);
    const id = randomUUID();
    const request: z.infer<typeof Request> = { task: options.task, files };
    const { body, secrets, before } = this.#core.bodies.seal(offloadOf(id), JSON.stringify(request));
    const event: Event = {
      type: "REQUESTED",
      controller: options.controller,
      target: options.target,
      timeout_minutes: options.timeoutMinutes ?? OFFLOAD_TIMEOUT_MINUTES,
      body,
      files: files.length,
      bytes: files.reduce((sum, file) => sum + file.size, 0),
    };
    await this.#core.system.commit([{ stream: offloadOf(id), event }], { secrets, before }).durable;
    return id;
  }

  /** Asks for an end. @throws MeshError `offload_unknown`, `offload_over` */
  async cancel(id: string): Promise<void> {
    if (!this.#core.system.state(offloadOf(id))) throw new MeshError("offload_unknown", `${id}.`);
    const { accepted, durable } = this.#core.system.commit([{ stream: offloadOf(id), event: { type: "CANCEL" } }]);
    if (!accepted[0]) throw new MeshError("offload_over");
    await durable;
  }

  /** @throws MeshError `offload_unknown` */
  async view(id: string): Promise<OffloadView> {
    const state = this.#core.system.state(offloadOf(id));
    if (!state) throw new MeshError("offload_unknown", `${id}.`);
    const context: OffloadContext = state.snapshot.context;
    const scope = offloadOf(id);
    const peek = async (body: Body | null) => (body ? this.#core.bodies.peek(scope, body) : null);
    const phase = phaseOf(state);
    const status = statusOf(phase);
    const request = await peek(context.request);
    const note = await peek(context.note);
    const files = await Promise.all(
      context.results.map(async ({ body, size, sha256 }) => {
        const saved = await peek(body);
        return { ...(saved === null ? { name: "", path: "" } : SavedFile.parse(JSON.parse(saved))), size, sha256 };
      }),
    );
    return {
      offload_id: id,
      status,
      phase,
      progress: { stage: context.stage, pct: status === "done" ? 100 : context.pct, message: note },
      summary: await peek(context.summary),
      files,
      error: this.#errorOf(status, context, note),
      task: request === null ? null : Request.parse(JSON.parse(request)).task,
      sandbox: context.sandbox.name,
      requested_at: new Date(context.requestedAt).toISOString(),
      ended_at: context.endedAt === null ? null : new Date(context.endedAt).toISOString(),
      duration_seconds: context.durationSeconds,
      folder: joinPath(this.#folder, id),
    };
  }

  #errorOf(status: OffloadStatus, context: OffloadContext, note: string | null): OffloadView["error"] {
    if (status === "error") {
      const code = context.failure ?? "cluster_refused";
      return { code, message: note ?? new MeshError(code).message };
    }
    if (status !== "lost") return null;
    const heard =
      context.lastHeard === null
        ? "Nothing was ever heard"
        : `Nothing was heard since ${new Date(context.lastHeard).toISOString()}`;
    return {
      code: "cluster_unreachable",
      message: `${heard}${context.stage === null ? "" : `, when it was at "${context.stage}"`}.`,
    };
  }

  list(): string[] {
    const entries = [...this.#core.system.streams("offload")].map(
      ([, state]): OffloadContext => state.snapshot.context,
    );
    return entries.sort((a, b) => a.requestedAt - b.requestedAt).map(({ id }) => id);
  }

  // Effects

  #context(id: string): OffloadContext {
    const state = this.#core.system.state(offloadOf(id));
    if (!state) throw new Error(`no offload ${id}`);
    return state.snapshot.context;
  }

  #commit(draft: Draft): Promise<void> {
    return this.#core.system.commit(draft.entries, { secrets: draft.secrets, before: draft.before }).durable;
  }

  async #attempt(id: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const failure = asMeshError(error);
      if (failure.code === "closed" || failure.code === "store_io") throw failure;
      await this.#commit(this.#told(id, failure.message, (note) => ({ type: "FAILED", code: failure.code, ...note })));
    }
  }

  /** An event of an offload with words that belong to it. */
  #told(id: string, words: string | undefined, event: (note: { note?: Body }) => Event): Draft {
    if (words === undefined || words === "") return entriesOnly({ stream: offloadOf(id), event: event({}) });
    const { body, secrets, before } = this.#core.bodies.seal(offloadOf(id), words);
    return { entries: [{ stream: offloadOf(id), event: event({ note: body }) }], secrets, ...(before && { before }) };
  }

  async #requestOf(id: string): Promise<z.infer<typeof Request>> {
    const { request } = this.#context(id);
    if (!request) throw new Error(`offload ${id} has no request`);
    return Request.parse(JSON.parse(await this.#core.bodies.open(offloadOf(id), request)));
  }

  async #request(id: string): Promise<void> {
    const { controller, target, timeoutMinutes } = this.#context(id);
    const { task, files } = await this.#requestOf(id);
    const asking = compose(
      this.#core,
      controller,
      {
        type: "offload_request",
        request_id: id,
        task,
        files: files.map(({ name }) => name),
        file_count: files.length,
        total_bytes: files.reduce((sum, { size }) => sum + size, 0),
        preferences: { timeout_minutes: timeoutMinutes },
        target: { ...target },
        timestamp: isoNow(this.#core),
      },
      `${id}.request`,
    );
    await this.#commit(join(asking, entriesOnly({ stream: offloadOf(id), event: { type: "ASKED" } })));
  }

  /** Each file is committed by itself; one that was queued before a crash is refused by its id and so not sent twice. */
  async #upload(id: string): Promise<void> {
    const { sandbox } = this.#context(id);
    const peer = sandbox.did;
    if (peer === null) throw new Error(`offload ${id} has no sandbox`);
    const { task, files } = await this.#requestOf(id);
    for (const [index, file] of files.entries()) {
      const bytes = await readInspected(file);
      const payload: PayloadOf<"file_transfer"> = {
        type: "file_transfer",
        file_name: file.name,
        file_data: bytes.toString("base64"),
        size_bytes: file.size,
        sha256: file.sha256,
        request_id: id,
        timestamp: isoNow(this.#core),
      };
      await this.#commit(compose(this.#core, peer, payload, `${id}.file.${index}`));
    }
    const handing = compose(
      this.#core,
      peer,
      {
        type: "offload_task",
        request_id: id,
        task,
        files: files.map(({ name }) => name),
        timestamp: isoNow(this.#core),
      },
      `${id}.task`,
    );
    await this.#commit(join(handing, entriesOnly({ stream: offloadOf(id), event: { type: "UPLOADED" } })));
  }

  async #cleanUp(id: string, reason: string): Promise<void> {
    const { controller } = this.#context(id);
    const telling = compose(
      this.#core,
      controller,
      { type: "offload_cleanup", request_id: id, reason, timestamp: isoNow(this.#core) },
      `${id}.cleanup`,
    );
    await this.#commit(join(telling, entriesOnly({ stream: offloadOf(id), event: { type: "CLEANED_UP" } })));
  }

  // What the cluster says

  /** The events that a cluster's word about an offload means; undefined when it is about none of ours, or not from who may say it. */
  async handle({ peer, payload, id: messageId }: Work): Promise<Draft | undefined> {
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
        return this.#told(id, payload.message, (note) => ({
          type: "STATUS",
          phase: payload.phase,
          sandbox: payload.sandbox_name ?? null,
          sandbox_did: payload.sandbox_did ?? null,
          ...note,
        }));
      case "offload_error":
        if (payload.phase === "cancelled") return entriesOnly({ stream: offloadOf(id), event: { type: "CANCELLED" } });
        return this.#told(id, payload.error, (note) => ({ type: "FAILED", code: codeOf(payload), ...note }));
      default:
        return undefined;
    }
  }

  async #fromSandbox(id: string, peer: string, payload: Payload, messageId: string): Promise<Draft | undefined> {
    switch (payload.type) {
      case "offload_hello":
        return this.#told(id, payload.message, (note) => ({
          type: "GREETED",
          did: peer,
          awaits_task: payload.accepts?.includes("offload_task") ?? false,
          ...note,
        }));
      case "task_received":
        return entriesOnly({ stream: offloadOf(id), event: { type: "STARTED" } });
      case "offload_progress":
        return this.#told(id, payload.message, (note) => ({
          type: "PROGRESSED",
          stage: payload.stage ?? null,
          pct: payload.pct ?? null,
          ...note,
        }));
      case "offload_error":
        return this.#told(id, payload.error, (note) => ({ type: "FAILED", code: codeOf(payload), ...note }));
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
    };
    return { entries: [{ stream: offloadOf(id), event }], secrets, ...(before && { before }) };
  }

  /** The file lies whole under its name before the event says so; a repetition writes the same bytes to the same place. */
  async #receiveFile(id: string, peer: string, payload: PayloadOf<"file_transfer">, messageId: string): Promise<Draft> {
    const bytes = Buffer.from(payload.file_data, "base64");
    const sha256 = createHash("sha256").update(bytes).digest("hex");
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
    if (problem !== undefined) {
      this.#core.note(`A result file of offload ${id} is broken: ${problem}.`);
      return answer(false, problem);
    }
    const taken = new Set((await this.view(id)).files.map(({ name }) => name));
    const name = freeName(safeName(payload.file_name), taken);
    let path: string;
    try {
      path = await saveFile(joinPath(this.#folder, id), name, bytes);
    } catch (error) {
      const reason = `${name} could not be saved: ${error instanceof Error ? error.message : String(error)}`;
      return this.#told(id, reason, (note) => ({ type: "FAILED", code: "store_io", ...note }));
    }
    const { body, secrets, before } = this.#core.bodies.seal(offloadOf(id), JSON.stringify({ name, path }));
    const event: Event = { type: "FILE_SAVED", body, size: bytes.length, sha256 };
    return join({ entries: [{ stream: offloadOf(id), event }], secrets, ...(before && { before }) }, answer(true));
  }
}

/** The refusal's code: its own, or what its words say (older clusters have no codes). */
function codeOf(payload: PayloadOf<"offload_error">): ErrorCode {
  if (isErrorCode(payload.code)) return payload.code;
  const text = payload.error.toLowerCase();
  if (text.includes("slot")) return "no_free_slot";
  if (text.includes("capabilit")) return "capability_missing";
  if (text.includes("budget")) return "budget_exhausted";
  if (text.includes("expired")) return "token_expired";
  return "cluster_refused";
}

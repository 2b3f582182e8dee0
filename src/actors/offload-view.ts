import { join as joinPath } from "node:path";
import { z } from "zod";
import { MeshError } from "../errors.ts";
import type { Body } from "../machines/definition.ts";
import type { OffloadContext } from "../machines/offload/events.ts";
import { FORGOTTEN } from "./bodies.ts";
import type { Core } from "./core.ts";
import type { SavedFile } from "./files.ts";
import type { ActorState } from "./state.ts";

// What is shown of an offload.

export const offloadOf = (id: string): string => `offload/${id}`;

/** What the sealed body of a request says. */
export const Request = z.object({
  task: z.string(),
  files: z.array(
    z.object({
      name: z.string(),
      path: z.string(),
      size: z.number(),
      sha256: z.string(),
      pieces: z.string().default(""),
    }),
  ),
});
/** What was asked for. @throws MeshError when its words are gone */
export async function requestOf({ system, bodies }: Core, id: string): Promise<z.infer<typeof Request>> {
  const context: OffloadContext | undefined = system.state(offloadOf(id))?.snapshot.context;
  if (!context?.request) throw new Error(`offload ${id} has no request`);
  return Request.parse(JSON.parse(await bodies.open(offloadOf(id), context.request)));
}

const Place = z.object({ name: z.string(), path: z.string() });

export type OffloadStatus = "pending" | "running" | "done" | "error" | "cancelled" | "lost";

/** An offload as tools and command lines show it. */
export interface OffloadView {
  readonly offload_id: string;
  readonly status: OffloadStatus;
  readonly phase: string;
  /** Its place in the queue, from 1; null when it is not in it. */
  readonly position: number | null;
  /** Of a cancelled one whether the cluster said so; null where it need not. */
  readonly confirmed: boolean | null;
  readonly progress: {
    readonly stage: string | null;
    readonly pct: number | null;
    readonly message: string | null;
    /** Of the files that are on their way, to the sandbox or from it; null when none are. */
    readonly bytes: number | null;
    readonly bytes_total: number | null;
  };
  readonly summary: string | null;
  readonly files: readonly SavedFile[];
  /** How many result files the sandbox of a finished offload named that did not come. */
  readonly files_missing: number;
  /** What the task printed. */
  readonly log: SavedFile | null;
  /** How the task's process ended; null when that is not known, or a signal ended it. */
  readonly exit: number | null;
  /** Tokens of a language model, where the runner told them. */
  readonly tokens: { readonly prompt: number; readonly completion: number } | null;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly task: string | null;
  readonly sandbox: string | null;
  readonly requested_at: string;
  readonly ended_at: string | null;
  readonly duration_seconds: number | null;
  readonly folder: string;
}

/** The offloads that wait for a slot, by their ids, the one that is first before the others. */
export function queueOf(states: Iterable<ActorState>): string[] {
  const queued = [...states].filter(({ snapshot }) => snapshot.matches("queued"));
  const contexts = queued.map(({ snapshot }): OffloadContext => snapshot.context);
  return contexts.sort((a, b) => a.requestedAt - b.requestedAt).map(({ id }) => id);
}

const PENDING: ReadonlySet<string> = new Set(["new", "queued", "requested", "accepted", "spawning", "ready"]);

/** Steps that a deployed cluster needs, as what they are for whoever asked. */
const SHOWN: Readonly<Record<string, string>> = {
  expecting: "ready",
  probing: "ready",
  ponged: "ready",
  delivering: "uploading",
};

export const phaseOf = ({ snapshot }: ActorState): string => {
  const { value } = snapshot;
  const inner = typeof value === "string" ? value : (value.active ?? value);
  const phase = typeof inner === "string" ? inner : String(Object.keys(inner)[0]);
  return SHOWN[phase] ?? phase;
};

/** In which phases files are on their way, and which way. */
const MOVES: Readonly<Record<string, string>> = { uploading: "up", running: "down", returning: "down" };

export function statusOf(phase: string): OffloadStatus {
  if (phase === "done" || phase === "error" || phase === "cancelled" || phase === "lost") return phase;
  return PENDING.has(phase) ? "pending" : "running";
}
export const isOver = (status: OffloadStatus): boolean => status !== "pending" && status !== "running";

/** Stands in place of the last word of a cluster that said nothing of a cancellation. */
const UNCONFIRMED = "The cluster was told to end it and has not confirmed that: its sandbox may go on for a while.";

/** What is said about result files that a sandbox named and that did not come; undefined when there are none. */
export function missingFiles({ files, files_missing: missing }: OffloadView): string | undefined {
  if (missing === 0) return undefined;
  const named = files.length + missing;
  return `The sandbox named ${named} result files, and ${files.length} came. Ask for one archive of them if you need the others.`;
}

/** An offload as it stands. @param folder where result files lie @throws MeshError `offload_unknown` */
export async function viewOffload(core: Core, folder: string, id: string): Promise<OffloadView> {
  const state = core.system.state(offloadOf(id));
  if (!state) throw new MeshError("offload_unknown", `${id}.`);
  const context: OffloadContext = state.snapshot.context;
  const scope = offloadOf(id);
  const isForgotten = context.request === null && context.controller !== "";
  const peek = async (body: Body | null) => (body ? core.bodies.peek(scope, body) : null);
  const phase = phaseOf(state);
  const status = statusOf(phase);
  const request = await peek(context.request);
  const note = await peek(context.note);
  const moved = context.moved?.way === MOVES[phase] ? context.moved : null;
  const savedAs = async ({ body, size, sha256 }: OffloadContext["results"][number]): Promise<SavedFile> => {
    const saved = await peek(body);
    return { ...(saved === null ? { name: "", path: "" } : Place.parse(JSON.parse(saved))), size, sha256 };
  };
  const files = await Promise.all(context.results.map(savedAs));
  return {
    offload_id: id,
    status,
    phase,
    position:
      phase === "queued" ? queueOf(core.system.streams("offload").map(([, each]) => each)).indexOf(id) + 1 : null,
    confirmed: context.confirmed,
    progress: {
      stage: context.stage,
      pct: status === "done" ? 100 : context.pct,
      message: context.confirmed === false ? UNCONFIRMED : note,
      bytes: moved?.bytes ?? null,
      bytes_total: moved?.total ?? null,
    },
    summary: isForgotten && status === "done" ? FORGOTTEN : await peek(context.summary),
    files,
    files_missing: status === "done" ? Math.max(0, context.outputs - context.results.length) : 0,
    log: context.log && (await savedAs(context.log)),
    exit: context.exit,
    tokens: context.tokens,
    error: errorOf(status, context, note),
    task: isForgotten ? FORGOTTEN : request === null ? null : Request.parse(JSON.parse(request)).task,
    sandbox: context.sandbox.name,
    requested_at: new Date(context.requestedAt).toISOString(),
    ended_at: context.endedAt === null ? null : new Date(context.endedAt).toISOString(),
    duration_seconds: context.durationSeconds,
    folder: joinPath(folder, id),
  };
}

function errorOf(status: OffloadStatus, context: OffloadContext, note: string | null): OffloadView["error"] {
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

import { z } from "zod";
import { ERROR_CODES, type ErrorCode } from "../../errors.ts";
import { FILES_MAX, OFFLOAD_TIMEOUT_MINUTES_MAX, OUTPUTS_MAX } from "../../limits.ts";
import { Did } from "../../wire/text.ts";
import { Body, Resumed, type Timed } from "../definition.ts";

/** The words that go with an event (a progress line, a reason), sealed. */
const note = Body.optional();

/** How the task's process ended; null when a signal ended it, absent when that is not known. */
const exit = z.int().nullable().optional();

export const OffloadEventSchema = z.discriminatedUnion("type", [
  /** What is to be done, with which files: task, file names and paths are in the sealed body. */
  z.object({
    type: z.literal("REQUESTED"),
    controller: Did,
    target: z.object({ name: z.string().max(64).optional(), capability: z.string().max(64).optional() }),
    timeout_minutes: z.number().positive().max(OFFLOAD_TIMEOUT_MINUTES_MAX),
    body: Body,
    files: z.int().min(0).max(FILES_MAX),
    bytes: z.int().min(0),
    /** As many run as the grant has slots, or others wait already: it takes its place behind them. */
    queued: z.literal(true).optional(),
    /** The cluster is a deployed one: its controller speaks plaintext, and names sandboxes without their DIDs. */
    plain: z.literal(true).optional(),
  }),
  /** It is the first in the queue, and there is a slot. */
  z.object({ type: z.literal("TURN") }),
  /** The request is on its way to the controller. */
  z.object({ type: z.literal("ASKED") }),
  /** The controller says how far it is. `ready` names the sandbox. */
  z.object({
    type: z.literal("STATUS"),
    phase: z.enum(["validating", "spawning", "scheduled", "ready"]),
    sandbox: z.string().max(200).nullable(),
    sandbox_did: Did.nullable(),
    note,
  }),
  /** The sandbox is up and names itself. `awaits_task`: it wants the files and the task from us. */
  z.object({ type: z.literal("GREETED"), did: Did, awaits_task: z.boolean(), note }),
  /** An agent that carries the sandbox's name answered a ping. */
  z.object({ type: z.literal("PONGED"), did: Did }),
  /** Files and task are offered to the sandbox, which pulls the files and begins when it has them. */
  z.object({ type: z.literal("OFFERED") }),
  /** How much of the files is on the other side: of those that it was offered (`up`), or of the results (`down`). */
  z.object({
    type: z.literal("TRANSFERRED"),
    way: z.enum(["up", "down"]),
    bytes: z.int().min(0),
    total: z.int().min(0),
  }),
  /** Files and task are sent to a sandbox that does not pull. */
  z.object({ type: z.literal("UPLOADED") }),
  z.object({ type: z.literal("STARTED") }),
  z.object({ type: z.literal("PROGRESSED"), stage: z.string().max(64).nullable(), pct: z.number().nullable(), note }),
  /** A result file lies under its name, whole. Name and path are in the sealed body. */
  z.object({ type: z.literal("FILE_SAVED"), body: Body, size: z.int(), sha256: z.string().length(64) }),
  /** What the task printed lies in a file of its own. */
  z.object({ type: z.literal("LOG_SAVED"), body: Body, size: z.int(), sha256: z.string().length(64) }),
  /** The sandbox is done; the summary is in the sealed body. */
  z.object({
    type: z.literal("FINISHED"),
    body: Body,
    outputs: z.int().min(0).max(OUTPUTS_MAX),
    tokens: z.object({ prompt: z.number(), completion: z.number() }).nullable(),
    duration_seconds: z.number().nullable(),
    exit,
  }),
  z.object({ type: z.literal("FAILED"), code: z.enum(ERROR_CODES), exit, note }),
  z.object({ type: z.literal("CANCEL") }),
  /** The cluster confirmed the cancellation. */
  z.object({ type: z.literal("CANCELLED") }),
  /** Its words are destroyed, here. What it was, when, and how it ended stays. */
  z.object({ type: z.literal("FORGOTTEN") }),
  /** The cluster was told that this is over. */
  z.object({ type: z.literal("CLEANED_UP") }),
  Resumed,
]);
export type UntimedOffloadEvent = z.infer<typeof OffloadEventSchema>;
export type OffloadEvent = Timed<UntimedOffloadEvent>;

export interface OffloadContext {
  readonly id: string;
  readonly controller: string;
  readonly target: { readonly name?: string | undefined; readonly capability?: string | undefined };
  /** Null before it was requested, and when its words were forgotten. */
  readonly request: Body | null;
  readonly timeoutMinutes: number;
  readonly requestedAt: number;
  readonly endedAt: number | null;
  readonly sandbox: { readonly name: string | null; readonly did: string | null };
  /** The finest name that the cluster or the sandbox gave to what is going on. */
  readonly stage: string | null;
  readonly pct: number | null;
  readonly note: Body | null;
  readonly files: { readonly count: number; readonly bytes: number };
  /** How far files are that move, or moved last. */
  readonly moved: { readonly way: "up" | "down"; readonly bytes: number; readonly total: number } | null;
  readonly results: readonly { readonly body: Body | null; readonly size: number; readonly sha256: string }[];
  readonly log: { readonly body: Body | null; readonly size: number; readonly sha256: string } | null;
  readonly exit: number | null;
  readonly summary: Body | null;
  readonly outputs: number;
  readonly tokens: { readonly prompt: number; readonly completion: number } | null;
  readonly durationSeconds: number | null;
  readonly failure: ErrorCode | null;
  readonly lastHeard: number | null;
  readonly cleanedUp: boolean;
  /** The cluster is a deployed one. */
  readonly plain: boolean;
  /** When its controller called the sandbox ready; null before that, and of other clusters. */
  readonly readyAt: number | null;
  /** Agents that carry the sandbox's name and answered a ping. */
  readonly ponged: readonly string[];
  /** Whether the task goes with the files: to a sandbox that did not say hello. */
  readonly handsTask: boolean;
  /** Whether the cluster said that a cancelled offload is cancelled; null where nobody had to. */
  readonly confirmed: boolean | null;
  /** How often the cluster had no slot for it, of those that we thought free. */
  readonly refusals: number;
}

/** An offload before anything was asked. */
export const unasked = (id: string): OffloadContext => ({
  id,
  controller: "",
  target: {},
  request: null,
  timeoutMinutes: 0,
  requestedAt: 0,
  endedAt: null,
  sandbox: { name: null, did: null },
  stage: null,
  pct: null,
  note: null,
  files: { count: 0, bytes: 0 },
  moved: null,
  results: [],
  log: null,
  exit: null,
  summary: null,
  outputs: 0,
  tokens: null,
  durationSeconds: null,
  failure: null,
  lastHeard: null,
  cleanedUp: false,
  plain: false,
  readyAt: null,
  ponged: [],
  handsTask: false,
  confirmed: null,
  refusals: 0,
});

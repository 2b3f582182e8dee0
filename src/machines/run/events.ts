import { z } from "zod";
import { ERROR_CODES, type ErrorCode } from "../../errors.ts";
import { TASK_SIZE_MAX } from "../../limits.ts";
import { Capabilities, Did, Id, Name } from "../../wire/text.ts";
import { Resumed, type Timed } from "../definition.ts";

const REASONS = ["done", "error", "cancelled", "discovery_timeout", "revoked"] as const;
/** How a run ended: as its laptop or its grant wanted it, or by itself. */
const OUTCOMES = [...REASONS, "failed"] as const;
export type Outcome = (typeof OUTCOMES)[number];

export const RunEventSchema = z.discriminatedUnion("type", [
  /** A laptop's request was granted a slot. */
  z.object({
    type: z.literal("REQUESTED"),
    request: Id,
    grant: Name,
    laptop: Did,
    sandbox: Name,
    capabilities: Capabilities,
    timeout_minutes: z.number().positive(),
    /** What was asked for, and how much: the sandbox runs this task and no other. */
    task_sha256: z.string().length(64).optional(),
    task_size: z.int().min(0).optional(),
    files: z.int().min(0).optional(),
    bytes: z.int().min(0).optional(),
    /** It goes to the sandbox that stands under that name, in place of a fresh one. */
    standing: z.literal(true).optional(),
    /** The words themselves, in the open, where the operator has them recorded. */
    task: z.string().max(TASK_SIZE_MAX).optional(),
  }),
  /** The sandbox's process runs; without a pid where it is none of this machine. */
  z.object({ type: z.literal("SPAWNED"), pid: z.int().nullable() }),
  /** What its start waits for, or how far it is. */
  z.object({
    type: z.literal("STARTING"),
    phase: z.enum(["spawning", "scheduled"]),
    words: z.string().min(1).max(1000),
  }),
  /** The sandbox is on the mesh under this DID. */
  z.object({ type: z.literal("READY"), did: Did }),
  /** The sandbox has the task with so many files, and begins. */
  z.object({ type: z.literal("BEGUN"), files: z.int().min(0), bytes: z.int().min(0) }),
  /** So many tokens of a language model were used until now. */
  z.object({ type: z.literal("USED"), tokens: z.int().min(0) }),
  /** What ran has ended: with an exit code if it was a program, with an error of ours if the cluster ended or refused it. */
  z.object({
    type: z.literal("FINISHED"),
    ok: z.boolean(),
    exit: z.int().nullable(),
    code: z.enum(ERROR_CODES).nullable(),
    reason: z.string().max(1000).nullable(),
  }),
  /** The laptop has what it wanted, or wants no more. */
  z.object({ type: z.literal("STOP"), reason: z.enum(REASONS) }),
  /** The sandbox's process ended. */
  z.object({ type: z.literal("EXITED"), code: z.int().nullable(), tokens: z.int().min(0) }),
  z.object({ type: z.literal("FAILED"), code: z.enum(ERROR_CODES), detail: z.string().max(1000) }),
  /** Slot, laptop and leftovers are dealt with. What it came to is told with it. */
  z.object({
    type: z.literal("SETTLED"),
    outcome: z.enum(OUTCOMES).optional(),
    code: z.enum(ERROR_CODES).nullable().optional(),
    reason: z.string().max(1000).nullable().optional(),
    exit: z.int().nullable().optional(),
    tokens: z.int().min(0).optional(),
    duration_ms: z.number().min(0).optional(),
  }),
  Resumed,
]);
export type RunEvent = Timed<z.infer<typeof RunEventSchema>>;

export interface RunContext {
  readonly id: string;
  readonly request: string;
  readonly grant: string;
  readonly laptop: string;
  readonly sandbox: string;
  readonly capabilities: readonly string[];
  readonly timeoutMinutes: number;
  readonly taskHash: string | null;
  /** The sandbox was there before, and stays. */
  readonly standing?: true;
  readonly did: string | null;
  readonly pid: number | null;
  /** What its start waited for last. */
  readonly waits?: string;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly reason: (typeof REASONS)[number] | null;
  readonly begun: boolean;
  /** Tokens used until now. */
  readonly tokens: number;
  readonly result: {
    readonly ok: boolean;
    readonly exit: number | null;
    readonly code: ErrorCode | null;
    readonly reason: string | null;
  } | null;
  readonly failure: { readonly code: ErrorCode; readonly detail: string } | null;
  readonly settled: boolean;
}

import { z } from "zod";
import { ERROR_CODES, type ErrorCode } from "../../errors.ts";
import { Capabilities, Did, Id, Name } from "../../wire/text.ts";
import { Resumed, type Timed } from "../definition.ts";

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
  /** The laptop has what it wanted, or wants no more. */
  z.object({ type: z.literal("STOP"), reason: z.enum(["done", "error", "cancelled", "discovery_timeout", "revoked"]) }),
  /** The sandbox's process ended. */
  z.object({ type: z.literal("EXITED"), code: z.int().nullable(), tokens: z.int().min(0) }),
  z.object({ type: z.literal("FAILED"), code: z.enum(ERROR_CODES), detail: z.string().max(1000) }),
  /** Slot, laptop and leftovers are dealt with. */
  z.object({ type: z.literal("SETTLED") }),
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
  readonly did: string | null;
  readonly pid: number | null;
  /** What its start waited for last. */
  readonly waits?: string;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly reason: string | null;
  readonly failure: { readonly code: ErrorCode; readonly detail: string } | null;
  readonly settled: boolean;
}

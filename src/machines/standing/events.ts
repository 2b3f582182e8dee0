import { z } from "zod";
import { Capabilities, Did } from "../../wire/text.ts";
import { Resumed, type Timed } from "../definition.ts";

export const StandingEventSchema = z.discriminatedUnion("type", [
  /** The operator wants it to run, with these capabilities. */
  z.object({ type: z.literal("OPENED"), capabilities: Capabilities }),
  /** Its process runs. */
  z.object({ type: z.literal("SPAWNED"), pid: z.int().nullable() }),
  /** It is on the mesh under this DID. */
  z.object({ type: z.literal("READY"), did: Did }),
  /** Its process ended, or could not be started, and why. */
  z.object({ type: z.literal("EXITED"), detail: z.string().max(1000) }),
  /** The operator wants it no more. */
  z.object({ type: z.literal("CLOSED") }),
  /** Its process has ended and nothing of it is left. */
  z.object({ type: z.literal("REMOVED") }),
  Resumed,
]);
export type StandingEvent = Timed<z.infer<typeof StandingEventSchema>>;

export interface StandingContext {
  readonly name: string;
  readonly capabilities: readonly string[];
  readonly openedAt: number;
  /** It keeps its identity for as long as it stands. */
  readonly did: string | null;
  readonly pid: number | null;
  /** How often its process has ended since it was last on the mesh, and why it did last. */
  readonly failures: number;
  readonly detail: string | null;
}

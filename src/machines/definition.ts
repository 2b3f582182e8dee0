import type { AnyStateMachine } from "xstate";
import { z } from "zod";

// What the actor system needs to know of a machine.

/** An event at rest. */
export interface AnyEvent {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** The event of one version as the next version says it. Pure, and defined for every event that was ever written. */
export type Upcast = (event: AnyEvent) => AnyEvent;

export interface MachineDefinition {
  /** The first part of the names of its streams: `<kind>/<id>`. */
  readonly kind: string;
  /** Raised when snapshots of an older version can no longer be restored. */
  readonly version: number;
  readonly machine: AnyStateMachine;
  /** What may be sent to it; parsed before it is decided. */
  readonly events: z.ZodType<{ readonly type: string }>;
  /**
   * `upcasts[n - 1]` brings events of version n to version n + 1; what is written now has the version behind the last. They
   * meet deadlines (`@timer`) too, since a state that is renamed renames its deadlines. Absent: nothing ever changed.
   */
  readonly upcasts?: readonly Upcast[];
  /** A live machine's events are not kept: it starts anew with the process. */
  readonly live?: boolean;
}

/** Every event reaches its machine with the time of its commit, in epoch milliseconds. */
export type Timed<E> = E & { readonly at: number };

/** Sent to every actor after a restart, and when the link comes up: whatever is pending is asked for again. It changes no state. */
export const Resumed = z.object({ type: z.literal("RESUMED") });

/** An action that the machine only asks for: the actor system performs it once the commit is durable. */
export const effect =
  <Params>() =>
  (_: unknown, __: Params): void =>
    undefined;

/** Words at rest: sealed under their conversation's content key, in the line itself or in a blob file. */
export const Body = z.union([z.object({ sealed: z.string() }), z.object({ blob: z.string(), size: z.int() })]);
export type Body = z.infer<typeof Body>;

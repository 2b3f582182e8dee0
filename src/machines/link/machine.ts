import { assign, setup } from "xstate";
import { z } from "zod";
import {
  HEARTBEAT_MS,
  LINK_BACKOFF_MAX_MS,
  LINK_BACKOFF_MIN_MS,
  LINK_OPEN_TIMEOUT_MS,
  LINK_RESTART_MAX_MS,
} from "../../limits.ts";
import { CLOSE } from "../../wire/frame.ts";
import { effect, type MachineDefinition, Resumed, type Timed } from "../definition.ts";

// The connection to the relay. Live only: it starts anew with the process, and is inspected but not journaled.
//
//   down ──CONNECT──▶ connecting ──OPENED──▶ online ──CLOSED──▶ waiting ── after the backoff ──▶ connecting
//                                            CLOSED with 4005, 4006 ──▶ refused: no further attempt by itself

export const LinkEventSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("CONNECT"), url: z.string().max(500) }),
  z.object({ type: z.literal("OPENED"), extensions: z.array(z.string().max(32)).max(16), pending: z.int() }),
  /** What waited at the relay has come. */
  z.object({ type: z.literal("CAUGHT_UP") }),
  z.object({
    type: z.literal("CLOSED"),
    code: z.int(),
    reason: z.string().max(200),
    /** The relay will say the same again: another holder of this identity, or a proof that it refuses. */
    final: z.boolean(),
    /** 0 to 1, for the jitter. */
    chance: z.number(),
  }),
  z.object({ type: z.literal("DISCONNECT") }),
  Resumed,
]);
export type LinkEvent = Timed<z.infer<typeof LinkEventSchema>>;

export interface LinkContext {
  readonly url: string;
  readonly extensions: readonly string[];
  readonly attempts: number;
  readonly chance: number;
  readonly closed: { readonly code: number; readonly reason: string } | null;
  readonly since: number | null;
  /** Whether all that waited at the relay when the link came up has come. */
  readonly caughtUp: boolean;
}

/** The relay said that it goes away for a moment, or that another one takes over: it is worth coming again soon. */
const RESTARTS: ReadonlySet<number> = new Set([CLOSE.restart, CLOSE.tryLater]);
const longestWait = ({ closed }: LinkContext) =>
  closed && RESTARTS.has(closed.code) ? LINK_RESTART_MAX_MS : LINK_BACKOFF_MAX_MS;

const link = setup({
  types: { context: {} as LinkContext, events: {} as LinkEvent, input: {} as { id: string } },
  actions: {
    /** Open the socket and prove possession: OPENED or CLOSED. */
    open: effect<{ url: string }>(),
    close: effect<Record<never, never>>(),
    heartbeat: effect<Record<never, never>>(),
    /** What waits is put on the wire. */
    resume: effect<Record<never, never>>(),
    noteFinal: assign(({ event }) =>
      event.type === "CLOSED"
        ? { closed: { code: event.code, reason: event.reason }, since: null, caughtUp: false }
        : {},
    ),
    noteClose: assign(({ context, event }) =>
      event.type === "CLOSED"
        ? {
            closed: { code: event.code, reason: event.reason },
            chance: event.chance,
            attempts: context.attempts + 1,
            since: null,
            caughtUp: false,
          }
        : {},
    ),
  },
  guards: { isFinal: ({ event }) => event.type === "CLOSED" && event.final },
  delays: {
    heartbeat: HEARTBEAT_MS,
    open: LINK_OPEN_TIMEOUT_MS,
    // Half fixed, half by chance, so that many clients of one relay do not return at the same moment.
    backoff: ({ context }) =>
      Math.min(longestWait(context), LINK_BACKOFF_MIN_MS * 2 ** Math.min(context.attempts, 16)) *
      (0.5 + context.chance / 2),
  },
}).createMachine({
  id: "link",
  context: () => ({ url: "", extensions: [], attempts: 0, chance: 0, closed: null, since: null, caughtUp: false }),
  initial: "down",
  on: {
    DISCONNECT: {
      target: ".down",
      actions: [{ type: "close", params: {} }, assign({ since: null, caughtUp: false })],
    },
  },
  states: {
    down: {
      on: { CONNECT: { target: "connecting", actions: assign(({ event }) => ({ url: event.url, attempts: 0 })) } },
    },
    connecting: {
      entry: { type: "open", params: ({ context }) => ({ url: context.url }) },
      on: {
        OPENED: {
          target: "online",
          actions: assign(({ event }) => ({
            extensions: event.extensions,
            attempts: 0,
            closed: null,
            since: event.at,
            caughtUp: event.pending === 0,
          })),
        },
        CLOSED: [
          {
            guard: "isFinal",
            target: "refused",
            actions: "noteFinal",
          },
          { target: "waiting", actions: "noteClose" },
        ],
      },
      after: {
        open: {
          target: "waiting",
          actions: [{ type: "close", params: {} }, assign(({ context }) => ({ attempts: context.attempts + 1 }))],
        },
      },
    },
    online: {
      initial: "quiet",
      entry: { type: "resume", params: {} },
      on: {
        CAUGHT_UP: { actions: assign({ caughtUp: true }) },
        CLOSED: [
          {
            guard: "isFinal",
            target: "refused",
            actions: "noteFinal",
          },
          { target: "waiting", actions: "noteClose" },
        ],
      },
      states: {
        quiet: { after: { heartbeat: { target: "quiet", reenter: true, actions: { type: "heartbeat", params: {} } } } },
      },
    },
    waiting: {
      on: { CONNECT: { target: "connecting", actions: assign(({ event }) => ({ url: event.url })) } },
      after: { backoff: "connecting" },
    },
    refused: {
      on: { CONNECT: { target: "connecting", actions: assign(({ event }) => ({ url: event.url, attempts: 0 })) } },
    },
  },
});

export const linkDefinition: MachineDefinition = {
  kind: "link",
  version: 1,
  machine: link,
  events: LinkEventSchema,
  live: true,
};

import { assign, setup } from "xstate";
import { effect, type MachineDefinition } from "../definition.ts";
import { type StandingContext, type StandingEvent, StandingEventSchema } from "./events.ts";
import { STANDING_RETRY_MAX_MS, STANDING_RETRY_MIN_MS } from "./limits.ts";

// A sandbox that the operator keeps running, under its name.
//
//   gone ──OPENED──▶ open.starting ──READY──▶ open.ready ──CLOSED──▶ closing ──REMOVED──▶ gone
//                        ▲    │ EXITED            │ EXITED, or the cluster was started again
//                        └─ resting ◀─────────────┘

const nothing = (name: string): StandingContext => ({
  name,
  capabilities: [],
  openedAt: 0,
  did: null,
  pid: null,
  failures: 0,
  detail: null,
});
const ofThis = ({ context: { name } }: { context: StandingContext }) => ({ name });

const standing = setup({
  types: { context: {} as StandingContext, events: {} as StandingEvent, input: {} as { id: string } },
  actions: {
    /** Start its process: SPAWNED, then READY; EXITED when it ends or cannot be started. */
    start: effect<{ name: string }>(),
    /** End its process and remove what it has: REMOVED. */
    remove: effect<{ name: string }>(),
    fall: assign(({ context, event }) =>
      event.type === "EXITED" ? { pid: null, failures: context.failures + 1, detail: event.detail } : {},
    ),
  },
  delays: {
    rest: ({ context }) =>
      Math.min(STANDING_RETRY_MAX_MS, STANDING_RETRY_MIN_MS * 2 ** Math.min(context.failures - 1, 16)),
  },
}).createMachine({
  id: "standing",
  context: ({ input }) => nothing(input.id),
  initial: "gone",
  states: {
    gone: {
      on: {
        OPENED: {
          target: "open",
          actions: assign(({ context, event }) => ({
            ...nothing(context.name),
            capabilities: event.capabilities,
            openedAt: event.at,
          })),
        },
      },
    },
    open: {
      initial: "starting",
      on: {
        SPAWNED: { actions: assign(({ event }) => ({ pid: event.pid })) },
        READY: {
          target: ".ready",
          actions: assign(({ event }) => ({ did: event.did, failures: 0, detail: null })),
        },
        CLOSED: "closing",
      },
      states: {
        starting: {
          entry: { type: "start", params: ofThis },
          on: {
            EXITED: { target: "resting", actions: "fall" },
            RESUMED: { actions: { type: "start", params: ofThis } },
          },
        },
        ready: {
          on: {
            EXITED: { target: "resting", actions: "fall" },
            RESUMED: { actions: { type: "start", params: ofThis } },
          },
        },
        resting: { after: { rest: "starting" } },
      },
    },
    closing: {
      entry: { type: "remove", params: ofThis },
      on: {
        REMOVED: { target: "gone", actions: assign(({ context }) => nothing(context.name)) },
        RESUMED: { actions: { type: "remove", params: ofThis } },
      },
    },
  },
});

export const standingDefinition: MachineDefinition = {
  kind: "standing",
  version: 1,
  machine: standing,
  events: StandingEventSchema,
};

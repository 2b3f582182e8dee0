import { assign, setup } from "xstate";
import {
  OFFLOAD_CANCEL_MS,
  OFFLOAD_HELLO_MS,
  OFFLOAD_READY_MS,
  OFFLOAD_STALL_MS,
  SLOT_RETRY_MAX_MS,
  SLOT_RETRY_MIN_MS,
} from "../../limits.ts";
import { effect, type MachineDefinition } from "../definition.ts";
import { type OffloadContext, type OffloadEvent, OffloadEventSchema, unasked } from "./events.ts";
import { guards } from "./guards.ts";
import { PROBE_EVERY_MS, PROBE_GRACE_MS } from "./limits.ts";

// One errand, as the laptop follows it.
//
//   queued: inLine ⇄ full, while there is no slot for it; then
//   active: requested ─▶ accepted ─▶ spawning ─▶ ready ─▶ uploading ─▶ running ─▶ returning
//   and from any of them: done | error | cancelling ─▶ cancelled | lost
//
// Of a deployed cluster, whose controller does not say which agent the sandbox is, and whose older sandboxes do not say hello:
//
//   ready is: expecting ─▶ probing ─▶ ponged ─▶ delivering, and with a hello delivering or running
//
// Every phase has its own deadline for hearing nothing; the whole has the time limit that the request names.

type Reason = "done" | "error" | "cancelled" | "discovery_timeout";
const ofThis = ({ context }: { context: OffloadContext }) => ({ offload: context.id });
const cleanUp = (reason: Reason) =>
  ({
    type: "cleanUp",
    params: ({ context }: { context: OffloadContext }) => ({ offload: context.id, reason }),
  }) as const;
/** Until the cluster was told that it is over. */
const cleaningUp = (reason: Reason) =>
  ({
    CLEANED_UP: { actions: "cleanedUp" },
    RESUMED: { guard: "owesCleanUp", actions: cleanUp(reason) },
  }) as const;
const lost = { target: "#offload.lost", actions: "end" } as const;
const greeted = [
  { guard: "isKnownAndAwaitsTask", target: "uploading", actions: ["hear", "greet"] },
  { guard: "isKnownAndAwaitsFiles", target: "delivering", actions: ["hear", "greet"] },
  { guard: "isKnownSandbox", target: "running", actions: ["hear", "greet"] },
] as const;
const readied = [
  { guard: "isReadyUnnamed", target: "expecting", actions: ["hear", "takeStatus", "readied"] },
  { guard: "isReady", target: "ready", actions: ["hear", "takeStatus"] },
] as const;

type Note = OffloadContext["note"];
const noteOf = (event: OffloadEvent): Note => ("note" in event && event.note ? event.note : null);

const offload = setup({
  types: { context: {} as OffloadContext, events: {} as OffloadEvent, input: {} as { id: string } },
  actions: {
    /** Send the request to the controller: ASKED. */
    request: effect<{ offload: string }>(),
    /** See whose turn it is: TURN, for the first in the queue. */
    queue: effect<Record<string, never>>(),
    /** Hand the files and the task to the sandbox: OFFERED, or UPLOADED where it does not pull. */
    upload: effect<{ offload: string }>(),
    /** Ping every agent that carries the sandbox's name: PONGED of those that answer. */
    probe: effect<{ offload: string }>(),
    /** Send the files, and to a sandbox that did not say hello the task: UPLOADED. */
    deliver: effect<{ offload: string }>(),
    /** Tell the controller, and the sandbox if there is one, that this is over. */
    cleanUp: effect<{ offload: string; reason: Reason }>(),
    hear: assign(({ event }) => ({ lastHeard: event.at, ...(noteOf(event) ? { note: noteOf(event) } : {}) })),
    cleanedUp: assign({ cleanedUp: true }),
    end: assign(({ event }) => ({ endedAt: event.at })),
    take: assign(({ event }) =>
      event.type === "REQUESTED"
        ? {
            controller: event.controller,
            target: event.target,
            timeoutMinutes: event.timeout_minutes,
            request: event.body,
            files: { count: event.files, bytes: event.bytes },
            requestedAt: event.at,
            plain: event.plain === true,
          }
        : {},
    ),
    readied: assign(({ event }) => ({ readyAt: event.at })),
    takePong: assign(({ context, event }) =>
      event.type === "PONGED" ? { ponged: [...context.ponged, event.did] } : {},
    ),
    takePonged: assign(({ context }) => ({
      sandbox: { name: context.sandbox.name, did: context.ponged[0] ?? null },
      handsTask: true,
    })),
    confirm: assign({ confirmed: true }),
    takeAmbiguity: assign(({ event }) => ({ failure: "peer_ambiguous" as const, note: null, endedAt: event.at })),
    refused: assign(({ context }) => ({ refusals: context.refusals + 1 })),
    takeStatus: assign(({ context, event }) =>
      event.type === "STATUS"
        ? {
            stage: event.phase,
            sandbox: { name: event.sandbox ?? context.sandbox.name, did: event.sandbox_did ?? context.sandbox.did },
          }
        : {},
    ),
    takeName: assign(({ context, event }) =>
      event.type === "STATUS" ? { sandbox: { name: event.sandbox, did: context.sandbox.did } } : {},
    ),
    greet: assign(({ context, event }) =>
      event.type === "GREETED" ? { sandbox: { name: context.sandbox.name, did: event.did } } : {},
    ),
    takeProgress: assign(({ context, event }) =>
      event.type === "PROGRESSED" ? { stage: event.stage ?? context.stage, pct: event.pct ?? context.pct } : {},
    ),
    takeTransfer: assign(({ event }) =>
      event.type === "TRANSFERRED" ? { moved: { way: event.way, bytes: event.bytes, total: event.total } } : {},
    ),
    takeFailure: assign(({ event }) =>
      event.type === "FAILED" ? { failure: event.code, exit: event.exit ?? null, endedAt: event.at } : {},
    ),
    takeLog: assign(({ event }) =>
      event.type === "LOG_SAVED" ? { log: { body: event.body, size: event.size, sha256: event.sha256 } } : {},
    ),
    loseWords: assign(({ context }) => ({
      request: null,
      note: null,
      summary: null,
      log: context.log && { ...context.log, body: null },
      results: context.results.map((result) => ({ ...result, body: null })),
    })),
    takeFile: assign(({ context, event }) =>
      event.type === "FILE_SAVED"
        ? { results: [...context.results, { body: event.body, size: event.size, sha256: event.sha256 }] }
        : {},
    ),
  },
  guards,
  delays: {
    ready: OFFLOAD_READY_MS,
    hello: OFFLOAD_HELLO_MS,
    /** What is left of the time for the hello. */
    helloLeft: ({ context, event }) => Math.max(0, (context.readyAt ?? event.at) + OFFLOAD_HELLO_MS - event.at),
    probe: PROBE_EVERY_MS,
    grace: PROBE_GRACE_MS,
    stall: OFFLOAD_STALL_MS,
    cancel: OFFLOAD_CANCEL_MS,
    slot: ({ context }) => Math.min(SLOT_RETRY_MAX_MS, SLOT_RETRY_MIN_MS * 2 ** Math.min(context.refusals - 1, 16)),
    whole: ({ context }) => context.timeoutMinutes * 60_000,
  },
}).createMachine({
  id: "offload",
  context: ({ input }) => unasked(input.id),
  initial: "new",
  states: {
    new: {
      on: {
        REQUESTED: [
          { guard: "isQueued", target: "queued", actions: "take" },
          { target: "active", actions: "take" },
        ],
      },
    },
    queued: {
      initial: "inLine",
      on: {
        TURN: "active",
        // Nobody was asked for anything.
        CANCEL: "cancelled",
        RESUMED: { actions: { type: "queue", params: {} } },
      },
      states: {
        inLine: { entry: { type: "queue", params: {} } },
        full: { after: { slot: "inLine" } },
      },
    },
    active: {
      initial: "requested",
      on: {
        CANCEL: "cancelling",
        FAILED: { target: "error", actions: ["hear", "takeFailure"] },
        FINISHED: {
          target: ".returning",
          actions: [
            "hear",
            assign(({ event }) => ({
              summary: event.body,
              outputs: event.outputs,
              tokens: event.tokens,
              durationSeconds: event.duration_seconds,
              exit: event.exit ?? null,
            })),
          ],
        },
        // A sandbox that stood already says hello before the controller names it.
        STATUS: { guard: "namesSandbox", actions: ["hear", "takeName"] },
        FILE_SAVED: { guard: "isNewFile", actions: ["hear", "takeFile"] },
        PROGRESSED: { actions: ["hear", "takeProgress"] },
        TRANSFERRED: { actions: ["hear", "takeTransfer"] },
        LOG_SAVED: { actions: ["hear", "takeLog"] },
      },
      after: { whole: { target: "lost", actions: "end" } },
      states: {
        requested: {
          entry: { type: "request", params: ofThis },
          on: {
            ASKED: "accepted",
            FAILED: { guard: "isFull", target: "#offload.queued.full", actions: ["hear", "refused"] },
            RESUMED: { actions: { type: "request", params: ofThis } },
          },
        },
        accepted: {
          on: {
            FAILED: { guard: "isFull", target: "#offload.queued.full", actions: ["hear", "refused"] },
            STATUS: [
              ...readied,
              { guard: "isSpawning", target: "spawning", actions: ["hear", "takeStatus"] },
              { actions: ["hear", "takeStatus"] },
            ],
            GREETED: greeted,
          },
          after: { ready: lost },
        },
        spawning: {
          on: {
            STATUS: [...readied, { actions: ["hear", "takeStatus"] }],
            GREETED: greeted,
          },
          after: { ready: lost },
        },
        ready: {
          on: { GREETED: greeted },
          after: { hello: lost },
        },
        expecting: {
          on: { GREETED: greeted },
          after: { probe: "probing" },
        },
        probing: {
          entry: { type: "probe", params: ofThis },
          on: {
            GREETED: greeted,
            PONGED: { guard: "isNewPong", target: "ponged", actions: ["hear", "takePong"] },
            RESUMED: { actions: { type: "probe", params: ofThis } },
          },
          after: { probe: { target: "probing", reenter: true }, helloLeft: lost },
        },
        ponged: {
          on: {
            GREETED: greeted,
            PONGED: { guard: "isNewPong", actions: ["hear", "takePong"] },
          },
          after: {
            grace: [
              { guard: "isAlone", target: "delivering", actions: "takePonged" },
              { target: "#offload.error", actions: "takeAmbiguity" },
            ],
          },
        },
        delivering: {
          entry: { type: "deliver", params: ofThis },
          on: {
            UPLOADED: [{ guard: "handsTask", target: "starting" }, { target: "running" }],
            RESUMED: { actions: { type: "deliver", params: ofThis } },
          },
        },
        uploading: {
          initial: "offering",
          on: { STARTED: { target: "running", actions: "hear" } },
          states: {
            offering: {
              entry: { type: "upload", params: ofThis },
              on: {
                OFFERED: "pulled",
                UPLOADED: "#offload.active.starting",
                RESUMED: { actions: { type: "upload", params: ofThis } },
              },
            },
            pulled: {
              on: { TRANSFERRED: { target: "pulled", reenter: true, actions: ["hear", "takeTransfer"] } },
              after: { stall: lost },
            },
          },
        },
        starting: {
          on: {
            STARTED: { target: "running", actions: "hear" },
            PROGRESSED: { target: "running", actions: ["hear", "takeProgress"] },
          },
          after: { stall: lost },
        },
        running: {
          on: {
            // Any sign of life begins the stall limit anew.
            FILE_SAVED: { guard: "isNewFile", target: "running", reenter: true, actions: ["hear", "takeFile"] },
            PROGRESSED: { target: "running", reenter: true, actions: ["hear", "takeProgress"] },
            TRANSFERRED: { target: "running", reenter: true, actions: ["hear", "takeTransfer"] },
          },
          after: { stall: lost },
        },
        returning: {
          always: { guard: "isComplete", target: "#offload.done" },
          on: {
            FILE_SAVED: { guard: "isNewFile", target: "returning", reenter: true, actions: ["hear", "takeFile"] },
            TRANSFERRED: { target: "returning", reenter: true, actions: ["hear", "takeTransfer"] },
          },
          after: { stall: [{ guard: "isOfDeployed", target: "#offload.done" }, lost] },
        },
      },
    },
    cancelling: {
      entry: cleanUp("cancelled"),
      on: {
        CANCELLED: { target: "cancelled", actions: "confirm" },
        FAILED: { target: "cancelled", actions: "confirm" },
        ...cleaningUp("cancelled"),
      },
      after: { cancel: { target: "cancelled", actions: assign({ confirmed: false }) } },
    },
    done: {
      entry: ["end", cleanUp("done"), { type: "queue", params: {} }],
      on: {
        FORGOTTEN: { actions: "loseWords" },
        ...cleaningUp("done"),
      },
    },
    error: {
      entry: [cleanUp("error"), { type: "queue", params: {} }],
      on: {
        FORGOTTEN: { actions: "loseWords" },
        ...cleaningUp("error"),
      },
    },
    cancelled: { entry: ["end", { type: "queue", params: {} }], on: { FORGOTTEN: { actions: "loseWords" } } },
    lost: {
      entry: [cleanUp("discovery_timeout"), { type: "queue", params: {} }],
      on: {
        FORGOTTEN: { actions: "loseWords" },
        ...cleaningUp("discovery_timeout"),
      },
    },
  },
});

export const offloadDefinition: MachineDefinition = {
  kind: "offload",
  version: 3,
  machine: offload,
  events: OffloadEventSchema,
};

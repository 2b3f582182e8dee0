import { assign, setup } from "xstate";
import {
  FILES_MAX,
  OFFLOAD_CANCEL_MS,
  OFFLOAD_HELLO_MS,
  OFFLOAD_READY_MS,
  OFFLOAD_STALL_MS,
  SLOT_RETRY_MAX_MS,
  SLOT_RETRY_MIN_MS,
} from "../../limits.ts";
import { effect, type MachineDefinition } from "../definition.ts";
import { type OffloadContext, type OffloadEvent, OffloadEventSchema } from "./events.ts";

// One errand, as the laptop follows it.
//
//   queued: inLine ⇄ full, while there is no slot for it; then
//   active: requested ─▶ accepted ─▶ spawning ─▶ ready ─▶ uploading ─▶ running ─▶ returning
//   and from any of them: done | error | cancelling ─▶ cancelled | lost
//
// Every phase has its own deadline for hearing nothing; the whole has the time limit that the request names.

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
    /** Tell the controller, and the sandbox if there is one, that this is over. */
    cleanUp: effect<{ offload: string; reason: "done" | "error" | "cancelled" | "discovery_timeout" }>(),
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
          }
        : {},
    ),
    refused: assign(({ context }) => ({ refusals: context.refusals + 1 })),
    takeStatus: assign(({ context, event }) =>
      event.type === "STATUS"
        ? {
            stage: event.phase,
            sandbox: { name: event.sandbox ?? context.sandbox.name, did: event.sandbox_did ?? context.sandbox.did },
          }
        : {},
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
    takeFailure: assign(({ event }) => (event.type === "FAILED" ? { failure: event.code, endedAt: event.at } : {})),
    loseWords: assign(({ context }) => ({
      request: null,
      note: null,
      summary: null,
      results: context.results.map((result) => ({ ...result, body: null })),
    })),
    takeFile: assign(({ context, event }) =>
      event.type === "FILE_SAVED"
        ? { results: [...context.results, { body: event.body, size: event.size, sha256: event.sha256 }] }
        : {},
    ),
  },
  guards: {
    isKnownSandbox: ({ context, event }) =>
      event.type === "GREETED" && (context.sandbox.did === null || context.sandbox.did === event.did),
    isKnownAndAwaitsTask: ({ context, event }) =>
      event.type === "GREETED" &&
      event.awaits_task &&
      (context.sandbox.did === null || context.sandbox.did === event.did),
    isQueued: ({ event }) => event.type === "REQUESTED" && event.queued === true,
    /** The cluster has no slot, though there should be one: others take some of them, or one that ended is not gone yet. */
    isFull: ({ event }) => event.type === "FAILED" && event.code === "no_free_slot",
    isReady: ({ event }) => event.type === "STATUS" && event.phase === "ready",
    isSpawning: ({ event }) => event.type === "STATUS" && (event.phase === "spawning" || event.phase === "scheduled"),
    isNewFile: ({ context, event }) => event.type === "FILE_SAVED" && context.results.length < FILES_MAX,
    isComplete: ({ context }) => context.results.length >= context.outputs,
    owesCleanUp: ({ context }) => !context.cleanedUp,
  },
  delays: {
    ready: OFFLOAD_READY_MS,
    hello: OFFLOAD_HELLO_MS,
    stall: OFFLOAD_STALL_MS,
    cancel: OFFLOAD_CANCEL_MS,
    slot: ({ context }) => Math.min(SLOT_RETRY_MAX_MS, SLOT_RETRY_MIN_MS * 2 ** Math.min(context.refusals - 1, 16)),
    whole: ({ context }) => context.timeoutMinutes * 60_000,
  },
}).createMachine({
  id: "offload",
  context: ({ input }) => ({
    id: input.id,
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
    summary: null,
    outputs: 0,
    tokens: null,
    durationSeconds: null,
    failure: null,
    lastHeard: null,
    cleanedUp: false,
    refusals: 0,
  }),
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
            })),
          ],
        },
        FILE_SAVED: { guard: "isNewFile", actions: ["hear", "takeFile"] },
        PROGRESSED: { actions: ["hear", "takeProgress"] },
        TRANSFERRED: { actions: ["hear", "takeTransfer"] },
      },
      after: { whole: { target: "lost", actions: "end" } },
      states: {
        requested: {
          entry: { type: "request", params: ({ context }) => ({ offload: context.id }) },
          on: {
            ASKED: "accepted",
            FAILED: { guard: "isFull", target: "#offload.queued.full", actions: ["hear", "refused"] },
            RESUMED: { actions: { type: "request", params: ({ context }) => ({ offload: context.id }) } },
          },
        },
        accepted: {
          on: {
            FAILED: { guard: "isFull", target: "#offload.queued.full", actions: ["hear", "refused"] },
            STATUS: [
              { guard: "isReady", target: "ready", actions: ["hear", "takeStatus"] },
              { guard: "isSpawning", target: "spawning", actions: ["hear", "takeStatus"] },
              { actions: ["hear", "takeStatus"] },
            ],
            GREETED: [
              { guard: "isKnownAndAwaitsTask", target: "uploading", actions: ["hear", "greet"] },
              { guard: "isKnownSandbox", target: "running", actions: ["hear", "greet"] },
            ],
          },
          after: { ready: { target: "#offload.lost", actions: "end" } },
        },
        spawning: {
          on: {
            STATUS: [
              { guard: "isReady", target: "ready", actions: ["hear", "takeStatus"] },
              { actions: ["hear", "takeStatus"] },
            ],
            GREETED: [
              { guard: "isKnownAndAwaitsTask", target: "uploading", actions: ["hear", "greet"] },
              { guard: "isKnownSandbox", target: "running", actions: ["hear", "greet"] },
            ],
          },
          after: { ready: { target: "#offload.lost", actions: "end" } },
        },
        ready: {
          on: {
            GREETED: [
              { guard: "isKnownAndAwaitsTask", target: "uploading", actions: ["hear", "greet"] },
              { guard: "isKnownSandbox", target: "running", actions: ["hear", "greet"] },
            ],
          },
          after: { hello: { target: "#offload.lost", actions: "end" } },
        },
        uploading: {
          initial: "offering",
          on: { STARTED: { target: "running", actions: "hear" } },
          states: {
            offering: {
              entry: { type: "upload", params: ({ context }) => ({ offload: context.id }) },
              on: {
                OFFERED: "pulled",
                UPLOADED: "#offload.active.starting",
                RESUMED: { actions: { type: "upload", params: ({ context }) => ({ offload: context.id }) } },
              },
            },
            pulled: {
              on: { TRANSFERRED: { target: "pulled", reenter: true, actions: ["hear", "takeTransfer"] } },
              after: { stall: { target: "#offload.lost", actions: "end" } },
            },
          },
        },
        starting: {
          on: {
            STARTED: { target: "running", actions: "hear" },
            PROGRESSED: {
              target: "running",
              actions: ["hear", "takeProgress"],
            },
          },
          after: { stall: { target: "#offload.lost", actions: "end" } },
        },
        running: {
          on: {
            // Any sign of life begins the stall limit anew.
            FILE_SAVED: { guard: "isNewFile", target: "running", reenter: true, actions: ["hear", "takeFile"] },
            PROGRESSED: { target: "running", reenter: true, actions: ["hear", "takeProgress"] },
            TRANSFERRED: { target: "running", reenter: true, actions: ["hear", "takeTransfer"] },
          },
          after: { stall: { target: "#offload.lost", actions: "end" } },
        },
        returning: {
          always: { guard: "isComplete", target: "#offload.done" },
          on: {
            FILE_SAVED: { guard: "isNewFile", target: "returning", reenter: true, actions: ["hear", "takeFile"] },
            TRANSFERRED: { target: "returning", reenter: true, actions: ["hear", "takeTransfer"] },
          },
          after: { stall: { target: "#offload.lost", actions: "end" } },
        },
      },
    },
    cancelling: {
      entry: { type: "cleanUp", params: ({ context }) => ({ offload: context.id, reason: "cancelled" }) },
      on: {
        CANCELLED: "cancelled",
        FAILED: "cancelled",
        CLEANED_UP: { actions: "cleanedUp" },
        RESUMED: {
          guard: "owesCleanUp",
          actions: { type: "cleanUp", params: ({ context }) => ({ offload: context.id, reason: "cancelled" }) },
        },
      },
      after: { cancel: "cancelled" },
    },
    done: {
      entry: [
        "end",
        { type: "cleanUp", params: ({ context }) => ({ offload: context.id, reason: "done" }) },
        { type: "queue", params: {} },
      ],
      on: {
        FORGOTTEN: { actions: "loseWords" },
        CLEANED_UP: { actions: "cleanedUp" },
        RESUMED: {
          guard: "owesCleanUp",
          actions: { type: "cleanUp", params: ({ context }) => ({ offload: context.id, reason: "done" }) },
        },
      },
    },
    error: {
      entry: [
        { type: "cleanUp", params: ({ context }) => ({ offload: context.id, reason: "error" }) },
        { type: "queue", params: {} },
      ],
      on: {
        FORGOTTEN: { actions: "loseWords" },
        CLEANED_UP: { actions: "cleanedUp" },
        RESUMED: {
          guard: "owesCleanUp",
          actions: { type: "cleanUp", params: ({ context }) => ({ offload: context.id, reason: "error" }) },
        },
      },
    },
    cancelled: { entry: ["end", { type: "queue", params: {} }], on: { FORGOTTEN: { actions: "loseWords" } } },
    lost: {
      entry: [
        { type: "cleanUp", params: ({ context }) => ({ offload: context.id, reason: "discovery_timeout" }) },
        { type: "queue", params: {} },
      ],
      on: {
        FORGOTTEN: { actions: "loseWords" },
        CLEANED_UP: { actions: "cleanedUp" },
        RESUMED: {
          guard: "owesCleanUp",
          actions: { type: "cleanUp", params: ({ context }) => ({ offload: context.id, reason: "discovery_timeout" }) },
        },
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

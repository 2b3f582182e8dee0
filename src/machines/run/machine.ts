import { assign, setup } from "xstate";
import { OFFLOAD_CANCEL_MS, OFFLOAD_HELLO_MS } from "../../limits.ts";
import { effect, type MachineDefinition } from "../definition.ts";
import { type RunContext, type RunEvent, RunEventSchema } from "./events.ts";

// A sandbox's life, as the controller sees it.
//
//   new ──REQUESTED──▶ alive.spawning ──SPAWNED──▶ alive.booting ──READY──▶ alive.ready ──STOP──▶ stopping ──EXITED──▶ ended
//                        spawning ──READY──▶ alive.ready, where the sandbox stands already
//                        spawning and booting ──STARTING──▶ the same, and the laptop is told what it waits for
//                        any of alive ──EXITED, FAILED, its time is up──▶ failed

const run = setup({
  types: { context: {} as RunContext, events: {} as RunEvent, input: {} as { id: string } },
  actions: {
    /** Start the sandbox's process: SPAWNED, then READY, EXITED when it ends; FAILED when it cannot start. */
    spawn: effect<{ run: string }>(),
    /** Is the process still ours? After a restart it is not: FAILED. */
    reclaim: effect<{ run: string }>(),
    /** Tell the laptop how far it is. */
    tell: effect<{ run: string; phase: "spawning" | "scheduled" | "ready"; words?: string }>(),
    /** End the process: EXITED. */
    stop: effect<{ run: string }>(),
    /** Give the slot back, remove what the sandbox left, tell the laptop of a failure or a done cancellation: SETTLED. */
    settle: effect<{ run: string; ok: boolean }>(),
    fail: assign(({ event }) =>
      event.type === "FAILED"
        ? { failure: { code: event.code, detail: event.detail }, endedAt: event.at }
        : event.type === "EXITED"
          ? {
              failure: {
                code: "cluster_refused" as const,
                detail: `the sandbox ended (exit ${event.code ?? "by signal"})`,
              },
              endedAt: event.at,
            }
          : {},
    ),
    miss: assign(({ context, event }) => ({
      failure: {
        code: "limit_reached" as const,
        detail:
          context.waits === undefined
            ? "the sandbox did not come up in its time"
            : `the sandbox did not come up in its time: ${context.waits}`.slice(0, 1000),
      },
      endedAt: event.at,
    })),
    timeOut: assign(({ context, event }) => ({
      failure: { code: "limit_reached" as const, detail: `its time was up: ${context.timeoutMinutes} minutes` },
      endedAt: event.at,
    })),
    count: assign(({ context, event }) =>
      event.type === "USED" || event.type === "EXITED" ? { tokens: Math.max(context.tokens, event.tokens) } : {},
    ),
  },
  guards: {
    isUnsettled: ({ context }) => !context.settled,
    isCounting: ({ context, event }) =>
      event.type === "USED" && context.grant !== "" && !context.settled && event.tokens > context.tokens,
    isNotBegun: ({ context }) => context.grant !== "" && !context.settled && !context.begun,
    isUnfinished: ({ context }) => context.grant !== "" && !context.settled && context.result === null,
  },
  delays: {
    boot: OFFLOAD_HELLO_MS,
    whole: ({ context }) => context.timeoutMinutes * 60_000,
    kill: OFFLOAD_CANCEL_MS,
  },
}).createMachine({
  id: "run",
  context: ({ input }) => ({
    id: input.id,
    request: "",
    grant: "",
    laptop: "",
    sandbox: "",
    capabilities: [],
    timeoutMinutes: 0,
    did: null,
    pid: null,
    startedAt: 0,
    endedAt: null,
    reason: null,
    begun: false,
    tokens: 0,
    result: null,
    failure: null,
    settled: false,
    taskHash: null,
  }),
  // What the sandbox tells may come late: it counts until the run is settled.
  on: {
    BEGUN: { guard: "isNotBegun", actions: assign({ begun: true }) },
    USED: { guard: "isCounting", actions: "count" },
    FINISHED: {
      guard: "isUnfinished",
      actions: assign(({ event: { ok, exit, code, reason } }) => ({ result: { ok, exit, code, reason } })),
    },
  },
  initial: "new",
  states: {
    new: {
      on: {
        REQUESTED: {
          target: "alive",
          actions: assign(({ event }) => ({
            request: event.request,
            grant: event.grant,
            laptop: event.laptop,
            sandbox: event.sandbox,
            capabilities: event.capabilities,
            timeoutMinutes: event.timeout_minutes,
            taskHash: event.task_sha256 ?? null,
            ...(event.standing && { standing: event.standing }),
            startedAt: event.at,
          })),
        },
      },
    },
    alive: {
      initial: "spawning",
      entry: { type: "tell", params: ({ context }) => ({ run: context.id, phase: "spawning" }) },
      on: {
        STOP: { target: "stopping", actions: assign(({ event }) => ({ reason: event.reason })) },
        EXITED: { target: "failed", actions: ["count", "fail"] },
        FAILED: { target: "failed", actions: "fail" },
      },
      after: {
        whole: {
          target: "failed",
          actions: ["timeOut", { type: "stop", params: ({ context }) => ({ run: context.id }) }],
        },
      },
      states: {
        spawning: {
          entry: { type: "spawn", params: ({ context }) => ({ run: context.id }) },
          on: {
            STARTING: {
              actions: [
                assign(({ event }) => ({ waits: event.words })),
                {
                  type: "tell",
                  params: ({ context, event }) => ({ run: context.id, phase: event.phase, words: event.words }),
                },
              ],
            },
            SPAWNED: { target: "booting", actions: assign(({ event }) => ({ pid: event.pid })) },
            // One that stands is up already.
            READY: { target: "ready", actions: assign(({ event }) => ({ did: event.did })) },
            RESUMED: { actions: { type: "spawn", params: ({ context }) => ({ run: context.id }) } },
          },
        },
        booting: {
          on: {
            STARTING: {
              actions: [
                assign(({ event }) => ({ waits: event.words })),
                {
                  type: "tell",
                  params: ({ context, event }) => ({ run: context.id, phase: event.phase, words: event.words }),
                },
              ],
            },
            READY: { target: "ready", actions: assign(({ event }) => ({ did: event.did })) },
            RESUMED: { actions: { type: "reclaim", params: ({ context }) => ({ run: context.id }) } },
          },
          after: {
            boot: {
              target: "#run.failed",
              actions: ["miss", { type: "stop", params: ({ context }) => ({ run: context.id }) }],
            },
          },
        },
        ready: {
          entry: { type: "tell", params: ({ context }) => ({ run: context.id, phase: "ready" }) },
          on: {
            SPAWNED: { actions: assign(({ event }) => ({ pid: event.pid })) },
            RESUMED: { actions: { type: "reclaim", params: ({ context }) => ({ run: context.id }) } },
          },
        },
      },
    },
    stopping: {
      entry: { type: "stop", params: ({ context }) => ({ run: context.id }) },
      on: {
        EXITED: { target: "ended", actions: "count" },
        FAILED: "ended",
        RESUMED: { actions: { type: "stop", params: ({ context }) => ({ run: context.id }) } },
      },
      after: { kill: "ended" },
    },
    ended: {
      entry: [
        assign(({ event }) => ({ endedAt: event.at })),
        { type: "settle", params: ({ context }) => ({ run: context.id, ok: context.reason === "done" }) },
      ],
      on: {
        SETTLED: { actions: assign({ settled: true }) },
        RESUMED: {
          guard: "isUnsettled",
          actions: { type: "settle", params: ({ context }) => ({ run: context.id, ok: context.reason === "done" }) },
        },
      },
    },
    failed: {
      entry: { type: "settle", params: ({ context }) => ({ run: context.id, ok: false }) },
      on: {
        SETTLED: { actions: assign({ settled: true }) },
        RESUMED: {
          guard: "isUnsettled",
          actions: { type: "settle", params: ({ context }) => ({ run: context.id, ok: false }) },
        },
      },
    },
  },
});

export const runDefinition: MachineDefinition = { kind: "run", version: 1, machine: run, events: RunEventSchema };

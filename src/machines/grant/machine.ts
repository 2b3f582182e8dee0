import { assign, setup } from "xstate";
import type { MachineDefinition } from "../definition.ts";
import { type GrantContext, type GrantEvent, GrantEventSchema } from "./events.ts";

// A pairing record: what an operator allows one laptop.
//
//   absent ──ISSUED──▶ pending ──BOUND──▶ active
//                         └── expired | revoked ──┘

const grant = setup({
  types: { context: {} as GrantContext, events: {} as GrantEvent, input: {} as { id: string } },
  actions: {
    freeSlot: assign(({ context, event }) =>
      event.type === "SLOT_FREED"
        ? {
            running: context.running.filter((run) => run !== event.run),
            completed: context.completed + (event.ok ? 1 : 0),
            failed: context.failed + (event.ok ? 0 : 1),
            tokensUsed: context.tokensUsed + event.tokens,
          }
        : {},
    ),
  },
  guards: {
    hasSlot: ({ context, event }) =>
      event.type === "SLOT_TAKEN" && context.running.length < context.slots && !context.running.includes(event.run),
    isRunning: ({ context, event }) => event.type === "SLOT_FREED" && context.running.includes(event.run),
  },
  delays: { expiry: ({ context }) => Math.max(0, context.expiresAt - context.issuedAt) },
}).createMachine({
  id: "grant",
  context: ({ input }) => ({
    name: input.id,
    tokenHash: "",
    slots: 0,
    capabilities: [],
    expiresAt: 0,
    tokenBudget: null,
    issuedAt: 0,
    did: null,
    displayName: input.id,
    pairedAt: null,
    running: [],
    completed: 0,
    failed: 0,
    tokensUsed: 0,
  }),
  initial: "absent",
  states: {
    absent: {
      on: {
        ISSUED: {
          target: "valid",
          actions: assign(({ event }) => ({
            tokenHash: event.token_hash,
            slots: event.slots,
            capabilities: event.capabilities,
            expiresAt: event.expires_at,
            tokenBudget: event.token_budget,
            issuedAt: event.at,
          })),
        },
      },
    },
    valid: {
      initial: "pending",
      on: {
        REVOKED: "revoked",
        SLOT_FREED: { guard: "isRunning", actions: "freeSlot" },
      },
      after: { expiry: "expired" },
      states: {
        pending: {
          on: {
            BOUND: {
              target: "active",
              actions: assign(({ event }) => ({ did: event.did, displayName: event.name, pairedAt: event.at })),
            },
          },
        },
        active: {
          on: {
            SLOT_TAKEN: {
              guard: "hasSlot",
              actions: assign(({ context, event }) => ({ running: [...context.running, event.run] })),
            },
          },
        },
      },
    },
    expired: { on: { SLOT_FREED: { guard: "isRunning", actions: "freeSlot" } } },
    revoked: { on: { SLOT_FREED: { guard: "isRunning", actions: "freeSlot" } } },
  },
});

export const grantDefinition: MachineDefinition = {
  kind: "grant",
  version: 1,
  machine: grant,
  events: GrantEventSchema,
};

import { assign, setup } from "xstate";
import { effect, type MachineDefinition } from "../definition.ts";
import { type SessionContext, type SessionEvent, SessionEventSchema } from "./events.ts";

// One Double Ratchet session, seen from outside: who opened it with which public keys, how far it has moved. The ratchet's own
// state is a secret and lives elsewhere; every event here is committed together with the secret that it moved.
//
//   fresh ──INITIATED──▶ knocking ──KNOCK_SENT──▶ knocked ──CONFIRMED──▶ established ──CLOSED──▶ closed
//     └────ACCEPTED────▶ answering ──KNOCK_SENT──────────────────────────────▲

const session = setup({
  types: { context: {} as SessionContext, events: {} as SessionEvent, input: {} as { id: string } },
  actions: {
    /** Send the knock: KNOCK_SENT when the relay has it. */
    knock: effect<{ session: string }>(),
    /** Send the knock_accept: KNOCK_SENT when the relay has it. */
    answer: effect<{ session: string }>(),
    agree: assign(({ event }) =>
      event.type === "INITIATED" || event.type === "ACCEPTED"
        ? {
            peer: event.peer,
            role: event.type === "INITIATED" ? ("initiator" as const) : ("responder" as const),
            knock: event.knock,
            ik: event.ik,
            ek: event.ek,
            spk: event.spk,
            otk: event.otk,
            spkKey: event.spk_key ?? null,
            kdf: event.kdf === undefined ? ("current" as const) : event.kdf,
          }
        : {},
    ),
    countEncrypted: assign(({ context }) => ({ encrypted: context.encrypted + 1 })),
    countDecrypted: assign(({ context, event }) =>
      event.type === "DECRYPTED"
        ? {
            decrypted: context.decrypted + 1,
            turns: context.turns + (event.turned ? 1 : 0),
            skipped: context.skipped + event.skipped - (event.late ? 1 : 0),
            lastHeard: event.at,
            kdf: event.kdf ?? context.kdf,
            began: context.began ?? event.header.dh,
          }
        : {},
    ),
  },
}).createMachine({
  id: "session",
  context: ({ input }) => ({
    id: input.id,
    peer: "",
    role: null,
    knock: "",
    ik: "",
    ek: "",
    spk: 0,
    otk: null,
    spkKey: null,
    kdf: null,
    encrypted: 0,
    decrypted: 0,
    turns: 0,
    skipped: 0,
    lastHeard: null,
    began: null,
    closed: null,
  }),
  initial: "fresh",
  states: {
    fresh: {
      on: {
        INITIATED: { target: "open.knocking", actions: "agree" },
        ACCEPTED: { target: "open.answering", actions: "agree" },
      },
    },
    open: {
      initial: "established",
      on: {
        ENCRYPTED: { actions: "countEncrypted" },
        CLOSED: { target: "closed", actions: assign(({ event }) => ({ closed: event.reason })) },
      },
      states: {
        knocking: {
          entry: { type: "knock", params: ({ context }) => ({ session: context.id }) },
          on: {
            KNOCK_SENT: "knocked",
            CONFIRMED: "established",
            DECRYPTED: { target: "established", actions: "countDecrypted" },
            RESUMED: { actions: { type: "knock", params: ({ context }) => ({ session: context.id }) } },
          },
        },
        knocked: {
          on: {
            CONFIRMED: "established",
            DECRYPTED: { target: "established", actions: "countDecrypted" },
          },
        },
        answering: {
          entry: { type: "answer", params: ({ context }) => ({ session: context.id }) },
          on: {
            KNOCK_SENT: "established",
            DECRYPTED: { actions: "countDecrypted" },
            RESUMED: { actions: { type: "answer", params: ({ context }) => ({ session: context.id }) } },
          },
        },
        established: {
          on: { DECRYPTED: { actions: "countDecrypted" } },
        },
      },
    },
    closed: {},
  },
});

export const sessionDefinition: MachineDefinition = {
  kind: "session",
  version: 3,
  machine: session,
  events: SessionEventSchema,
};

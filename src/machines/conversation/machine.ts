import { assign, enqueueActions, setup } from "xstate";
import { RECEIPT_IDS, RETRY_MAX_MS, RETRY_MIN_MS } from "../../limits.ts";
import { type Body, effect, type MachineDefinition } from "../definition.ts";
import {
  type ConversationContext,
  type ConversationEvent,
  ConversationEventSchema,
  isHeld,
  UNTOUCHED,
} from "./events.ts";
import { guards } from "./guards.ts";
import {
  announced,
  arrived,
  blobsOf,
  discard,
  doubtful,
  givenUp,
  idsOf,
  movedTo,
  proved,
  provedBodies,
  reframed,
  returned,
  sealedBy,
  transmitted,
  transmittedBodies,
  unsealed,
  unsent,
  waitingFor,
  without,
  written,
} from "./outbox.ts";
import { NOTHING_OWED, owesReceipt, owing, paid } from "./receipts.ts";

// One peer: what waits to be sent to it, which session sends it, what came from it and is not yet handed over.
//
//   closed ──SEND──▶ opening ──ESTABLISHED──▶ open ──SESSION_LOST──▶ closed, or waiting while something is queued
//                    │     ▲
//     ESTABLISH_FAILED     after the retry delay
//                    ▼     │
//                    waiting
//
// A deployed cluster's controller speaks plaintext: of it there is no session, and nothing to open.
//
//   closed ──PLAIN──▶ plain ──UNPLAIN, or a session──▶ closed, or open
//
// A peer that knocked and may not is held: what it says is kept, and nothing is done with it or said of it, until the person
// admits or declines it.

const transmitPlain = {
  type: "transmitPlain",
  params: ({ context }: { context: ConversationContext }) => ({ peer: context.peer }),
} as const;

const conversation = setup({
  types: {
    context: {} as ConversationContext,
    events: {} as ConversationEvent,
    input: {} as { id: string },
  },
  actions: {
    /** Fetch the peer's bundle, check it against the DID, run X3DH: ESTABLISHED or ESTABLISH_FAILED. */
    establish: effect<{ peer: string }>(),
    /** Encrypt these, in this order, with the session that sends: SEALED each. */
    seal: effect<{ peer: string; ids: readonly string[] }>(),
    /** Put these on the wire, in this order: TRANSMITTED when the relay has them. */
    transmit: effect<{ peer: string; ids: readonly string[] }>(),
    /** Put all that waits on the wire as it is, in its order: TRANSMITTED when the relay has it. */
    transmitPlain: effect<{ peer: string }>(),
    /** Hand these pieces of work over, in this order: HANDLED. */
    handle: effect<{ peer: string; ids: readonly string[] }>(),
    /** These bodies serve nobody any more: their blobs go. */
    discard: effect<{ bodies: readonly Body[] }>(),
    /** The words of this peer are destroyed: whatever is kept of them outside the journal goes. */
    forget: effect<{ peer: string }>(),
    /** It was admitted: its knocks are answered, and what was left at the relay is fetched. */
    welcome: effect<{ peer: string }>(),
    /** It was declined: it is told so, now and whenever the link comes up, since nobody says whether it heard. */
    turnAway: effect<{ peer: string }>(),
    /** Tell it what is owed, soon: SEND with RECEIPTED. */
    receipt: effect<{ peer: string }>(),
    /** What was received and not dealt with is dealt with, unless the peer is held. */
    attend: enqueueActions(({ context, enqueue }) => {
      const { peer, handling } = context;
      if (handling.length > 0 && !isHeld(context)) enqueue({ type: "handle", params: { peer, ids: idsOf(handling) } });
      if (context.admission === "declined") enqueue({ type: "turnAway", params: { peer } });
      enqueue("payReceipts");
    }),
    payReceipts: enqueueActions(({ context, enqueue }) => {
      if (owesReceipt(context) && !isHeld(context)) enqueue({ type: "receipt", params: { peer: context.peer } });
    }),
    takeChat: enqueueActions(({ context, event, enqueue }) => {
      if (event.type !== "RECEIVED") return;
      const owed = owing(context, { delivered: [event.id] });
      enqueue.assign({ attempts: 0, received: context.received + 1, unread: context.unread + 1, owed });
      const isFirst = !owesReceipt(context) && owesReceipt({ ...context, owed });
      if ((isFirst || owed.delivered.length === RECEIPT_IDS) && !isHeld(context))
        enqueue({ type: "receipt", params: { peer: context.peer } });
    }),
    takeWork: enqueueActions(({ context, event, enqueue }) => {
      if (event.type !== "RECEIVED") return;
      enqueue.assign({
        attempts: 0,
        received: context.received + 1,
        handling: [...context.handling, { id: event.id, kind: event.kind, body: event.body }],
        ...(event.kind === "part" && { partsAt: event.at }),
      });
      if (!isHeld(context)) enqueue({ type: "handle", params: { peer: context.peer, ids: [event.id] } });
    }),
    markRead: enqueueActions(({ context, event, enqueue }) => {
      if (event.type !== "READ") return;
      const owed = owing(context, { read: event.ids });
      enqueue.assign({ unread: Math.max(0, context.unread - event.ids.length), owed });
      if (!owesReceipt(context) && owesReceipt({ ...context, owed }))
        enqueue({ type: "receipt", params: { peer: context.peer } });
    }),
    loseWords: enqueueActions(({ context, enqueue }) => {
      const items = [...context.unconfirmed, ...context.outbox, ...context.handling];
      const bodies = blobsOf(items, idsOf(items));
      if (bodies.length > 0) enqueue({ type: "discard", params: { bodies } });
      enqueue({ type: "forget", params: { peer: context.peer } });
      enqueue.assign({ unconfirmed: [], outbox: [], handling: [], unread: 0, owed: NOTHING_OWED });
    }),
    loseWork: enqueueActions(({ context, enqueue }) => {
      const bodies = blobsOf(context.handling, idsOf(context.handling));
      if (bodies.length > 0) enqueue({ type: "discard", params: { bodies } });
      enqueue.assign({ handling: [], owed: NOTHING_OWED });
    }),
    enqueue: assign(({ context, event }) =>
      event.type === "SEND"
        ? { outbox: [...context.outbox, { id: event.id, kind: event.kind, body: event.body, at: event.at }] }
        : {},
    ),
    takeOut: enqueueActions(({ context, event, enqueue }) => {
      if (event.type !== "TRANSMITTED") return;
      const resend = event.resend === true;
      discard(enqueue, transmittedBodies(context, event.ids, resend));
      enqueue.assign(transmitted(context, event.ids, resend));
    }),
    takeArrival: enqueueActions(({ context, event, enqueue }) => {
      if (event.type !== "ARRIVED") return;
      discard(enqueue, blobsOf([...context.unconfirmed, ...context.outbox], event.ids));
      enqueue.assign(arrived(context, event.ids));
    }),
    letGo: enqueueActions(({ context, event, enqueue }) => {
      if (event.type !== "UNCERTAIN") return;
      discard(enqueue, blobsOf(context.unconfirmed, event.ids));
      enqueue.assign({ unconfirmed: without(context.unconfirmed, event.ids) });
    }),
    abandon: assign(({ context }) => (context.session === null ? {} : unsealed(context, context.session))),
    sendAgain: enqueueActions(({ context, enqueue }) => {
      const ids = doubtful(context);
      if (ids.length > 0) enqueue({ type: "transmit", params: { peer: context.peer, ids } });
    }),
    giveUp: enqueueActions(({ context, event, enqueue }) => {
      if (event.type !== "UNDELIVERABLE") return;
      discard(enqueue, blobsOf([...context.unconfirmed, ...context.outbox], event.ids));
      enqueue.assign(givenUp(context, event.ids));
    }),
    prove: enqueueActions(({ context, event, enqueue }) => {
      if (!("session" in event)) return;
      // What comes in plaintext proves no session.
      if (event.session === undefined) return;
      discard(enqueue, provedBodies(context, event.session));
      enqueue.assign(proved(context, event.session));
    }),
    takeReturned: assign(({ context, event }) => (event.type === "RETURNED" ? returned(context, event) : {})),
    settle: enqueueActions(({ context, event, enqueue }) => {
      if (event.type !== "ACKNOWLEDGED") return;
      const ids = [...event.delivered, ...event.read];
      // The messages have arrived, in whatever session. They may still be in the outbox if a crash lost the relay's word.
      discard(enqueue, blobsOf([...context.unconfirmed, ...context.outbox], ids));
      enqueue.assign(arrived(context, ids));
    }),
    sealWaiting: enqueueActions(({ context, enqueue }) => {
      const ids = waitingFor(context.outbox, false);
      if (ids.length > 0) enqueue({ type: "seal", params: { peer: context.peer, ids } });
    }),
    takeBack: assign(({ context, event }) => (event.type === "UNSENT" ? unsent(context, event.ids) : {})),
    unseal: assign(({ context, event }) => (event.type === "SESSION_LOST" ? unsealed(context, event.session) : {})),
  },
  guards,
  delays: {
    retry: ({ context }) => Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** Math.min(context.attempts, 16)),
  },
}).createMachine({
  id: "conversation",
  context: ({ input }) => ({ peer: input.id, ...UNTOUCHED }),
  initial: "closed",
  on: {
    ESTABLISHED: {
      target: ".open",
      reenter: true,
      actions: [assign(({ context, event }) => ({ ...movedTo(context, event.session), plain: false })), "payReceipts"],
    },
    RECEIVED: [{ guard: "isWork", actions: ["prove", "takeWork"] }, { actions: ["prove", "takeChat"] }],
    CONFIRMED: { guard: "isNews", actions: "prove" },
    UNSENT: { guard: "isKept", actions: "takeBack" },
    RETURNED: { guard: "hasRoom", actions: "takeReturned" },
    HANDLED: {
      guard: "isHandling",
      actions: [
        enqueueActions(({ context, event, enqueue }) => {
          const bodies = blobsOf(context.handling, event.ids);
          if (bodies.length > 0) enqueue({ type: "discard", params: { bodies } });
        }),
        assign(({ context, event }) => ({ handling: without(context.handling, event.ids) })),
      ],
    },
    READ: { actions: "markRead" },
    ACKNOWLEDGED: { actions: ["prove", "settle"] },
    RECEIPTED: {
      actions: assign(({ context, event }) => ({ owed: paid(context, event) })),
    },
    TRANSMITTED: { guard: "isWaiting", actions: "takeOut" },
    ARRIVED: { guard: "isKept", actions: "takeArrival" },
    UNCERTAIN: { actions: "letGo" },
    UNDELIVERABLE: { guard: "isKept", actions: "giveUp" },
    SESSION_LOST: { actions: "unseal" },
    NAMED: {
      actions: assign(({ context, event }) => ({
        name: event.name,
        address: event.source === "address" ? event.name : context.address,
      })),
    },
    ANNOUNCED: { actions: assign(({ context, event }) => announced(context, event.extensions)) },
    PLAIN: { guard: "isUnsealed", target: ".plain", actions: assign({ plain: true }) },
    HELD: { guard: "isUnasked", actions: assign({ admission: "held" }) },
    ADMITTED: {
      guard: "isNotAdmitted",
      actions: [
        assign({ admission: "admitted" }),
        "attend",
        { type: "welcome", params: ({ context }) => ({ peer: context.peer }) },
      ],
    },
    DECLINED: {
      guard: "isNotDeclined",
      actions: ["loseWork", assign({ admission: "declined" }), "attend"],
    },
    VERIFIED: { actions: assign(({ event }) => ({ verified: event.at })) },
    UNVERIFIED: { actions: assign({ verified: null }) },
    FORGOTTEN: { actions: "loseWords" },
    RESUMED: { actions: ["attend", "sendAgain"] },
  },
  states: {
    closed: {
      on: {
        SEND: { guard: "hasRoom", target: "opening", actions: "enqueue" },
        RETURNED: { guard: "hasRoom", target: "opening", actions: "takeReturned" },
        RENEW: "opening",
        // Of a session that did not send any more: what it had sealed goes again, so another one is opened.
        SESSION_LOST: [{ guard: "isBusy", target: "waiting", actions: "unseal" }, { actions: "unseal" }],
      },
    },
    plain: {
      entry: transmitPlain,
      on: {
        SEND: { guard: "hasRoom", actions: ["enqueue", transmitPlain] },
        TRANSMITTED: {
          guard: "isQueued",
          actions: enqueueActions(({ context, event, enqueue }) => {
            discard(enqueue, blobsOf(context.outbox, event.ids));
            enqueue.assign(written(context, event.ids));
          }),
        },
        UNPLAIN: { target: "closed", actions: assign({ plain: false }) },
        RESUMED: { actions: ["attend", transmitPlain] },
      },
    },
    opening: {
      entry: { type: "establish", params: ({ context }) => ({ peer: context.peer }) },
      on: {
        SEND: { guard: "hasRoom", actions: "enqueue" },
        FORGOTTEN: { target: "closed", actions: "loseWords" },
        ESTABLISH_FAILED: [
          { guard: "isFinal", target: "closed" },
          // No message waits for this session. The next message tries again.
          { guard: "isIdle", target: "closed" },
          { target: "waiting", actions: assign(({ context }) => ({ attempts: context.attempts + 1 })) },
        ],
        RESUMED: {
          actions: ["attend", "sendAgain", { type: "establish", params: ({ context }) => ({ peer: context.peer }) }],
        },
      },
    },
    waiting: {
      on: {
        SEND: { guard: "hasRoom", actions: "enqueue" },
        FORGOTTEN: { target: "closed", actions: "loseWords" },
      },
      after: { retry: "opening" },
    },
    open: {
      entry: "sealWaiting",
      on: {
        SEND: {
          guard: "hasRoom",
          actions: [
            "enqueue",
            { type: "seal", params: ({ context, event }) => ({ peer: context.peer, ids: [event.id] }) },
          ],
        },
        SEALED: {
          guard: "awaitsSeal",
          actions: [
            assign(({ context, event }) => ({
              outbox: context.outbox.map((item) =>
                item.id === event.id ? { ...item, sealed: sealedBy(event) } : item,
              ),
              reframed: reframed(context, event.id, event.frame),
            })),
            { type: "transmit", params: ({ context, event }) => ({ peer: context.peer, ids: [event.id] }) },
          ],
        },
        RENEW: { target: "opening", actions: "abandon" },
        SESSION_LOST: [
          {
            guard: "isCurrentAndBusy",
            target: "waiting",
            actions: ["unseal", assign(({ context }) => ({ attempts: context.attempts + 1 }))],
          },
          { guard: "isCurrent", target: "closed", actions: "unseal" },
          // What another session had sealed goes in this one.
          { actions: ["unseal", "sealWaiting"] },
        ],
        RESUMED: {
          actions: [
            "attend",
            enqueueActions(({ context, enqueue }) => {
              const { peer, outbox } = context;
              const sealed = [...doubtful(context), ...waitingFor(outbox, true)];
              const unsealed = waitingFor(outbox, false);
              if (sealed.length > 0) enqueue({ type: "transmit", params: { peer, ids: sealed } });
              if (unsealed.length > 0) enqueue({ type: "seal", params: { peer, ids: unsealed } });
            }),
          ],
        },
      },
    },
  },
});

export const conversationDefinition: MachineDefinition = {
  kind: "conversation",
  version: 5,
  machine: conversation,
  events: ConversationEventSchema,
};

import { assign, setup } from "xstate";
import { RETRY_MAX_MS, RETRY_MIN_MS } from "../../limits.ts";
import { effect, type MachineDefinition } from "../definition.ts";
import { type PairingContext, type PairingEvent, PairingEventSchema } from "./events.ts";
import { PAIR_ANSWER_MAX_MS, PAIR_ANSWER_MIN_MS } from "./limits.ts";

// Membership of one cluster. Until the controller has taken the token a failure ends it and leaves nothing; afterwards the
// token is spent, so every later step is repeated until it succeeds.
//
// A paired node may claim another grant of the same cluster, and stays paired if that is refused.
//
//   unpaired ──STARTED──▶ claiming ──CLAIMED──▶ joining.registering ─▶ .preparing ─▶ .publishing ──PUBLISHED──▶ paired
//       ▲                    │                          ▲ (JOINED starts here)
//       └──────FAILED────────┘
//
// A deployed cluster is asked over its relay, so joining goes first. Whether such a token is spent is known only when it is
// answered: until then it is asked again and again.
//
//   unpaired ──INVITED──▶ joining ──PUBLISHED──▶ asking ──CLAIMED──▶ paired
//       ▲                    │                     │ ▲
//       └──────FAILED────────┴─────────────────────┘ └─ asked again after a while

const leave = {
  type: "leave",
  params: ({ context }: { context: PairingContext }) => ({ controller: context.controller }),
} as const;

/** Of a token that nobody has taken yet nothing is kept, and the membership that there was before stands again. */
const abandon = [
  { guard: "wasPairedAndIsAsking", target: "#pairing.paired", actions: ["noteFailure", "giveUp", leave] },
  { guard: "isAsking", target: "#pairing.unpaired", actions: ["noteFailure", "giveUp", leave] },
] as const;

const pairing = setup({
  types: { context: {} as PairingContext, events: {} as PairingEvent, input: {} as { id: string } },
  actions: {
    /** `POST /v1/pair`: CLAIMED or FAILED. */
    claim: effect<{ controller: string }>(),
    /** `POST /v1/agents`: REGISTERED or FAILED. */
    register: effect<{ controller: string }>(),
    /** Make a signed prekey and one-time prekeys: PREKEYS_MADE. */
    makePrekeys: effect<{ controller: string }>(),
    /** `PUT /v1/agents/{did}/prekeys`: PUBLISHED or FAILED. */
    publishPrekeys: effect<{ controller: string }>(),
    /** The link may come up. */
    connect: effect<{ controller: string }>(),
    /** The link comes up, and the controller is asked in plaintext: CLAIMED or FAILED. */
    ask: effect<{ controller: string }>(),
    /** The link goes back to the cluster that it was at, if there is one. */
    leave: effect<{ controller: string }>(),
    noteFailure: assign(({ context, event }) =>
      event.type === "FAILED"
        ? { failure: { code: event.code, detail: event.detail }, attempts: context.attempts + 1 }
        : {},
    ),
    start: assign(({ event }) =>
      event.type === "STARTED"
        ? {
            did: event.did,
            pairUrl: event.pair_url,
            requestedName: event.name,
            capabilities: event.capabilities,
            failure: null,
            attempts: 0,
          }
        : {},
    ),
    takeAddress: assign(({ event }) =>
      event.type === "JOINED"
        ? {
            did: event.did,
            cluster: event.cluster,
            relayUrl: event.relay_url,
            registryUrl: event.registry_url,
            name: event.name,
            capabilities: event.capabilities,
            failure: null,
            attempts: 0,
          }
        : {},
    ),
    takeInvitation: assign(({ context, event }) =>
      event.type === "INVITED"
        ? {
            did: event.did,
            relayUrl: event.relay_url,
            registryUrl: event.registry_url,
            name: event.name,
            requestedName: event.name,
            capabilities: [],
            asking: {
              request: event.request,
              amid: event.amid,
              asks: 1,
              before: context.asking?.before ?? {
                name: context.name,
                relayUrl: context.relayUrl,
                registryUrl: context.registryUrl,
              },
            },
            failure: null,
            attempts: 0,
          }
        : {},
    ),
    /** What there was before is as it was. */
    giveUp: assign(({ context }) => ({ ...context.asking?.before, asking: null })),
    askAgain: assign(({ context }) => ({
      asking: context.asking && { ...context.asking, asks: context.asking.asks + 1 },
    })),
    clearFailure: assign({ failure: null, attempts: 0 }),
    keepPrekeys: assign(({ context, event }) =>
      event.type === "PREKEYS_MADE"
        ? {
            prekeys: {
              signed: event.signed,
              first: context.prekeys?.first ?? event.first,
              next: event.first + event.count,
            },
          }
        : {},
    ),
  },
  guards: {
    wasPaired: ({ context }) => context.pairedAt !== null,
    isAsking: ({ context }) => context.asking !== null,
    wasPairedAndIsAsking: ({ context }) => context.pairedAt !== null && context.asking !== null,
  },
  delays: {
    answer: ({ context }) =>
      Math.min(PAIR_ANSWER_MAX_MS, PAIR_ANSWER_MIN_MS * 2 ** Math.min((context.asking?.asks ?? 1) - 1, 16)),
    retry: ({ context }) => Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** Math.min(context.attempts, 16)),
  },
}).createMachine({
  id: "pairing",
  context: ({ input }) => ({
    did: null,
    pairUrl: null,
    controller: input.id,
    cluster: null,
    relayUrl: null,
    registryUrl: null,
    requestedName: null,
    name: null,
    capabilities: [],
    grant: null,
    vouches: false,
    prekeys: null,
    pairedAt: null,
    asking: null,
    plain: null,
    attempts: 0,
    failure: null,
  }),
  initial: "unpaired",
  states: {
    unpaired: {
      on: {
        STARTED: { target: "claiming", actions: "start" },
        JOINED: { target: "joining", actions: "takeAddress" },
        INVITED: { target: "joining", actions: "takeInvitation" },
      },
    },
    claiming: {
      entry: { type: "claim", params: ({ context }) => ({ controller: context.controller }) },
      on: {
        CLAIMED: {
          target: "joining",
          actions: assign(({ context, event }) => ({
            cluster: event.cluster,
            relayUrl: event.relay_url,
            registryUrl: event.registry_url,
            grant: event.grant,
            vouches: event.vouches === true,
            plain: null,
            name: context.requestedName ?? event.grant.name,
          })),
        },
        FAILED: [
          { guard: "wasPaired", target: "paired", actions: "noteFailure" },
          { target: "unpaired", actions: "noteFailure" },
        ],
        RESUMED: { actions: { type: "claim", params: ({ context }) => ({ controller: context.controller }) } },
      },
    },
    joining: {
      initial: "registering",
      on: {
        JOINED: { target: "joining", reenter: true, actions: "takeAddress" },
        INVITED: { target: "joining", reenter: true, actions: "takeInvitation" },
      },
      states: {
        registering: {
          entry: { type: "register", params: ({ context }) => ({ controller: context.controller }) },
          on: {
            REGISTERED: {
              target: "preparing",
              actions: [
                "clearFailure",
                assign(({ event }) => ({ name: event.name, capabilities: event.capabilities })),
              ],
            },
            FAILED: [...abandon, { target: "registeringLater", actions: "noteFailure" }],
            RESUMED: { actions: { type: "register", params: ({ context }) => ({ controller: context.controller }) } },
          },
        },
        registeringLater: { after: { retry: "registering" } },
        preparing: {
          entry: { type: "makePrekeys", params: ({ context }) => ({ controller: context.controller }) },
          on: {
            PREKEYS_MADE: { target: "publishing", actions: "keepPrekeys" },
            FAILED: abandon,
            RESUMED: {
              actions: { type: "makePrekeys", params: ({ context }) => ({ controller: context.controller }) },
            },
          },
        },
        publishing: {
          entry: { type: "publishPrekeys", params: ({ context }) => ({ controller: context.controller }) },
          on: {
            PUBLISHED: [
              { guard: "isAsking", target: "#pairing.asking", actions: "clearFailure" },
              {
                target: "#pairing.paired",
                actions: ["clearFailure", assign(({ context, event }) => ({ pairedAt: context.pairedAt ?? event.at }))],
              },
            ],
            FAILED: [...abandon, { target: "publishingLater", actions: "noteFailure" }],
            RESUMED: {
              actions: { type: "publishPrekeys", params: ({ context }) => ({ controller: context.controller }) },
            },
          },
        },
        publishingLater: { after: { retry: "publishing" } },
      },
    },
    asking: {
      entry: { type: "ask", params: ({ context }) => ({ controller: context.controller }) },
      on: {
        CLAIMED: {
          target: "paired",
          actions: assign(({ event }) => ({
            cluster: event.cluster,
            grant: event.grant,
            vouches: false,
            plain: event.plain ?? null,
            asking: null,
            // The cluster joined last is the one that counts.
            pairedAt: event.at,
          })),
        },
        FAILED: abandon,
        // Another token of the same cluster, since this one is not answered.
        INVITED: { target: "joining", actions: "takeInvitation" },
        STARTED: { target: "claiming", actions: ["giveUp", "start"] },
        RESUMED: { actions: { type: "ask", params: ({ context }) => ({ controller: context.controller }) } },
      },
      after: { answer: { target: "asking", reenter: true, actions: "askAgain" } },
    },
    paired: {
      entry: { type: "connect", params: ({ context }) => ({ controller: context.controller }) },
      on: {
        // Another grant of the same cluster; the membership stays if its token is refused.
        STARTED: { target: "claiming", actions: "start" },
        INVITED: { target: "joining", actions: "takeInvitation" },
        // Another address or name for the same membership.
        JOINED: { target: "joining", actions: "takeAddress" },
        RESUMED: { actions: { type: "connect", params: ({ context }) => ({ controller: context.controller }) } },
      },
    },
  },
});

export const pairingDefinition: MachineDefinition = {
  kind: "pairing",
  version: 3,
  machine: pairing,
  events: PairingEventSchema,
};

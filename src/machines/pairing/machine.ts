import { assign, setup } from "xstate";
import { RETRY_MAX_MS, RETRY_MIN_MS } from "../../limits.ts";
import { effect, type MachineDefinition } from "../definition.ts";
import { type PairingContext, type PairingEvent, PairingEventSchema } from "./events.ts";

// Membership of one cluster. Until the controller has taken the token a failure ends it and leaves nothing; afterwards the
// token is spent, so every later step is repeated until it succeeds.
//
// A paired node may claim another grant of the same cluster, and stays paired if that is refused.
//
//   unpaired ──STARTED──▶ claiming ──CLAIMED──▶ joining.registering ─▶ .preparing ─▶ .publishing ──PUBLISHED──▶ paired
//       ▲                    │                          ▲ (JOINED starts here)
//       └──────FAILED────────┘

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
  guards: { wasPaired: ({ context }) => context.pairedAt !== null },
  delays: {
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
    attempts: 0,
    failure: null,
  }),
  initial: "unpaired",
  states: {
    unpaired: {
      on: {
        STARTED: { target: "claiming", actions: "start" },
        JOINED: { target: "joining", actions: "takeAddress" },
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
      on: { JOINED: { target: "joining", reenter: true, actions: "takeAddress" } },
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
            FAILED: { target: "registeringLater", actions: "noteFailure" },
            RESUMED: { actions: { type: "register", params: ({ context }) => ({ controller: context.controller }) } },
          },
        },
        registeringLater: { after: { retry: "registering" } },
        preparing: {
          entry: { type: "makePrekeys", params: ({ context }) => ({ controller: context.controller }) },
          on: {
            PREKEYS_MADE: { target: "publishing", actions: "keepPrekeys" },
            RESUMED: {
              actions: { type: "makePrekeys", params: ({ context }) => ({ controller: context.controller }) },
            },
          },
        },
        publishing: {
          entry: { type: "publishPrekeys", params: ({ context }) => ({ controller: context.controller }) },
          on: {
            PUBLISHED: {
              target: "#pairing.paired",
              actions: ["clearFailure", assign(({ context, event }) => ({ pairedAt: context.pairedAt ?? event.at }))],
            },
            FAILED: { target: "publishingLater", actions: "noteFailure" },
            RESUMED: {
              actions: { type: "publishPrekeys", params: ({ context }) => ({ controller: context.controller }) },
            },
          },
        },
        publishingLater: { after: { retry: "publishing" } },
      },
    },
    paired: {
      entry: { type: "connect", params: ({ context }) => ({ controller: context.controller }) },
      on: {
        // Another grant of the same cluster; the membership stays if its token is refused.
        STARTED: { target: "claiming", actions: "start" },
        // Another address or name for the same membership.
        JOINED: { target: "joining", actions: "takeAddress" },
        RESUMED: { actions: { type: "connect", params: ({ context }) => ({ controller: context.controller }) } },
      },
    },
  },
});

export const pairingDefinition: MachineDefinition = {
  kind: "pairing",
  version: 2,
  machine: pairing,
  events: PairingEventSchema,
};

import { assign, setup } from "xstate";
import { RETRY_MAX_MS, RETRY_MIN_MS } from "../../limits.ts";
import { effect, type MachineDefinition } from "../definition.ts";
import { type Forgotten, type PairingContext, type PairingEvent, PairingEventSchema } from "./events.ts";
import { PAIR_ANSWER_MAX_MS, PAIR_ANSWER_MIN_MS, REGISTRATION_CALM_MS, REGISTRATION_PAUSE_MAX_MS } from "./limits.ts";

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
//
// A registry may forget a member. Then joining begins again and leads back to the state before; membership and link stay as they
// are meanwhile.
//
//   paired, asking ──FORGOTTEN, OUTDATED──▶ joining ──PUBLISHED──▶ paired, asking

/** An effect with the parameter that all effects of this machine have. */
const ask = <T extends string>(type: T) =>
  ({ type, params: ({ context }: { context: PairingContext }) => ({ controller: context.controller }) }) as const;
const leave = ask("leave");
const connect = ask("connect");

/** Of a token that nobody has taken yet nothing is kept, and the membership that there was before stands again. */
const abandon = [
  { guard: "wasPairedAndGivesUp", target: "#pairing.paired", actions: ["noteFailure", "giveUp", leave] },
  { guard: "givesUp", target: "#pairing.unpaired", actions: ["noteFailure", "giveUp", leave] },
] as const;

/** A member's link comes up although the member is registering again. */
const stayingConnected = { guard: "isRejoining", actions: connect } as const;
const resumed = <T extends string>(type: T) =>
  [{ guard: "isRejoining", actions: [connect, ask(type)] }, { actions: ask(type) }] as const;

/** Registers again, after a pause if the registry keeps forgetting. */
const joinAgain = [
  { guard: "isForgottenAgain", target: "#pairing.joining.pausing", actions: "noteForgotten" },
  { target: "#pairing.joining.registering", actions: "noteForgotten" },
] as const;

/** How often in a row the registry has forgotten this member, this time included. */
function timesForgotten(forgotten: Forgotten | null, at: number): number {
  if (!forgotten) return 1;
  const stoodAt = forgotten.again ?? forgotten.at;
  return at - stoodAt < REGISTRATION_CALM_MS ? forgotten.times + 1 : 1;
}

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
            rejoining: false,
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
            rejoining: false,
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
    /** The controller of a deployed cluster took the token. */
    takeAnswer: assign(({ event }) =>
      event.type === "CLAIMED"
        ? {
            cluster: event.cluster,
            grant: event.grant,
            vouches: false,
            plain: event.plain ?? null,
            asking: null,
            // The cluster joined last is the one that counts.
            pairedAt: event.at,
          }
        : {},
    ),
    noteForgotten: assign(({ context, event }) =>
      event.type === "FORGOTTEN"
        ? {
            forgotten: { at: event.at, again: null, times: timesForgotten(context.forgotten, event.at) },
            rejoining: true,
            failure: null,
            attempts: 0,
          }
        : {},
    ),
    /** Registration and prekeys stand. */
    settle: assign(({ context, event }) => ({
      forgotten: context.forgotten && { ...context.forgotten, again: context.forgotten.again ?? event.at },
      rejoining: false,
      failure: null,
      attempts: 0,
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
    isRejoining: ({ context }) => context.rejoining,
    mayBeAnswered: ({ context }) => context.rejoining && context.asking !== null,
    isForgottenAgain: ({ context, event }) => timesForgotten(context.forgotten, event.at) > 1,
    givesUp: ({ context, event }) => context.asking !== null && event.type === "FAILED" && event.final,
    wasPairedAndGivesUp: ({ context, event }) =>
      context.pairedAt !== null && context.asking !== null && event.type === "FAILED" && event.final,
  },
  delays: {
    answer: ({ context }) =>
      Math.min(PAIR_ANSWER_MAX_MS, PAIR_ANSWER_MIN_MS * 2 ** Math.min((context.asking?.asks ?? 1) - 1, 16)),
    retry: ({ context }) => Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** Math.min(context.attempts, 16)),
    pause: ({ context }) =>
      Math.min(REGISTRATION_PAUSE_MAX_MS, RETRY_MIN_MS * 2 ** Math.min(context.forgotten?.times ?? 1, 16)),
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
    announced: null,
    forgotten: null,
    rejoining: false,
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
      entry: ask("claim"),
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
        RESUMED: { actions: ask("claim") },
      },
    },
    joining: {
      initial: "registering",
      on: {
        JOINED: { target: "joining", reenter: true, actions: "takeAddress" },
        INVITED: { target: "joining", reenter: true, actions: "takeInvitation" },
        // The registry that a member waits for may be gone for good, and this token may name another.
        STARTED: { guard: "wasPaired", target: "claiming", actions: ["giveUp", "start"] },
        CLAIMED: { guard: "mayBeAnswered", actions: "takeAnswer" },
        FAILED: abandon,
      },
      states: {
        registering: {
          entry: ask("register"),
          on: {
            REGISTERED: {
              target: "preparing",
              actions: [
                "clearFailure",
                assign(({ event }) => ({
                  name: event.name,
                  capabilities: event.capabilities,
                  announced: event.extensions ?? null,
                })),
              ],
            },
            FAILED: [...abandon, { target: "registeringLater", actions: "noteFailure" }],
            RESUMED: resumed("register"),
          },
        },
        registeringLater: { after: { retry: "registering" }, on: { RESUMED: stayingConnected } },
        preparing: {
          entry: ask("makePrekeys"),
          on: {
            PREKEYS_MADE: { target: "publishing", actions: "keepPrekeys" },
            RESUMED: resumed("makePrekeys"),
          },
        },
        publishing: {
          entry: ask("publishPrekeys"),
          on: {
            PUBLISHED: [
              { guard: "isAsking", target: "#pairing.asking", actions: "settle" },
              {
                target: "#pairing.paired",
                actions: ["settle", assign(({ context, event }) => ({ pairedAt: context.pairedAt ?? event.at }))],
              },
            ],
            FORGOTTEN: joinAgain,
            FAILED: [...abandon, { target: "publishingLater", actions: "noteFailure" }],
            RESUMED: resumed("publishPrekeys"),
          },
        },
        publishingLater: { after: { retry: "publishing" }, on: { RESUMED: stayingConnected } },
        pausing: { after: { pause: "registering" }, on: { RESUMED: stayingConnected } },
      },
    },
    asking: {
      entry: ask("ask"),
      on: {
        CLAIMED: {
          target: "paired",
          actions: "takeAnswer",
        },
        FAILED: abandon,
        FORGOTTEN: joinAgain,
        // Another token of the same cluster, since this one is not answered.
        INVITED: { target: "joining", actions: "takeInvitation" },
        STARTED: { target: "claiming", actions: ["giveUp", "start"] },
        RESUMED: { actions: ask("ask") },
      },
      after: { answer: { target: "asking", reenter: true, actions: "askAgain" } },
    },
    paired: {
      entry: connect,
      on: {
        // Another grant of the same cluster; the membership stays if its token is refused.
        STARTED: { target: "claiming", actions: "start" },
        INVITED: { target: "joining", actions: "takeInvitation" },
        // Another address or name for the same membership.
        JOINED: { target: "joining", actions: "takeAddress" },
        FORGOTTEN: joinAgain,
        OUTDATED: { target: "joining", actions: assign({ rejoining: true, failure: null, attempts: 0 }) },
        RESUMED: { actions: connect },
      },
    },
  },
});

export const pairingDefinition: MachineDefinition = {
  kind: "pairing",
  version: 4,
  machine: pairing,
  events: PairingEventSchema,
};

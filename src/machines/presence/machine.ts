import { assign, setup } from "xstate";
import { z } from "zod";
import { ERROR_CODES, type ErrorCode } from "../../errors.ts";
import { RETRY_MIN_MS } from "../../limits.ts";
import { effect, type MachineDefinition, Resumed, type Timed } from "../definition.ts";
import { PRESENCE_EVERY_MS, PRESENCE_JITTER_MS } from "./limits.ts";

// The presence of this laptop at the registry while the link is up. It is live only, like the link: heartbeats are not journaled.
//
// The reference registry needs a heartbeat every 30 s, and its answer says whether it still knows the agent. A registry of ours sees
// the connection to a relay of ours, so it is asked only once whenever the link comes up.
//
//   away ──UP──▶ arriving ── after a moment ──▶ looking ──LOOKED, and relay and registry are ours──▶ seen
//                                                  └──LOOKED──▶ beating ──BEATEN──▶ present ── after 30 s ──▶ beating
//   looking, beating ──FAILED──▶ tried again after a while                          any of them ──DOWN──▶ away

export const PresenceEventSchema = z.discriminatedUnion("type", [
  /** The link is up, and this laptop is a member of the cluster. */
  z.object({
    type: z.literal("UP"),
    registry_url: z.string().max(500),
    /** Whether the relay is one of ours, which tells its registry who is connected. */
    tells: z.boolean(),
    /** 0 to 1, for the jitter. */
    chance: z.number(),
  }),
  z.object({ type: z.literal("DOWN") }),
  /** Whether the registry is one of ours, which say how many prekeys are left. */
  z.object({ type: z.literal("LOOKED"), ours: z.boolean() }),
  /** The registry has taken a heartbeat. */
  z.object({ type: z.literal("BEATEN") }),
  /** The request failed or was refused. `chance` as above. */
  z.object({
    type: z.literal("FAILED"),
    code: z.enum(ERROR_CODES),
    detail: z.string().max(1000),
    chance: z.number(),
  }),
  Resumed,
]);
export type PresenceEvent = Timed<z.infer<typeof PresenceEventSchema>>;

export interface PresenceContext {
  readonly registryUrl: string | null;
  readonly tells: boolean;
  /** Whether the registry is one of ours; null while that is not known. */
  readonly ours: boolean | null;
  /** When the registry last answered that it knows this laptop. */
  readonly knownAt: number | null;
  readonly chance: number;
  readonly attempts: number;
  readonly failure: { readonly code: ErrorCode; readonly detail: string } | null;
}

const presence = setup({
  types: { context: {} as PresenceContext, events: {} as PresenceEvent, input: {} as { id: string } },
  actions: {
    /** `GET /v1/agents/{did}/prekeys/count`: LOOKED or FAILED. */
    look: effect<Record<never, never>>(),
    /** `POST /v1/agents/{did}/heartbeat`: BEATEN or FAILED. */
    beat: effect<Record<never, never>>(),
    arrive: assign(({ context, event }) =>
      event.type === "UP"
        ? {
            registryUrl: event.registry_url,
            tells: event.tells,
            chance: event.chance,
            // Another cluster's registry may be of another kind.
            ...(event.registry_url === context.registryUrl ? {} : { ours: null, knownAt: null }),
            attempts: 0,
            failure: null,
          }
        : {},
    ),
    noteAnswer: assign(({ event }) => ({ knownAt: event.at, attempts: 0, failure: null })),
    noteKind: assign(({ event }) => (event.type === "LOOKED" ? { ours: event.ours } : {})),
    noteFailure: assign(({ context, event }) =>
      event.type === "FAILED"
        ? {
            failure: { code: event.code, detail: event.detail },
            chance: event.chance,
            attempts: context.attempts + 1,
          }
        : {},
    ),
  },
  guards: {
    isPlain: ({ context }) => context.ours === false,
    isSeen: ({ context, event }) => context.tells && event.type === "LOOKED" && event.ours,
  },
  delays: {
    arrival: ({ context }) => PRESENCE_JITTER_MS * context.chance,
    beat: PRESENCE_EVERY_MS,
    // Half fixed, half by chance. The pause is never longer than that between heartbeats.
    retry: ({ context }) =>
      Math.min(PRESENCE_EVERY_MS, RETRY_MIN_MS * 2 ** Math.min(context.attempts, 16)) * (0.5 + context.chance / 2),
  },
}).createMachine({
  id: "presence",
  context: () => ({
    registryUrl: null,
    tells: false,
    ours: null,
    knownAt: null,
    chance: 0,
    attempts: 0,
    failure: null,
  }),
  initial: "away",
  on: { DOWN: { target: ".away", actions: assign({ attempts: 0, failure: null }) } },
  states: {
    away: { on: { UP: { target: "arriving", actions: "arrive" }, DOWN: {} } },
    arriving: { after: { arrival: [{ guard: "isPlain", target: "beating" }, { target: "looking" }] } },
    looking: {
      entry: { type: "look", params: {} },
      on: {
        LOOKED: [
          { guard: "isSeen", target: "seen", actions: ["noteKind", "noteAnswer"] },
          { target: "beating", actions: "noteKind" },
        ],
        FAILED: { target: "lookingLater", actions: "noteFailure" },
      },
    },
    lookingLater: { after: { retry: "looking" } },
    seen: {},
    beating: {
      entry: { type: "beat", params: {} },
      on: {
        BEATEN: { target: "present", actions: "noteAnswer" },
        FAILED: { target: "beatingLater", actions: "noteFailure" },
      },
    },
    beatingLater: { after: { retry: "beating" } },
    present: { after: { beat: "beating" } },
  },
});

export const presenceDefinition: MachineDefinition = {
  kind: "presence",
  version: 1,
  machine: presence,
  events: PresenceEventSchema,
  live: true,
};

import { assign, setup } from "xstate";
import {
  ONE_TIME_PREKEYS,
  ONE_TIME_PREKEYS_LOW,
  PREKEYS_CHECK_MS,
  PREKEYS_RETRY_MAX_MS,
  RETRY_MIN_MS,
  SIGNED_PREKEY_KEPT_MS,
  SIGNED_PREKEY_MS,
} from "../../limits.ts";
import { effect, type MachineDefinition } from "../definition.ts";
import { droppable, type PreKeysContext, type PreKeysEvent, PreKeysEventSchema, type Wanted } from "./events.ts";

// The prekeys of one membership, from the moment that pairing has published the first (X3DH section 2.4). The
// signed one is replaced when it is old, one-time ones are added when few are left. A failure is tried again for ever.
//
//   absent ──ADOPTED──▶ fresh ── after a while ──▶ checking ──CHECKED, and all is well──▶ fresh
//                         ▲ │ USED_UP                 │ CHECKED, and something is due
//                         │ └────────────────▶ making ◀┘
//                         └──PUBLISHED── publishing ◀┘ MADE
//
// Most registries say how many one-time prekeys are left. The reference registry does not, so there our own count decides. That count
// includes prekeys that knocks used, but not prekeys that were fetched without a knock. A knock without one reveals the latter.

const isOld = ({ signedAt }: PreKeysContext, at: number) => at - signedAt >= SIGNED_PREKEY_MS;
type Checked = Extract<PreKeysEvent, { readonly type: "CHECKED" }>;
/** Whether one-time prekeys are due: by the registry's count, or by ours if the registry has none. */
const isFew = ({ drained }: PreKeysContext, { left, ours }: Checked) =>
  left === null ? drained || (ours !== undefined && ours < ONE_TIME_PREKEYS_LOW) : left < ONE_TIME_PREKEYS_LOW;

/** The context with a signed prekey in the place of the one before it, which is kept. */
function replacing(
  { signed, signedAt, kept }: PreKeysContext,
  made: { readonly signed: number; readonly at: number; readonly dropped?: readonly number[] },
): Pick<PreKeysContext, "signed" | "signedAt" | "kept"> {
  const isNew = made.signed !== signed;
  const before = isNew && signed !== null ? [{ id: signed, until: made.at + SIGNED_PREKEY_KEPT_MS }] : [];
  return {
    signed: made.signed,
    signedAt: isNew ? made.at : signedAt,
    kept: [...kept, ...before].filter(({ id }) => !made.dropped?.includes(id)),
  };
}

const prekeys = setup({
  types: { context: {} as PreKeysContext, events: {} as PreKeysEvent, input: {} as { id: string } },
  actions: {
    /** `GET /v1/agents/{did}/prekeys/count`: CHECKED or FAILED. */
    check: effect<{ controller: string }>(),
    /** Make what is wanted, and destroy signed prekeys that were kept long enough: MADE. */
    make: effect<{ controller: string; wanted: Wanted }>(),
    /** `PUT /v1/agents/{did}/prekeys`: PUBLISHED or FAILED. */
    publish: effect<{ controller: string }>(),
    adopt: assign(({ context, event }) =>
      event.type === "ADOPTED"
        ? {
            ...replacing(context, event),
            first: event.next,
            next: event.next,
            left: null,
            lotAt: event.at,
            drained: false,
            failure: null,
            attempts: 0,
          }
        : {},
    ),
    count: assign(({ context, event }) =>
      event.type === "CHECKED"
        ? { left: event.left, drained: context.drained && event.left === null, failure: null, attempts: 0 }
        : {},
    ),
    want: assign(({ context, event }) =>
      event.type === "CHECKED"
        ? {
            wanted: {
              rotate: isOld(context, event.at),
              // The reference registry drops its one-time prekeys when others are published, so every upload contains some.
              count: event.left === null || isFew(context, event) ? ONE_TIME_PREKEYS : 0,
            },
          }
        : { wanted: { rotate: false, count: ONE_TIME_PREKEYS } },
    ),
    keep: assign(({ context, event }) =>
      event.type === "MADE"
        ? {
            ...replacing(context, event),
            first: event.first,
            next: event.first + event.count,
            left: null,
            ...(event.count > 0 && { lotAt: event.at, drained: false }),
          }
        : {},
    ),
    noteFailure: assign(({ context, event }) =>
      event.type === "FAILED"
        ? { failure: { code: event.code, detail: event.detail }, attempts: context.attempts + 1 }
        : {},
    ),
    clearFailure: assign({ failure: null, attempts: 0 }),
  },
  guards: {
    isDue: ({ context, event }) =>
      event.type === "CHECKED" &&
      (isOld(context, event.at) || droppable(context, event.at).length > 0 || isFew(context, event)),
    // Anyone can knock without a one-time prekey, so this happens no more often than the regular check.
    isLotOld: ({ context, event }) => context.left === null && event.at - context.lotAt >= PREKEYS_CHECK_MS,
    isNews: ({ context }) => context.left === null && !context.drained,
  },
  delays: {
    // Not later than the signed prekey is old.
    check: ({ context, event }) =>
      Math.max(0, Math.min(PREKEYS_CHECK_MS, context.signedAt + SIGNED_PREKEY_MS - event.at)),
    retry: ({ context }) => Math.min(PREKEYS_RETRY_MAX_MS, RETRY_MIN_MS * 2 ** Math.min(context.attempts, 16)),
  },
}).createMachine({
  id: "prekeys",
  context: ({ input }) => ({
    controller: input.id,
    signed: null,
    signedAt: 0,
    kept: [],
    first: 0,
    next: 0,
    left: null,
    lotAt: 0,
    drained: false,
    wanted: { rotate: false, count: 0 },
    attempts: 0,
    failure: null,
  }),
  initial: "absent",
  // Pairing goes before: what it publishes under a new address is what counts.
  on: { ADOPTED: { target: ".fresh", reenter: true, actions: "adopt" } },
  states: {
    absent: {},
    fresh: {
      after: { check: "checking" },
      on: {
        USED_UP: { target: "making", actions: "want" },
        DRAINED: [
          { guard: "isLotOld", target: "checking", actions: assign({ drained: true }) },
          { guard: "isNews", actions: assign({ drained: true }) },
        ],
      },
    },
    checking: {
      entry: { type: "check", params: ({ context }) => ({ controller: context.controller }) },
      on: {
        CHECKED: [
          { guard: "isDue", target: "making", actions: ["count", "want"] },
          { target: "fresh", actions: "count" },
        ],
        USED_UP: { target: "making", actions: "want" },
        FAILED: { target: "checkingLater", actions: "noteFailure" },
        RESUMED: { actions: { type: "check", params: ({ context }) => ({ controller: context.controller }) } },
      },
    },
    checkingLater: {
      after: { retry: "checking" },
      on: { USED_UP: { target: "making", actions: "want" } },
    },
    making: {
      entry: {
        type: "make",
        params: ({ context }) => ({ controller: context.controller, wanted: context.wanted }),
      },
      on: {
        MADE: { target: "publishing", actions: "keep" },
        RESUMED: {
          actions: {
            type: "make",
            params: ({ context }) => ({ controller: context.controller, wanted: context.wanted }),
          },
        },
      },
    },
    publishing: {
      entry: { type: "publish", params: ({ context }) => ({ controller: context.controller }) },
      on: {
        PUBLISHED: { target: "fresh", actions: "clearFailure" },
        FAILED: { target: "publishingLater", actions: "noteFailure" },
        RESUMED: { actions: { type: "publish", params: ({ context }) => ({ controller: context.controller }) } },
      },
    },
    publishingLater: { after: { retry: "publishing" } },
  },
});

export const prekeysDefinition: MachineDefinition = {
  kind: "prekeys",
  version: 2,
  machine: prekeys,
  events: PreKeysEventSchema,
};

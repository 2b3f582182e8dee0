import { describe, it } from "vitest";
import { ALICE, type Event, given, T0, words } from "../../../test/specification.ts";
import { SLOT_RETRY_MAX_MS, SLOT_RETRY_MIN_MS } from "../../limits.ts";
import { offloadDefinition as offload } from "./machine.ts";

const requested = (more: object = {}): Event => ({
  type: "REQUESTED",
  controller: ALICE,
  target: {},
  timeout_minutes: 60,
  body: words("task"),
  files: 0,
  bytes: 0,
  ...more,
});
const queued = requested({ queued: true });
const turn: Event = { type: "TURN" };
const asked: Event = { type: "ASKED" };
const noSlot: Event = { type: "FAILED", code: "no_free_slot", note: words("3 of 3 are running.") };
const ask = ["request", { offload: "one" }] as const;
const look = ["queue", {}] as const;

describe("an offload for which there is no slot", () => {
  it("waits for its turn, and asks the cluster nothing before", () => {
    given(offload, "one")
      .when(queued)
      .then({ state: { queued: "inLine" }, effects: [look], timers: {} });
    given(offload, "one", queued)
      .when({ type: "RESUMED" })
      .then({ state: { queued: "inLine" }, effects: [look] });
    given(offload, "one", queued)
      .when(turn)
      .then({ state: { active: "requested" }, effects: [ask] });
    given(offload, "one", requested()).when(turn).thenRefused();
  });

  it("is cancelled at once, since nobody knows of it", () => {
    given(offload, "one", queued)
      .when({ type: "CANCEL" })
      .then({ state: "cancelled", effects: [look], context: { endedAt: T0 } });
  });

  it("goes back to its place when the cluster has none after all, and asks again later and later", () => {
    for (const history of [[requested()], [requested(), asked], [queued, turn], [queued, turn, asked]])
      given(offload, "one", ...history)
        .when(noSlot)
        .then({
          state: { queued: "full" },
          effects: [],
          context: { refusals: 1, note: words("3 of 3 are running."), failure: null },
          timers: { slot: SLOT_RETRY_MIN_MS },
        });
    given(offload, "one", requested(), noSlot)
      .whenTimer("slot")
      .then({ state: { queued: "inLine" }, effects: [look] });
    given(offload, "one", requested(), noSlot, turn, noSlot)
      .when({ type: "RESUMED" })
      .then({ state: { queued: "full" }, context: { refusals: 2 }, timers: { slot: 2 * SLOT_RETRY_MIN_MS } });
    const often = Array.from({ length: 20 }, () => [noSlot, turn]).flat();
    given(offload, "one", requested(), ...often)
      .when(noSlot)
      .then({ state: { queued: "full" }, timers: { slot: SLOT_RETRY_MAX_MS } });
  });

  it("whoever ends lets the next go", () => {
    for (const end of [
      { type: "FAILED", code: "cluster_refused" },
      { type: "FAILED", code: "token_revoked" },
    ])
      given(offload, "one", requested())
        .when(end)
        .then({ state: "error", effects: [["cleanUp", { offload: "one", reason: "error" }], look] });
    given(offload, "one", requested(), { type: "CANCEL" })
      .when({ type: "CANCELLED" })
      .then({ state: "cancelled", effects: [look] });
  });
});

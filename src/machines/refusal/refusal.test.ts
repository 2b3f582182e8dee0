import { describe, it } from "vitest";
import { ALICE, BOB, type Event, given, keepsTheLaws } from "../../../test/specification.ts";
import { REFUSALS_KEPT } from "./limits.ts";
import { refusalDefinition as refusal } from "./machine.ts";

const refused = (code: string, request: string | null, laptop = ALICE): Event => ({
  type: "REFUSED",
  what: request === null ? "pairing" : "offload",
  code,
  grant: "laptop",
  laptop,
  request,
});
const refusals = (...events: Event[]) => given(refusal, "requests", ...events);

describe("what a cluster refused", () => {
  it("is counted", () => {
    refusals()
      .when(refused("no_free_slot", "q1"))
      .then({ state: {}, effects: [], context: { count: 1 } })
      .when(refused("no_free_slot", "q2"))
      .then({ state: {}, context: { count: 2 } });
  });
  it("is written down once when the same is asked again and refused for the same reason", () => {
    refusals(refused("no_free_slot", "q1")).when(refused("no_free_slot", "q1")).thenRefused();
    refusals(refused("no_free_slot", "q1"))
      .when(refused("token_expired", "q1"))
      .then({ state: {}, context: { count: 2 } });
    refusals(refused("not_paired", "q1"))
      .when(refused("not_paired", "q1", BOB))
      .then({ state: {}, context: { count: 2 } });
  });
  it("is written down once for a token that is good no more, whoever comes with it", () => {
    refusals(refused("token_used", null))
      .when(refused("token_used", null, BOB))
      .thenRefused();
  });
  it("is written down again after many others", () => {
    const others = Array.from({ length: REFUSALS_KEPT }, (_, index) => refused("no_free_slot", `other-${index}`));
    refusals(refused("no_free_slot", "q1"), ...others)
      .when(refused("no_free_slot", "q1"))
      .then({ state: {}, context: { count: REFUSALS_KEPT + 2 } });
  });
});

keepsTheLaws(refusal, { life: [refused("no_free_slot", "q1"), refused("token_used", null)], restful: [] });

import { describe, it } from "vitest";
import { ALICE, BOB, type Event, given, keepsTheLaws, T0 } from "../../../test/specification.ts";
import { grantDefinition as grant } from "./machine.ts";

const issued: Event = {
  type: "ISSUED",
  token_hash: "0".repeat(64),
  slots: 2,
  capabilities: ["offload"],
  expires_at: T0 + 60_000,
  token_budget: null,
};
const bound: Event = { type: "BOUND", did: ALICE, name: "alice" };
const taken = (run: string): Event => ({ type: "SLOT_TAKEN", run });
const freed = (run: string, ok = true, tokens = 0): Event => ({ type: "SLOT_FREED", run, ok, tokens });
const revoked: Event = { type: "REVOKED" };
const granted = (...events: Event[]) => given(grant, "laptop", ...events);

describe("a pairing record", () => {
  it("begins with its issue, and knows when it ends", () => {
    granted()
      .when(issued)
      .then({
        state: { valid: "pending" },
        effects: [],
        context: { name: "laptop", slots: 2 },
        timers: { expiry: 60_000 },
      });
  });
  it("is issued once", () => {
    granted(issued).when(issued).thenRefused();
    granted(issued, revoked).when(issued).thenRefused();
  });
  it("is bound to the laptop that takes the token, once", () => {
    granted(issued)
      .when(bound, T0 + 5)
      .then({
        state: { valid: "active" },
        context: { did: ALICE, displayName: "alice", pairedAt: T0 + 5 },
        timers: { expiry: 59_995 },
      })
      .when({ ...bound, did: BOB })
      .thenRefused();
  });
  it("cannot be bound before it is issued, after it expired, or when it was revoked", () => {
    granted().when(bound).thenRefused();
    granted(issued).whenTimer("expiry").then({ state: "expired", timers: {} }).when(bound).thenRefused();
    granted(issued, revoked).when(bound).thenRefused();
  });
  it("expires at its time, bound or not; one that is issued too late expires at once", () => {
    granted(issued, bound)
      .whenTimer("expiry")
      .then({ state: "expired", context: { did: ALICE }, timers: {} });
    granted({ ...issued, expires_at: T0 - 1 }).then({ state: { valid: "pending" }, timers: { expiry: 0 } });
  });
  it.each([[[issued]], [[issued, bound]]])("can be revoked, and then waits for nothing", (...[history]) => {
    granted(...history)
      .when(revoked)
      .then({ state: "revoked", timers: {} })
      .when(revoked)
      .thenRefused();
  });
});

describe("its slots", () => {
  it("are taken up to their number, each run once", () => {
    granted(issued, bound, taken("r1")).when(taken("r1")).thenRefused();
    granted(issued, bound, taken("r1"))
      .when(taken("r2"))
      .then({ state: { valid: "active" }, context: { running: ["r1", "r2"] } })
      .when(taken("r3"))
      .thenRefused();
  });
  it("are there only for a laptop that is paired", () => {
    for (const history of [[], [issued], [issued, bound, revoked]])
      granted(...history)
        .when(taken("r1"))
        .thenRefused();
  });
  it("come back once, with what the run came to", () => {
    granted(issued, bound, taken("r1"), taken("r2"))
      .when(freed("r1", true, 10))
      .then({ state: { valid: "active" }, context: { running: ["r2"], completed: 1, failed: 0, tokensUsed: 10 } })
      .when(freed("r1"))
      .thenRefused()
      .when(freed("r2", false, 5))
      .then({ state: { valid: "active" }, context: { running: [], completed: 1, failed: 1, tokensUsed: 15 } });
  });
  it("come back after the grant has ended, too", () => {
    granted(issued, bound, taken("r1"), revoked)
      .when(freed("r1"))
      .then({ state: "revoked", context: { running: [], completed: 1 } });
    granted(issued, bound, taken("r1"))
      .whenTimer("expiry")
      .when(freed("r1"))
      .then({ state: "expired", context: { running: [] } });
  });
});

keepsTheLaws(grant, {
  life: [issued, bound, taken("a"), taken("b"), freed("a"), revoked, freed("b")],
  restful: ["absent", "expired", "revoked"],
});

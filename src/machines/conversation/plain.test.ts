import { describe, it } from "vitest";
import { conversationWith, established, peer, received, send } from "../../../test/conversations.ts";
import { type Event, keepsTheLaws } from "../../../test/specification.ts";
import { conversationDefinition as conversation } from "./machine.ts";

const plain: Event = { type: "PLAIN" };
const unplain: Event = { type: "UNPLAIN" };
const transmitted = (...ids: readonly string[]): Event => ({ type: "TRANSMITTED", ids, proof: "written" });
const { session: _, ...inPlain } = received("r1", "work");
const transmits = ["transmitPlain", { peer }] as const;

describe("the controller of a deployed cluster", () => {
  it("is sent to as it stands: nothing is opened, nothing sealed", () => {
    conversationWith(plain)
      .when(send("m1"))
      .then({ state: "plain", effects: [transmits], context: { plain: true, sent: 0 }, timers: {} })
      .when(transmitted("m1"))
      .then({ state: "plain", effects: [], context: { outbox: [], unconfirmed: [], sent: 1 } });
  });

  it("has all that waits sent again when the link is up, and once each", () => {
    conversationWith(plain, send("m1"), send("m2"))
      .when({ type: "RESUMED" })
      .then({ state: "plain", effects: [transmits] });
    conversationWith(plain, send("m1")).when(send("m1")).thenRefused();
    conversationWith(plain, send("m1"), transmitted("m1")).when(transmitted("m1")).thenRefused();
  });

  it("may have been written to before: what waited for a session goes without one", () => {
    conversationWith(send("m1"))
      .when(plain)
      .then({ state: "plain", effects: [transmits], context: { plain: true } });
  });

  it("is heard without a session, which proves none", () => {
    conversationWith(plain)
      .when(inPlain)
      .then({ state: "plain", effects: [["handle", { peer, ids: ["r1"] }]], context: { proved: [], received: 1 } });
  });

  it("is one no more when another cluster takes its place", () => {
    conversationWith(plain)
      .when(unplain)
      .then({ state: "closed", effects: [], context: { plain: false } });
    conversationWith().when(unplain).thenRefused();
  });

  it("that opens a session speaks sealed from then on, and so do we", () => {
    conversationWith(plain, send("m1"))
      .when({ ...established("theirs"), role: "responder" })
      .then({ state: "open", effects: [["seal", { peer, ids: ["m1"] }]], context: { plain: false, session: "theirs" } })
      .when(plain)
      .thenRefused();
  });
});

it("no peer that was heard sealed is ever spoken to in plaintext", () => {
  conversationWith(established("s1"), received("r1")).when(plain).thenRefused();
  conversationWith(established("s1"), received("r1"), { type: "SESSION_LOST", session: "s1", code: "peer_refused" })
    .when(plain)
    .thenRefused();
});

keepsTheLaws(conversation, {
  life: [plain, send("m1"), inPlain, transmitted("m1"), { type: "HANDLED", ids: ["r1"] }, unplain, plain, send("m2")],
  restful: ["closed", "plain", "open"],
});

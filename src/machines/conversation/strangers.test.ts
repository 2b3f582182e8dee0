import { describe, it } from "vitest";
import {
  blob,
  confirmed,
  conversationWith,
  established,
  nothing,
  peer,
  received,
  sealed,
  send,
  transmitted,
} from "../../../test/conversations.ts";
import { words } from "../../../test/specification.ts";
import { RECEIPT_IDS } from "../../limits.ts";

// What is done with a peer that may not talk to us yet, and what one that may is told.

describe("a stranger", () => {
  const held = { type: "HELD" };
  const announced = { type: "ANNOUNCED", extensions: ["receipts"] };

  it("is held: what it says is kept, and nothing is done with it or said of it", () => {
    conversationWith(announced, held)
      .when(received("m1"))
      .then({ state: "closed", effects: [], context: { admission: "held", unread: 1, owed: { delivered: ["m1"] } } });
    conversationWith(held)
      .when(received("m1", "work"))
      .then({ state: "closed", effects: [], context: { handling: [{ id: "m1" }] } });
    conversationWith(announced, held, received("m1"), received("m2", "work")).when({ type: "RESUMED" }).thenRefused();
  });

  it("is let in: what it said is dealt with, and it hears of it", () => {
    conversationWith(announced, held, received("m1"), received("m2", "work"))
      .when({ type: "ADMITTED" })
      .then({
        state: "closed",
        effects: [
          ["handle", { peer, ids: ["m2"] }],
          ["receipt", { peer }],
          ["welcome", { peer }],
        ],
        context: { admission: "admitted" },
      });
  });

  it("is turned away: its work goes, and it hears nothing; it may be let in after all", () => {
    conversationWith(announced, held, received("m1"), received("m2", "work", blob))
      .when({ type: "DECLINED" })
      .then({
        state: "closed",
        effects: [
          ["discard", { bodies: [blob] }],
          ["turnAway", { peer }],
        ],
        context: { admission: "declined", handling: [], owed: nothing },
      });
    conversationWith(held, { type: "DECLINED" })
      .when({ type: "RESUMED" })
      .then({ state: "closed", effects: [["turnAway", { peer }]] });
    conversationWith(held, { type: "DECLINED" })
      .when({ type: "ADMITTED" })
      .then({ state: "closed", context: { admission: "admitted" } });
  });

  it("is held once, and not when it was decided on", () => {
    for (const before of [held, { type: "ADMITTED" }, { type: "DECLINED" }])
      conversationWith(before).when(held).thenRefused();
  });
});

describe("receipts", () => {
  const announced = { type: "ANNOUNCED", extensions: ["receipts"] };

  it("are owed to a peer that knows them, asked for once, and paid by one message", () => {
    conversationWith(announced)
      .when(received("m1"))
      .then({ state: "closed", effects: [["receipt", { peer }]], context: { owed: { delivered: ["m1"], read: [] } } });
    conversationWith(announced, received("m1"))
      .when(received("m2"))
      .then({ state: "closed", effects: [], context: { owed: { delivered: ["m1", "m2"] } } });
    conversationWith(announced, received("m1"), received("m2"))
      .when({ type: "RECEIPTED", delivered: ["m1"], read: [] })
      .then({ state: "closed", context: { owed: { delivered: ["m2"], read: [] } } });
    conversationWith(announced, received("m1"), { type: "RECEIPTED", delivered: ["m1"], read: [] })
      .when({ type: "READ", ids: ["m1"] })
      .then({ state: "closed", effects: [["receipt", { peer }]], context: { owed: { delivered: [], read: ["m1"] } } });
  });

  it("are paid at once when much is owed", () => {
    const many = Array.from({ length: RECEIPT_IDS - 1 }, (_, index) => received(`m${index}`));
    conversationWith(announced, ...many)
      .when(received("last"))
      .then({ state: "closed", effects: [["receipt", { peer }]] });
  });

  it("are owed for words alone, and to nobody who does not know them", () => {
    conversationWith(announced)
      .when(received("m1", "work"))
      .then({ state: "closed", context: { owed: nothing } });
    conversationWith()
      .when(received("m1"))
      .then({ state: "closed", effects: [], context: { owed: nothing } });
  });

  it("are asked for again after a restart, and when there is a session", () => {
    conversationWith(announced, received("m1"))
      .when({ type: "RESUMED" })
      .then({ state: "closed", effects: [["receipt", { peer }]] });
    conversationWith(announced, received("m1"))
      .when(established())
      .then({ state: "open", effects: [["receipt", { peer }]] });
  });

  it("are no message that is counted", () => {
    conversationWith(send("r", words("r"), "receipt"), established(), sealed("r"), confirmed())
      .when(transmitted("r"))
      .then({ state: "open", context: { sent: 0, outbox: [] } });
  });
});

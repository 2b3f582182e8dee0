import { describe, it } from "vitest";
import {
  blob,
  confirmed,
  conversationWith,
  established,
  lost,
  peer,
  received,
  sealed,
  send,
} from "../../../test/conversations.ts";
import type { Event } from "../../../test/specification.ts";

const written = (...ids: string[]): Event => ({ type: "TRANSMITTED", ids, proof: "written", resend: true });
const arrived = (...ids: string[]): Event => ({ type: "ARRIVED", ids });
const announced: Event = { type: "ANNOUNCED", extensions: ["resends", "arrivals"] };
const twoWritten = [send("m1"), send("m2"), established(), sealed("m1"), sealed("m2"), written("m1", "m2")] as const;

describe("a relay that may lose messages took them, and the peer confirms what arrives", () => {
  it("they count as sent, and are kept until the peer confirms them", () => {
    conversationWith(...twoWritten)
      .when(arrived("m1"))
      .then({ state: "open", effects: [], context: { outbox: [], unconfirmed: [{ id: "m2", resend: true }], sent: 2 } })
      .when(arrived("m2"))
      .then({ state: "open", context: { unconfirmed: [], sent: 2 } })
      .when(arrived("m2"))
      .thenRefused();
  });

  it("that the peer holds the session is not enough", () => {
    conversationWith(...twoWritten, confirmed(), received("r1"))
      .when(confirmed())
      .thenRefused()
      .whenResumed()
      .then({
        state: "open",
        effects: [["transmit", { peer, ids: ["m1", "m2"] }]],
        context: { unconfirmed: [{ id: "m1" }, { id: "m2" }] },
      });
  });

  it("they hold back nothing when the peer turns into one that confirms nothing", () => {
    conversationWith(...twoWritten, send("m3"), sealed("m3"), { type: "ANNOUNCED", extensions: [] })
      .whenResumed()
      .then({
        state: "open",
        effects: [["transmit", { peer, ids: ["m3"] }]],
        context: { unconfirmed: [{ id: "m1" }, { id: "m2" }], outbox: [{ id: "m3" }] },
      });
  });

  it("a receipt of the peer's is as good", () => {
    conversationWith(...twoWritten)
      .when({ type: "ACKNOWLEDGED", id: "r", session: "s1", delivered: ["m1"], read: ["m2"] })
      .then({ state: "open", context: { unconfirmed: [] } });
  });

  it("when the link comes up they go again before all that is newer", () => {
    conversationWith(...twoWritten, send("m3"), send("m4"), sealed("m3"))
      .whenResumed()
      .then({
        state: "open",
        effects: [
          ["transmit", { peer, ids: ["m1", "m2", "m3"] }],
          ["seal", { peer, ids: ["m4"] }],
        ],
      });
  });

  it("they go again also when no session sends any more", () => {
    conversationWith(
      send("m1"),
      established("old"),
      sealed("m1", "old"),
      written("m1"),
      established("new"),
      lost("new"),
    )
      .whenResumed()
      .then({ state: "closed", effects: [["transmit", { peer, ids: ["m1"] }]] });
  });

  it("the blob of work goes when it is confirmed, not before", () => {
    conversationWith(send("w1", blob, "work"), established(), sealed("w1"), confirmed())
      .when(written("w1"))
      .then({ state: "open", effects: [] })
      .when(arrived("w1"))
      .then({ state: "open", effects: [["discard", { bodies: [blob] }]], context: { unconfirmed: [] } });
  });

  it("a session that is lost gives them back: they are encrypted anew, before all that waits", () => {
    conversationWith(...twoWritten, send("m3"))
      .when({ type: "UNSENT", ids: ["m1", "m2"] })
      .when(lost())
      .then({
        state: "waiting",
        context: {
          outbox: [{ id: "m1", again: true }, { id: "m2", again: true }, { id: "m3" }],
          unconfirmed: [],
          sent: 0,
        },
      })
      // What was in doubt had arrived.
      .when(arrived("m1"))
      .then({ state: "waiting", context: { outbox: [{ id: "m2" }, { id: "m3" }], sent: 1 } });
  });

  it("a newer session takes over what went in one that the peer has not shown to hold", () => {
    conversationWith(announced, ...twoWritten)
      .when(established("s2"))
      .then({
        state: "open",
        effects: [["seal", { peer, ids: ["m1", "m2"] }]],
        context: { unconfirmed: [], sent: 0 },
      });
  });
});

describe("a plain peer may have lost the session that sends", () => {
  const renew: Event = { type: "RENEW" };

  it("another one is opened at once, and what had not left goes in that", () => {
    conversationWith(send("m1"), established(), sealed("m1"))
      .when(renew)
      .then({
        state: "opening",
        effects: [["establish", { peer }]],
        context: { session: null, outbox: [{ id: "m1", again: true }] },
      })
      .when(established("s2"))
      .then({ state: "open", effects: [["seal", { peer, ids: ["m1"] }]] });
  });

  it("also when nothing waits; then a failure is not tried again", () => {
    conversationWith(established())
      .when(renew)
      .then({ state: "opening", effects: [["establish", { peer }]], context: { session: null } })
      .when({ type: "ESTABLISH_FAILED", code: "registry_unreachable", final: false })
      .then({ state: "closed", timers: {} })
      .when(renew)
      .then({ state: "opening", effects: [["establish", { peer }]] });
  });

  it("one that is being opened already is enough", () => {
    conversationWith(send("m1")).when(renew).thenRefused();
  });

  it("what nobody knows of any more is not kept, and its blob goes", () => {
    conversationWith(send("m1", blob), established(), sealed("m1"), {
      type: "TRANSMITTED",
      ids: ["m1"],
      proof: "written",
    })
      .when({ type: "UNCERTAIN", ids: ["m1", "elsewhere"] })
      .then({ state: "open", effects: [["discard", { bodies: [blob] }]], context: { unconfirmed: [], sent: 1 } });
  });
});

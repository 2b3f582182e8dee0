import { describe, expect, it } from "vitest";
import {
  blob,
  conversationWith,
  established,
  failed,
  lost,
  peer,
  received,
  sealed,
  send,
  transmitted,
} from "../../../test/conversations.ts";
import { ALICE, BOB, type Event, keepsTheLaws, T0 } from "../../../test/specification.ts";
import { RETRY_MAX_MS, RETRY_MIN_MS } from "../../limits.ts";
import { conversationDefinition as conversation } from "./machine.ts";

describe("no session can be opened", () => {
  it("it is tried again later", () => {
    conversationWith(send("m1"))
      .when(failed(false))
      .then({ state: "waiting", effects: [], context: { attempts: 1 }, timers: { retry: RETRY_MIN_MS * 2 } })
      .whenTimer("retry")
      .then({ state: "opening", effects: [["establish", { peer }]], timers: {} });
  });

  it("messages queue meanwhile without hurrying it", () => {
    conversationWith(send("m1"), failed(false))
      .when(send("m2"), T0 + 10)
      .then({ state: "waiting", effects: [], timers: { retry: RETRY_MIN_MS * 2 - 10 } });
  });

  it("the pauses double up to a limit, and begin anew when the peer is heard", () => {
    let at = conversationWith(send("m1"));
    const pauses: number[] = [];
    for (let attempt = 0; attempt < 20; attempt++) {
      at = at.when(failed(false));
      pauses.push(at.deadlines().retry ?? 0);
      at = at.whenTimer("retry");
    }
    for (const [index, pause] of pauses.slice(1).entries())
      expect(pause).toBe(Math.min(RETRY_MAX_MS, (pauses[index] ?? 0) * 2));
    expect(pauses.at(-1)).toBe(RETRY_MAX_MS);
    at.when(received("r1"))
      .then({ state: "opening", context: { attempts: 0 } })
      .when(failed(false))
      .then({ state: "waiting", timers: { retry: pauses[0] ?? 0 } });
  });

  it("a knock of the peer opens it from its side, and ends the wait", () => {
    conversationWith(send("m1"), failed(false))
      .when({ type: "ESTABLISHED", session: "theirs", role: "responder" })
      .then({ state: "open", effects: [["seal", { peer, ids: ["m1"] }]], context: { session: "theirs" }, timers: {} });
  });

  it("never, when trying again cannot help: then what waits is told to be undeliverable, and a new message tries anew", () => {
    conversationWith(send("m1"), send("m2"), { type: "UNDELIVERABLE", ids: ["m1", "m2"], code: "peer_unknown" })
      .when(failed(true))
      .then({ state: "closed", context: { outbox: [], undeliverable: 2 }, timers: {} })
      .when(send("m3"))
      .then({ state: "opening", effects: [["establish", { peer }]] });
  });

  it("a failure that comes when a session is there already means nothing", () => {
    conversationWith(send("m1"), established()).when(failed(true)).thenRefused();
  });
});

describe("the session is lost", () => {
  it("what it had encrypted and the relay does not have is encrypted anew with the next one", () => {
    conversationWith(send("m1"), send("m2"), established(), sealed("m1"))
      .when(lost())
      .then({
        state: "waiting",
        effects: [],
        context: { session: null, attempts: 1 },
        timers: { retry: RETRY_MIN_MS * 2 },
      })
      .whenTimer("retry")
      .when(established("s2"))
      .then({ state: "open", effects: [["seal", { peer, ids: ["m1", "m2"] }]] });
  });

  it("what was in a frame before is marked, and keeps the id of its new frame", () => {
    conversationWith(send("m1"), send("m2"), established(), sealed("m1"))
      .when(lost())
      .then({
        state: "waiting",
        context: { outbox: [{ id: "m1", again: true }, { id: "m2" }] },
        timers: { retry: RETRY_MIN_MS * 2 },
      })
      .when(established("s2"))
      .when({ ...sealed("m1", "s2"), frame: "f1" })
      .then({
        state: "open",
        effects: [["transmit", { peer, ids: ["m1"] }]],
        context: { outbox: [{ id: "m1", sealed: { session: "s2", frame: "f1" } }, { id: "m2" }] },
      });
  });

  it("with nothing to send there is nothing to open it for", () => {
    conversationWith(established())
      .when(lost())
      .then({ state: "closed", context: { session: null }, timers: {} });
  });

  it("an older session's end only concerns what that one encrypted: it goes in the newer one", () => {
    conversationWith(
      send("m1"),
      established("old"),
      sealed("m1", "old"),
      established("new"),
      send("m2"),
      sealed("m2", "new"),
    )
      .when(lost("old"))
      .then({
        state: "open",
        effects: [["seal", { peer, ids: ["m1"] }]],
        context: {
          session: "new",
          outbox: [
            { id: "m1", at: T0 },
            { id: "m2", sealed: { session: "new" } },
          ],
        },
      })
      .whenResumed()
      .then({
        state: "open",
        effects: [
          ["transmit", { peer, ids: ["m2"] }],
          ["seal", { peer, ids: ["m1"] }],
        ],
      });
  });

  it("what another session had encrypted stays as it is when a new one becomes current", () => {
    conversationWith(send("m1"), established("s1"), sealed("m1", "s1"))
      .when(established("s2"))
      .then({
        state: "open",
        effects: [],
        context: { outbox: [{ sealed: { session: "s1" } }] },
      });
  });
});

describe("a message is received", () => {
  it("chat is unread until it is read", () => {
    conversationWith()
      .when(received("r1"))
      .then({ state: "closed", effects: [], context: { received: 1, unread: 1, handling: [] } })
      .when({ type: "READ", ids: ["r1"] })
      .then({ state: "closed", context: { received: 1, unread: 0 } });
  });

  it("reading more than there is leaves nothing unread, not less", () => {
    conversationWith(received("r1"))
      .when({ type: "READ", ids: ["r1", "r2"] })
      .then({ state: "closed", context: { unread: 0 } });
  });

  it.each(["work", "part"])("%s is handed over, in its order, and is not for the inbox", (kind) => {
    conversationWith(received("r1", kind))
      .when(received("r2", kind))
      .then({
        state: "closed",
        effects: [["handle", { peer, ids: ["r2"] }]],
        context: { received: 2, unread: 0, handling: [{ id: "r1" }, { id: "r2" }] },
      });
  });

  it("work is kept until it was taken over; its blob goes then", () => {
    conversationWith(received("r1", "work", blob), received("r2", "work"))
      .when({ type: "HANDLED", ids: ["r1"] })
      .then({ state: "closed", effects: [["discard", { bodies: [blob] }]], context: { handling: [{ id: "r2" }] } })
      .when({ type: "HANDLED", ids: ["r1"] })
      .thenRefused();
  });
});

describe("after a restart", () => {
  const handling = ["handle", { peer, ids: ["w1"] }] as const;
  const work = received("w1", "work");

  it("closed: work that was not taken over is handed over again", () => {
    conversationWith(work)
      .whenResumed()
      .then({ state: "closed", effects: [handling] });
  });
  it("opening: the session is asked for again", () => {
    conversationWith(work, send("m1"))
      .whenResumed()
      .then({ state: "opening", effects: [handling, ["establish", { peer }]] });
  });
  it("waiting: the pause goes on", () => {
    conversationWith(work, send("m1"), failed(false))
      .whenResumed(T0 + 1)
      .then({ state: "waiting", effects: [handling], timers: { retry: RETRY_MIN_MS * 2 - 1 } });
  });
  it("open: what is encrypted goes on the wire again before anything new is encrypted", () => {
    conversationWith(work, send("m1"), send("m2"), established(), sealed("m1"))
      .whenResumed()
      .then({
        state: "open",
        effects: [handling, ["transmit", { peer, ids: ["m1"] }], ["seal", { peer, ids: ["m2"] }]],
      });
  });
});

describe("what was said is forgotten", () => {
  const forgotten: Event = { type: "FORGOTTEN" };
  const nothingLeft = { outbox: [], handling: [], unread: 0 };
  const forget = ["forget", { peer }] as const;

  it("with a session: it stays, and nothing waits any more", () => {
    conversationWith(send("m1"), established(), received("m2"), received("w1", "work", blob))
      .when(forgotten)
      .then({
        state: "open",
        effects: [["discard", { bodies: [blob] }], forget],
        context: { ...nothingLeft, session: "s1", received: 2 },
      });
  });
  it.each([
    ["opening", []],
    ["waiting", [failed(false)]],
  ])("%s: there is nothing to open a session for", (_, more) => {
    conversationWith(send("m1", blob), ...more)
      .when(forgotten)
      .then({ state: "closed", effects: [["discard", { bodies: [blob] }], forget], context: nothingLeft, timers: {} });
  });
  it("once more, after it was cut short: what is kept elsewhere goes again", () => {
    conversationWith(forgotten)
      .when(forgotten)
      .then({ state: "closed", effects: [forget] });
  });
  it("and what is said then is said as to anyone", () => {
    conversationWith(send("m1"), established(), forgotten)
      .when(send("m2"))
      .then({ state: "open", effects: [["seal", { peer, ids: ["m2"] }]], context: { outbox: [{ id: "m2" }] } });
  });
});

describe("the peer's name", () => {
  const named = (name: string, source: string): Event => ({ type: "NAMED", name, source });

  it("is a hint that the last to say it decides", () => {
    conversationWith(named("bob", "registry"))
      .when(named("robert", "registry"))
      .then({ state: "closed", effects: [], context: { name: "robert", address: null, peer: ALICE } });
  });
  it("by which it was addressed stays what it was, whatever the peer calls itself later", () => {
    conversationWith(named("bob", "address"))
      .when(named("mallory", "registry"))
      .then({ state: "closed", context: { name: "mallory", address: "bob" } });
  });
});

describe("the peer", () => {
  it("counts as verified from when safety numbers were compared, until that is withdrawn", () => {
    conversationWith({ type: "VERIFIED" })
      .then({ state: "closed", effects: [], context: { verified: T0 } })
      .when({ type: "UNVERIFIED" })
      .then({ state: "closed", context: { verified: null } });
  });
});

keepsTheLaws(conversation, {
  life: [
    send("a"),
    send("b", blob, "work"),
    failed(false),
    established("a"),
    sealed("a", "a"),
    transmitted("a"),
    received("c", "work", blob),
    lost("a"),
    { ...established("b"), role: "responder" },
    sealed("b", "b"),
    { type: "NAMED", name: BOB, source: "registry" },
    { type: "VERIFIED" },
    send("d", blob, "work"),
    { type: "FORGOTTEN" },
    { type: "ANNOUNCED", extensions: ["receipts"] },
    { type: "HELD" },
    received("e"),
    received("f", "work", blob),
    { type: "ADMITTED" },
    { type: "READ", ids: ["e"] },
    { type: "RECEIPTED", delivered: ["e"], read: [] },
    send("g"),
    established("c"),
    sealed("g", "c"),
    transmitted("g"),
    { type: "UNSENT", ids: ["g"] },
    { type: "DECLINED" },
  ],
  restful: ["closed", "open", "opening"],
});

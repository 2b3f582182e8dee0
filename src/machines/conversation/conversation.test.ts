import { describe, expect, it } from "vitest";
import { ALICE, BOB, type Event, given, keepsTheLaws, T0, words } from "../../../test/specification.ts";
import { persist, restore, step } from "../../actors/state.ts";
import { OUTBOX_MESSAGES_MAX, RETRY_MAX_MS, RETRY_MIN_MS } from "../../limits.ts";
import { conversationDefinition as conversation } from "./machine.ts";

const send = (id: string, body: object = words(id), kind = "chat"): Event => ({
  type: "SEND",
  id,
  kind,
  body,
  size: 1,
});
const header = { dh: `${"A".repeat(43)}=`, pn: 0, n: 0 };
const sealed = (id: string, session = "s1"): Event => ({ type: "SEALED", id, session, header, nonce: "nonce" });
const established = (session = "s1"): Event => ({ type: "ESTABLISHED", session, role: "initiator" });
const received = (id: string, kind = "chat", body: object = words(id)): Event => ({
  type: "RECEIVED",
  id,
  session: "s1",
  kind,
  body,
  size: 1,
});
const transmitted = (...ids: string[]): Event => ({ type: "TRANSMITTED", ids, proof: "accepted" });
const lost = (session = "s1"): Event => ({ type: "SESSION_LOST", session, code: "peer_refused" });
const failed = (final: boolean): Event => ({ type: "ESTABLISH_FAILED", code: "registry_unreachable", final });
const blob = { blob: "f".repeat(32), size: 9 };
const peer = ALICE;
const conversationWith = (...events: Event[]) => given(conversation, ALICE, ...events);

describe("a message is sent", () => {
  it("the first one opens a session", () => {
    conversationWith()
      .when(send("m1"))
      .then({ state: "opening", effects: [["establish", { peer }]], context: { outbox: [{ id: "m1", at: T0 }] } });
  });

  it("more of them wait for the session, in their order", () => {
    conversationWith(send("m1"))
      .when(send("m2"))
      .then({ state: "opening", effects: [], context: { outbox: [{ id: "m1" }, { id: "m2" }] } });
  });

  it("all that waits is encrypted, in order, once there is a session", () => {
    conversationWith(send("m1"), send("m2"))
      .when(established())
      .then({
        state: "open",
        effects: [["seal", { peer, ids: ["m1", "m2"] }]],
        context: { session: "s1" },
        timers: {},
      });
  });

  it("with a session it is encrypted at once, alone", () => {
    conversationWith(send("m1"), established())
      .when(send("m2"))
      .then({ state: "open", effects: [["seal", { peer, ids: ["m2"] }]] });
  });

  it("what was encrypted goes on the wire, and is remembered with its header until the relay has it", () => {
    conversationWith(send("m1"), established())
      .when(sealed("m1"))
      .then({
        state: "open",
        effects: [["transmit", { peer, ids: ["m1"] }]],
        context: { outbox: [{ id: "m1", sealed: { session: "s1", header, nonce: "nonce" } }] },
      });
  });

  it("is done when the relay has it", () => {
    conversationWith(send("m1"), established(), sealed("m1"))
      .when(transmitted("m1"))
      .then({ state: "open", context: { outbox: [], sent: 1 } });
  });

  it("several can be done at once, and ids that are not waiting are not counted", () => {
    conversationWith(send("m1"), send("m2"), established(), sealed("m1"), sealed("m2"))
      .when(transmitted("m1", "m2", "elsewhere"))
      .then({ state: "open", context: { outbox: [], sent: 2 } });
  });

  it("the blob of work goes when the relay has it, the words of chat stay where they are", () => {
    conversationWith(send("m1", blob, "work"), send("m2"), established(), sealed("m1"), sealed("m2"))
      .when(transmitted("m1", "m2"))
      .then({ state: "open", effects: [["discard", { bodies: [blob] }]] });
  });

  it("what cannot be delivered leaves the queue, and is counted", () => {
    conversationWith(send("m1", blob, "work"), established())
      .when({ type: "UNDELIVERABLE", ids: ["m1"], code: "peer_refused" })
      .then({ state: "open", effects: [["discard", { bodies: [blob] }]], context: { outbox: [], undeliverable: 1 } });
  });
});

describe("a message is never sent twice", () => {
  it.each(["opening", "waiting", "open"])("an id that waits is refused while %s", (state) => {
    const history = { opening: [], waiting: [failed(false)], open: [established()] }[state] ?? [];
    conversationWith(send("m1"), ...history)
      .when(send("m1"))
      .thenRefused();
  });

  it("what is encrypted is not encrypted again", () => {
    conversationWith(send("m1"), established(), sealed("m1")).when(sealed("m1")).thenRefused();
  });

  it("nothing is encrypted that does not wait, or without a session", () => {
    conversationWith(established()).when(sealed("m1")).thenRefused();
    conversationWith(send("m1")).when(sealed("m1")).thenRefused();
    conversationWith(send("m1"), failed(false)).when(sealed("m1")).thenRefused();
  });

  it("a transmission is noted once", () => {
    conversationWith(send("m1"), established(), sealed("m1"), transmitted("m1")).when(transmitted("m1")).thenRefused();
  });
});

describe("the queue has a limit", () => {
  const first = conversationWith(send("m0")).state;
  // A queue one short of full, as a restart finds it.
  const outbox = Array.from({ length: OUTBOX_MESSAGES_MAX - 1 }, (_, id) => ({
    ...first.snapshot.context.outbox[0],
    id: `m${id}`,
  }));
  const full = restore(conversation, { ...persist(first), context: { ...first.snapshot.context, outbox } });

  it(`takes ${OUTBOX_MESSAGES_MAX} messages and refuses the next`, () => {
    const last = step(conversation, full, send("last"), T0);
    expect(last.accepted).toBe(true);
    expect(step(conversation, last.state, send("one more"), T0)).toEqual({ ...last, effects: [], accepted: false });
  });

  it("has room again when one of them is gone", () => {
    const { state } = step(conversation, full, send("last"), T0);
    const drained = step(conversation, state, { type: "UNDELIVERABLE", ids: ["m0"], code: "peer_unknown" }, T0);
    expect(step(conversation, drained.state, send("one more"), T0).accepted).toBe(true);
  });
});

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

  it("an older session's end only concerns what that one encrypted", () => {
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
        effects: [],
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
  ],
  restful: ["closed", "open", "opening"],
});

import { describe, expect, it } from "vitest";
import {
  blob,
  confirmed,
  conversationWith,
  established,
  failed,
  header,
  lost,
  nothing,
  peer,
  received,
  sealed,
  send,
  transmitted,
} from "../../../test/conversations.ts";
import { type Event, T0 } from "../../../test/specification.ts";
import { persist, restore, step } from "../../actors/state.ts";
import { OUTBOX_MESSAGES_MAX } from "../../limits.ts";
import { conversationDefinition as conversation } from "./machine.ts";

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
    const sent = [send("m1", blob, "work"), send("m2"), established(), sealed("m1"), sealed("m2")];
    conversationWith(...sent, confirmed())
      .when(transmitted("m1", "m2"))
      .then({ state: "open", effects: [["discard", { bodies: [blob] }]], context: { unconfirmed: [], sent: 2 } });
  });

  it("until the peer has shown that it holds the session, it is kept", () => {
    const sent = [send("m1", blob, "work"), established(), sealed("m1")];
    conversationWith(...sent)
      .when(transmitted("m1"))
      .then({ state: "open", effects: [], context: { outbox: [], unconfirmed: [{ id: "m1" }], sent: 1 } });
    for (const proof of [confirmed(), received("r1"), { type: "ACKNOWLEDGED", id: "a1", session: "s1", ...nothing }])
      conversationWith(...sent, transmitted("m1"))
        .when(proof)
        .then({ state: "open", effects: [["discard", { bodies: [blob] }]], context: { unconfirmed: [], sent: 1 } });
    conversationWith(...sent, transmitted("m1"))
      .when(confirmed("s2"))
      .then({ state: "open", effects: [], context: { unconfirmed: [{ id: "m1" }] } });
  });

  it("what the relay took in a session that is lost goes again, before all that is queued", () => {
    const sent = [send("m1"), send("m2"), established(), sealed("m1"), sealed("m2"), transmitted("m1", "m2")];
    conversationWith(...sent, send("m3"), { type: "UNSENT", ids: ["m1", "m2"] })
      .when(lost())
      .then({
        state: "waiting",
        context: { outbox: [{ id: "m1" }, { id: "m2" }, { id: "m3" }], unconfirmed: [], sent: 0 },
      });
  });

  it("they go again in their order, in whatever order the relay said that it has them", () => {
    const numbered = (id: string, n: number): Event => ({ ...sealed(id), header: { ...header, n } });
    const three = [send("m1"), send("m2"), send("m3"), established(), ...["m1", "m2", "m3"].map(numbered)];
    const back = (...ids: string[]): Event => ({ type: "UNSENT", ids });
    const inOrder = { outbox: [{ id: "m1" }, { id: "m2" }, { id: "m3" }] };
    conversationWith(...three, transmitted("m3"), transmitted("m1"), transmitted("m2"))
      .when(back("m1", "m2", "m3"))
      .then({ state: "open", context: inOrder });
    // Of the first the relay has not spoken yet.
    conversationWith(...three, transmitted("m2"), transmitted("m3"))
      .when(back("m2", "m3"))
      .then({ state: "open", context: inOrder });
    conversationWith(...three, transmitted("m3"), { type: "ANNOUNCED", extensions: ["resends"] })
      .when({ type: "ESTABLISHED", session: "s2", role: "initiator" })
      .then({ state: "open", context: inOrder });
  });

  it("what it took in a session that did not send any more goes in the one that does", () => {
    const sent = [send("m1"), established("old"), sealed("m1", "old"), transmitted("m1"), established("new")];
    conversationWith(...sent, { type: "UNSENT", ids: ["m1"] })
      .when(lost("old"))
      .then({ state: "open", effects: [["seal", { peer, ids: ["m1"] }]], context: { outbox: [{ id: "m1" }] } });
  });

  it("when another session sends, what was sealed in one that is not proved goes in that one, first", () => {
    const ours = { type: "ANNOUNCED", extensions: ["resends"] };
    const sent = [send("m1"), send("m2"), established("old"), sealed("m1", "old"), sealed("m2", "old")];
    conversationWith(ours, ...sent, transmitted("m1"), send("m3"))
      .when(established("new"))
      .then({
        state: "open",
        effects: [["seal", { peer, ids: ["m1", "m2", "m3"] }]],
        context: { unconfirmed: [], sent: 0 },
      });
    conversationWith(ours, ...sent, transmitted("m1"), confirmed("old"))
      .when(established("new"))
      .then({ state: "open", effects: [], context: { sent: 1, outbox: [{ id: "m2", sealed: { session: "old" } }] } });
    // A plain peer would take it for another message.
    conversationWith(...sent, transmitted("m1"))
      .when(established("new"))
      .then({ state: "open", effects: [], context: { unconfirmed: [{ id: "m1" }] } });
  });

  it("and with none that sends another one is opened for it", () => {
    const sent = [send("m1"), established("old"), sealed("m1", "old"), transmitted("m1"), established("new")];
    const closed = conversationWith(...sent, lost("new"), { type: "UNSENT", ids: ["m1"] });
    closed.when(lost("old")).then({ state: "waiting", context: { outbox: [{ id: "m1" }] } });
    closed
      .when(lost("old"))
      .whenTimer("retry")
      .then({ state: "opening", effects: [["establish", { peer }]] });
  });

  it("what the relay says of a frame that was lost meanwhile concerns none that goes again", () => {
    conversationWith(send("m1"), send("m2"), established(), sealed("m1"), lost()).when(transmitted("m1")).thenRefused();
    conversationWith(send("m1"), send("m2"), established(), sealed("m1"))
      .when(transmitted("m1", "m2"))
      .then({ state: "open", context: { outbox: [{ id: "m2" }], sent: 1 } });
  });

  it("what the peer acknowledged is not kept, whatever session it went in; a proof is noted once", () => {
    const sent = [send("m1", blob, "work"), established("old"), sealed("m1", "old"), transmitted("m1")];
    conversationWith(...sent)
      .when({ type: "ACKNOWLEDGED", id: "a1", session: "new", delivered: ["m1"], read: [] })
      .then({ state: "open", effects: [["discard", { bodies: [blob] }]], context: { unconfirmed: [] } });
    conversationWith(...sent, confirmed("old"))
      .when(confirmed("old"))
      .thenRefused();
  });

  it("what the relay took can still be given up", () => {
    conversationWith(send("m1"), established(), sealed("m1"), transmitted("m1"))
      .when({ type: "UNDELIVERABLE", ids: ["m1"], code: "peer_refused" })
      .then({ state: "open", context: { unconfirmed: [], sent: 0, undeliverable: 1 } });
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

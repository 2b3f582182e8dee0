import { describe, expect, it } from "vitest";
import { MessagesProjection } from "../../src/actors/projections/messages.ts";
import { RECENT_IDS_MAX } from "../../src/limits.ts";

const KEPT = 10;

/** A projection, and what it is told: each event as a commit of its own. */
function told(kept = KEPT) {
  let messages = new MessagesProjection(kept);
  let number = 0;
  const tell = (peer: string, event: { readonly type: string; readonly [field: string]: unknown }) => {
    number++;
    const place = { segment: `${number >> 4}.jsonl`, offset: number, length: 1 };
    messages.apply({ number, at: number, entries: [{ stream: `conversation/${peer}`, event }], place });
  };
  return {
    get messages() {
      return messages;
    },
    received: (peer: string, ...ids: string[]) => {
      for (const id of ids) tell(peer, { type: "RECEIVED", id, kind: "chat" });
    },
    worked: (peer: string, id: string) => tell(peer, { type: "RECEIVED", id, kind: "work" }),
    held: (peer: string) => tell(peer, { type: "HELD" }),
    admitted: (peer: string) => tell(peer, { type: "ADMITTED" }),
    read: (peer: string, ...ids: string[]) => tell(peer, { type: "READ", ids }),
    sent: (peer: string, ...ids: string[]) => {
      for (const id of ids) tell(peer, { type: "SEND", id, kind: "chat" });
    },
    transmitted: (peer: string, ...ids: string[]) => tell(peer, { type: "TRANSMITTED", ids }),
    refused: (peer: string, ...ids: string[]) => tell(peer, { type: "UNDELIVERABLE", ids, code: "peer_refused" }),
    /** As a restart does: through the text of a snapshot file. */
    restart: () => {
      const captured: unknown = JSON.parse(JSON.stringify(messages.capture()));
      messages = new MessagesProjection(kept);
      messages.restore(captured);
      expect(messages.capture()).toEqual(captured);
    },
  };
}

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => `m${from + index}`);
const listed = (messages: MessagesProjection) => [...messages.received()].map(({ id, state }) => `${id} ${state}`);

describe("the index of messages", () => {
  it("is the same after a restart, with every place and time", () => {
    const world = told();
    world.received("a", "one", "two");
    world.received("b", "one");
    world.read("a", "one");
    world.sent("a", "x", "y", "z");
    world.transmitted("a", "x");
    world.refused("a", "y");
    world.worked("b", "w");
    const before = [...world.messages.received()];
    const states = () => ["x", "y", "z"].map((id) => world.messages.outgoing("a", id)?.state);
    expect(states()).toEqual(["sent", "undeliverable", "queued"]);
    world.restart();
    expect([...world.messages.received()]).toEqual(before);
    expect(states()).toEqual(["sent", "undeliverable", "queued"]);
    expect([world.messages.hasUnread("a"), world.messages.hasUnread("b"), world.messages.hasUnread("c")]).toEqual([
      true,
      true,
      false,
    ]);
    expect(["one", "w", "x"].map((id) => world.messages.wasReceived("b", id))).toEqual([true, true, false]);
  });

  it("keeps every unread and every queued message, however old, and the newest of the others", () => {
    const world = told();
    const all = numbers(0, 100);
    for (const id of all) {
      world.received("a", id);
      world.sent("a", id);
      if (id === "m3" || id === "m50") continue;
      world.read("a", id);
      world.transmitted("a", id);
      if (id === "m40") world.restart();
    }
    const there = listed(world.messages);
    expect(there).toContain("m3 unread");
    expect(there).toContain("m50 unread");
    expect(there.slice(-KEPT)).toEqual(numbers(100 - KEPT, 100).map((id) => `${id} read`));
    expect(there.length).toBeLessThanOrEqual(2 * KEPT + 2);
    expect(world.messages.outgoing("a", "m3")?.state).toBe("queued");
    expect(world.messages.outgoing("a", "m99")?.state).toBe("sent");
    expect(world.messages.outgoing("a", "m4")).toBeUndefined();
    world.read("a", "m3", "m50");
    expect(world.messages.hasUnread("a")).toBe(false);
  });

  it("gives the unread ones in the order in which they came, and none of who is held", () => {
    const world = told();
    const unread = () => [...world.messages.unread()].map(({ peer, id }) => `${peer} ${id}`);
    world.held("b");
    world.received("a", "one", "two");
    world.received("b", "one");
    world.received("a", "three");
    world.read("a", "two");
    expect(unread()).toEqual(["a one", "a three"]);
    world.restart();
    world.admitted("b");
    expect(unread()).toEqual(["a one", "b one", "a three"]);
  });

  it("knows what was received when it is listed no more, also after a restart", () => {
    const world = told();
    for (const id of numbers(0, 100)) {
      world.received("a", id);
      world.read("a", id);
    }
    world.restart();
    expect(numbers(0, 100).filter((id) => !world.messages.wasReceived("a", id))).toEqual([]);
    expect(world.messages.wasReceived("b", "m1")).toBe(false);
  });

  it("forgets the oldest ids when there are too many", () => {
    const world = told();
    for (let number = 0; number <= RECENT_IDS_MAX; number++) world.worked("a", `w${number}`);
    world.restart();
    expect(["w0", "w1", `w${RECENT_IDS_MAX}`].map((id) => world.messages.wasReceived("a", id))).toEqual([
      false,
      true,
      true,
    ]);
  });

  it.each([
    ["nothing", undefined],
    ["another form", { incoming: [], outgoing: [], work: [] }],
    ["a row that is too short", { incoming: [["id", 0]], outgoing: [], recent: [], peers: ["a"], segments: ["s"] }],
    [
      "a peer that is not there",
      { incoming: [["id", 7, 1, 0, 0, 0, 1]], outgoing: [], recent: [], peers: ["a"], segments: ["s"] },
    ],
    [
      "an unknown state",
      { incoming: [["id", 0, 1, 99, 0, 0, 1]], outgoing: [], recent: [], peers: ["a"], segments: ["s"] },
    ],
  ])("%s is no capture", (_, state) => {
    expect(() => new MessagesProjection().restore(state)).toThrow();
  });
});

import { expect, it } from "vitest";
import { UNKNOWN_KINDS_MAX } from "../../src/actors/limits.ts";
import { Link } from "../../src/actors/link.ts";
import { type Ports, realPorts, type SocketEvents } from "../../src/actors/ports.ts";
import { ActorSystem } from "../../src/actors/system.ts";
import { identityFromSeed } from "../../src/crypto/index.ts";
import { LINK_BUFFER_SIZE_MAX } from "../../src/limits.ts";
import { linkDefinition } from "../../src/machines/link/machine.ts";
import { VirtualClock } from "../simulation/clock.ts";

const FRAME = { v: 1, type: "knock", id: "frame-1" };

/** A link to a relay of which the test says what it answers, on a clock that the test moves. */
function linked({ closesAtOnce = true, buffered = 0 } = {}) {
  const clock = new VirtualClock();
  let relay: SocketEvents | undefined;
  const sent: { readonly type: string }[] = [];
  const notes: string[] = [];
  const waiting = { bytes: buffered };
  const network: Ports["network"] = {
    dial: (_, events) => {
      relay = events;
      const close = () => closesAtOnce && events.closed(1000, "");
      return {
        get buffered() {
          return waiting.bytes;
        },
        ping: () => undefined,
        send: (text) => sent.push(JSON.parse(text.toString())),
        close,
      };
    },
    fetch: () => Promise.reject(new TypeError("fetch failed")),
  };
  const system = new ActorSystem({
    definitions: [linkDefinition],
    projections: [],
    clock,
    onFault: (error) => {
      throw error;
    },
  });
  const link = new Link({
    system,
    ports: { ...realPorts(network), clock },
    identity: () => identityFromSeed(new Uint8Array(32)),
    onFrame: () => undefined,
    onPlain: () => undefined,
    onUp: () => undefined,
    onNote: (text) => notes.push(text),
  });
  system.start();
  link.connect("ws://relay");
  relay?.opened();
  const leave = (bytes: number) => {
    waiting.bytes -= bytes;
    relay?.sent?.();
  };
  const saySomething = (text: string) => relay?.received(text);
  return {
    clock,
    link,
    sent,
    notes,
    leave,
    saySomething,
    /** What a relay of ours says: its frames carry a version. */
    say: (frame: object) => saySomething(JSON.stringify({ v: 1, ...frame })),
    close: (code: number) => relay?.closed(code, ""),
  };
}

/** What the reference relay says to a frame that it does not know, as it was recorded. */
const UNKNOWN_TYPE = '{"type": "error", "detail": "Unknown frame type: fetch_pending"}';

it("a relay that is slow to greet is not taken for a plain one: what it has not accepted is not transmitted", async () => {
  const { clock, link, say } = linked();
  await clock.run(8_000);
  expect(link.online).toBe(false);
  say({ type: "connected", extensions: ["accepted"] });
  expect(link.online).toBe(true);
  const proofs: string[] = [];
  link.transmit(FRAME, (proof) => proofs.push(proof));
  expect(proofs).toEqual([]);
  say({ type: "accepted", id: FRAME.id });
  expect(proofs).toEqual(["accepted"]);
});

it("a plain relay shows that it is one by not knowing what is asked of it", async () => {
  const { link, notes, saySomething, sent } = linked();
  expect(sent.map(({ type }) => type)).toEqual(["connect", "fetch_pending"]);
  saySomething(UNKNOWN_TYPE);
  expect([link.malformed, notes]).toEqual([0, []]);
  expect(link.online).toBe(true);
  const proofs: string[] = [];
  link.transmit(FRAME, (proof) => proofs.push(proof));
  expect(proofs).toEqual(["written"]);
});

it("a relay that refuses the connect is not taken for a plain one", () => {
  const { link, say } = linked();
  say({ type: "error", code: "connect_refused", message: "Proof of possession failed." });
  expect(link.online).toBe(false);
});

it.each([
  ["DID proof failed: invalid signature", 4005, "refused", "DID proof failed: invalid signature"],
  ["DID proof failed: DID does not match public_key (sha256 mismatch)", 4005, "refused", "sha256 mismatch"],
  // A clock that was set right is let in without a new start.
  ["DID proof failed: timestamp outside replay window", 4005, "waiting", "set it by the network"],
  ["Authentication failed", 4003, "refused", "access token"],
  ["First frame must be 'connect'", 4001, "waiting", "First frame must be 'connect'"],
])("a refused connect tells the person what the relay said: %s", (detail, code, state, reason) => {
  const { close, link, notes, saySomething } = linked();
  saySomething(JSON.stringify({ type: "error", detail }));
  close(code);
  expect([link.value, link.malformed]).toEqual([state, 0]);
  expect(link.context?.closed).toEqual({ code, reason: expect.stringContaining(reason) });
  expect(notes).toEqual([expect.stringContaining(detail)]);
});

it("an error that is too long to be quoted is an answer all the same", () => {
  const { link, saySomething } = linked();
  saySomething(JSON.stringify({ type: "error", detail: `Unknown frame type: ${"x".repeat(10_000)}` }));
  expect([link.online, link.malformed]).toEqual([true, 0]);
});

it("frames in no known form are told of once for each kind, with their type and none of their words", () => {
  const { link, notes, saySomething } = linked();
  saySomething(UNKNOWN_TYPE);
  const unknown = [{ type: "typing", text: "secret" }, { type: "message", v: 2, text: "secret" }, { type: "a secret" }];
  for (const frame of [...unknown, ...unknown]) saySomething(JSON.stringify(frame));
  saySomething("secret");
  expect(link.malformed).toBe(7);
  expect(notes).toHaveLength(4);
  expect(notes.join()).toMatch(/type typing .*type message .*without a readable type .*not JSON/s);
  expect(notes.join()).not.toContain("secret");
  for (let kind = 0; kind < 3 * UNKNOWN_KINDS_MAX; kind++) saySomething(JSON.stringify({ type: `kind-${kind}` }));
  expect(notes).toHaveLength(UNKNOWN_KINDS_MAX + 1);
});

it("a link that was let go of has nothing on the wire, also while its socket is still closing", () => {
  const { link, say } = linked({ closesAtOnce: false });
  say({ type: "connected", extensions: ["accepted"] });
  link.transmit(FRAME, () => undefined);
  expect(link.awaits(FRAME.id)).toBe(true);
  link.pause();
  expect([link.online, link.awaits(FRAME.id)]).toEqual([false, false]);
});

it("who has much to send waits while the socket is full, until it has room or is gone", async () => {
  const over = LINK_BUFFER_SIZE_MAX + 2;
  const { link, leave, say } = linked({ buffered: over });
  say({ type: "connected", extensions: ["accepted"] });
  const order: string[] = [];
  const first = link.room().then(() => order.push("room"));
  leave(1);
  order.push("still full");
  leave(1);
  await first;
  expect(order).toEqual(["still full", "room"]);
  leave(-over);
  const second = link.room().then(() => order.push("gone"));
  link.disconnect();
  await second;
  expect(order.at(-1)).toBe("gone");
});

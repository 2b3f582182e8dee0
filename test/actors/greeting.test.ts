import { expect, it } from "vitest";
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
    onNote: () => undefined,
  });
  system.start();
  link.connect("ws://relay");
  relay?.opened();
  const leave = (bytes: number) => {
    waiting.bytes -= bytes;
    relay?.sent?.();
  };
  return { clock, link, sent, leave, say: (frame: object) => relay?.received(JSON.stringify({ v: 1, ...frame })) };
}

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
  const { link, say, sent } = linked();
  expect(sent.map(({ type }) => type)).toEqual(["connect", "fetch_pending"]);
  say({ type: "error", detail: "Unknown frame type: fetch_pending" });
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

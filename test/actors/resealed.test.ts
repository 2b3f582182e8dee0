import { expect, it } from "vitest";
import { until } from "../../src/actors/inbox.ts";
import { realNetwork } from "../../src/actors/network.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { type Ports, realPorts, type SocketEvents } from "../../src/actors/ports.ts";
import { call, filtered, openWorld } from "./world.ts";

const PATIENCE = { timeoutMs: 20_000, signal: new AbortController().signal, concerns: () => true };

it("a message whose session is refused while the relay holds its frame arrives all the same, and once", async () => {
  const world = await openWorld();
  const bob = await world.open("bob");
  const { did } = await call(bob, "whoami", {});
  await bob.close();
  const to = did ?? "";

  // The first knock is lost on the way, and the relay's word that it has the message is lost on the way back.
  const knocks: string[] = [];
  const frames: { readonly id: string; readonly message_id?: string }[] = [];
  const sent = Promise.withResolvers<void>();
  let isFirst = true;
  const alice = await world.open(
    "alice",
    filtered((frame, direction) => {
      if (frame.type === "knock" && direction === "out") {
        knocks.push(String(frame.id));
        return !isFirst;
      }
      if (frame.type === "message" && direction === "out") {
        frames.push({ id: String(frame.id), ...(frame.message_id ? { message_id: String(frame.message_id) } : {}) });
      }
      if (frame.type === "accepted" && isFirst) {
        sent.resolve();
        return false;
      }
      return true;
    }),
  );
  await call(alice, "send", { to, message: "hello", id: "m1" });
  await sent.promise;
  isFirst = false;
  await alice.knocks.onReject({
    v: 1,
    type: "knock_reject",
    from: to,
    to: "",
    id: "r",
    knock_id: knocks[0] ?? "",
  });
  expect(await call(alice, "sent", { to, id: "m1", wait_ms: 20_000 })).toMatchObject({ state: "sent" });
  expect(frames).toEqual([{ id: "m1" }, { id: expect.not.stringMatching("m1"), message_id: "m1" }]);

  const again = await world.open("bob");
  expect(await until(again, () => again.core.link.caughtUp, PATIENCE)).toBe(true);
  const { messages } = await call(again, "await", { from: [(await call(alice, "whoami", {})).did ?? ""] });
  expect(messages).toMatchObject([{ id: "m1", body: "hello" }]);
  await call(alice, "send", { to, message: "and more", id: "m2" });
  const later = await call(again, "await", { from: [messages[0]?.from ?? ""] });
  expect(later.messages).toMatchObject([{ id: "m2", body: "and more" }]);
});

it("so do hundreds of them", async () => {
  const world = await openWorld();
  const bob = await world.open("bob");
  const { did } = await call(bob, "whoami", {});
  await bob.close();
  const to = did ?? "";

  const count = 300;
  const words = Array.from({ length: count }, (_, index) => `m${index}`);
  const knocks: string[] = [];
  let left = count;
  const allSent = Promise.withResolvers<void>();
  let isFirst = true;
  const alice = await world.open(
    "alice",
    filtered((frame, direction) => {
      if (frame.type === "knock" && direction === "out") {
        knocks.push(String(frame.id));
        return !isFirst;
      }
      if (frame.type === "message" && direction === "out" && --left === 0) allSent.resolve();
      // Of the first frames, which go by the messages' own ids, nobody says that the relay has them.
      return !(frame.type === "accepted" && words.includes(String(frame.id)));
    }),
  );
  await Promise.all(words.map((id) => call(alice, "send", { to, message: id, id })));
  await allSent.promise;
  isFirst = false;
  const reject = { v: 1, type: "knock_reject", from: to, to: "", id: "r" } as const;
  await alice.knocks.onReject({ ...reject, knock_id: knocks[0] ?? "" });
  await call(alice, "settle", { wait_ms: 20_000 });

  const again = await world.open("bob");
  const received = () => [...again.core.messages.received()].map(({ id }) => id);
  expect(await until(again, () => received().length === count, PATIENCE)).toBe(true);
  expect(received()).toEqual(words);
});

const didOf = ({ core }: MeshNode) => core.keyring.identity.did;

/** Whoever can speak in the peer's name rejects the session that sends, unless the peer has shown that it holds it. */
async function reject(node: MeshNode, from: MeshNode): Promise<void> {
  const { session } = node.core.system.state(`conversation/${didOf(from)}`)?.snapshot.context ?? {};
  await node.knocks.onReject({
    v: 1,
    type: "knock_reject",
    from: didOf(from),
    to: didOf(node),
    id: "r",
    knock_id: session,
  });
}

it("the relay's word for a frame that was lost is none for the one in which the message goes then", async () => {
  const world = await openWorld();
  const bob = await world.open("bob");
  let isFirst = true;
  const [first, again] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let speak: SocketEvents["received"] = () => undefined;
  const given = filtered((frame, direction) => {
    if (direction === "out" && frame.type === "knock") return !isFirst;
    if (direction === "in" && frame.type === "accepted" && frame.id === "m1") {
      first.resolve();
      return false;
    }
    if (direction === "out" && frame.type === "message" && frame.message_id === "m1" && isFirst) {
      // The second frame is lost on the way, and the relay's word for the first comes now.
      speak(JSON.stringify({ v: 1, type: "accepted", id: "m1" }));
      again.resolve();
      return false;
    }
    return true;
  });
  const ports: Ports = {
    ...given,
    network: {
      ...given.network,
      dial: (url, events) => {
        speak = events.received;
        return given.network.dial(url, events);
      },
    },
  };
  const alice = await world.open("alice", ports);
  await call(alice, "send", { to: didOf(bob), message: "hello", id: "m1" });
  await first.promise;
  await reject(alice, bob);
  await again.promise;
  isFirst = false;
  alice.core.link.pause();
  alice.core.link.proceed();
  expect(await call(bob, "await", { from: [didOf(alice)] })).toMatchObject({ messages: [{ id: "m1" }] });
});

it("a session in which nothing is new is followed all the same: what goes in it later arrives, and so does the answer", async () => {
  const world = await openWorld();
  const bob = await world.open("bob");
  const heard = (frame: Readonly<Record<string, unknown>>) => frame.type !== "knock_accept" && frame.type !== "message";
  let isDeaf = true;
  const alice = await world.open(
    "alice",
    filtered((frame, direction) => direction === "out" || !isDeaf || heard(frame)),
  );
  const to = didOf(bob);
  // More than a ratchet skips at once.
  const words = Array.from({ length: 120 }, (_, index) => `m${index}`);
  await Promise.all(words.map((id) => call(alice, "send", { to, message: id, id })));
  const received = () => [...bob.core.messages.received()].map(({ id }) => id);
  expect(await until(bob, () => received().length === words.length, PATIENCE)).toBe(true);
  expect(await call(alice, "sent", { to, id: "m119", wait_ms: 20_000 })).toMatchObject({ state: "sent" });
  await reject(alice, bob);
  await call(alice, "send", { to, message: "and more", id: "last" });
  expect(await until(bob, () => received().length > words.length, PATIENCE)).toBe(true);
  expect(received()).toEqual([...words, "last"]);
  isDeaf = false;
  await call(bob, "send", { to: didOf(alice), message: "I hear you" });
  expect(await call(alice, "await", { from: [to] })).toMatchObject({ messages: [{ body: "I hear you" }] });
});

it("what still comes through a connection that was let go of is not taken, however many came after it", async () => {
  const world = await openWorld();
  const dialled: SocketEvents[] = [];
  const alice = await world.open(
    "alice",
    realPorts({
      ...realNetwork,
      dial: (url, events) => {
        dialled.push(events);
        return realNetwork.dial(url, events);
      },
    }),
  );
  const { link } = alice.core;
  const isOnline = () => until(alice, () => link.online, PATIENCE);
  for (let count = 0; count < 2; count++) {
    expect(await isOnline()).toBe(true);
    link.pause();
    link.proceed();
  }
  expect(await isOnline()).toBe(true);
  for (const events of dialled.slice(0, 2)) events.received("{}");
  expect(link.malformed).toBe(0);
  dialled.at(-1)?.received("{}");
  expect(link.malformed).toBe(1);
});

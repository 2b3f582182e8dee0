import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";
import { realNetwork } from "../../src/actors/network.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { DRAIN_EVERY_MS, DRAIN_SLICE } from "../../src/cluster/limits.ts";
import { call, openNode } from "../actors/world.ts";
import {
  ACCEPTED,
  agent,
  Client,
  Clock,
  connect,
  connectFrame,
  type Frame,
  ids,
  message,
  openSocket,
  request,
  temporaryDirectory,
  type World,
  world,
} from "./world.ts";

// A server that is to end hands its clients over: nobody new comes, and what anyone sent before hearing of it is kept.

const [alice, bob] = [agent("alice"), agent("bob")];

/** A server by the real clock, on a port and in a directory that another one had. */
function liveWorld(before?: { readonly port: number; readonly directory: string }): Promise<World> {
  const clock = new Clock();
  clock.time = Date.now();
  const { port = 0, directory } = before ?? {};
  return world({ clock, now: Date.now, port, ...(directory !== undefined && { directory }) });
}

/** All that waits for an agent. */
async function mailOf(server: World, identity = bob): Promise<Frame[]> {
  const client = await openSocket(server);
  client.send({ ...connectFrame(identity, new Date().toISOString()), ...ACCEPTED });
  const { pending } = await client.next();
  return client.take(Number(pending));
}

describe("while a server drains", () => {
  test("it is not ready, and takes nobody in: neither sockets nor connects", async () => {
    const server = await world();
    const waiting = await openSocket(server);
    const held = Promise.withResolvers<void>();
    const drained = server.drain(() => held.promise);
    expect(await request(server, "GET", "/ready")).toMatchObject({ status: 503, json: { reason: "draining" } });
    expect((await request(server, "GET", "/health")).status).toBe(200);
    const refused = new Client(new WebSocket(`${server.relayUrl}/ws`));
    expect(await refused.ended).toBe(1006);
    held.resolve();
    expect(await waiting.ended).toBe(1012);
    await drained;
    await server.close();
  });

  test("its connections are closed with 1012, a few at a time", async () => {
    const server = await world();
    const clients = [];
    for (let number = 0; number < 2 * DRAIN_SLICE + 2; number++)
      clients.push(await connect(server, agent(`client ${number}`)));
    const begun = performance.now();
    const ends = clients.map(async ({ ended }) => ({ code: await ended, ms: performance.now() - begun }));
    await server.drain();
    const all = await Promise.all(ends);
    expect(new Set(all.map(({ code }) => code))).toEqual(new Set([1012]));
    // A third slice begins no sooner than two steps after the first.
    expect(Math.max(...all.map(({ ms }) => ms))).toBeGreaterThanOrEqual(2 * DRAIN_EVERY_MS - 20);
    expect(server.relay.connections()).toEqual([]);
  });

  test("what was accepted is there, and what was not is offered again: nothing is lost or doubled", async () => {
    const first = await liveWorld();
    const sender = await connect(first, alice, ACCEPTED);
    const accepted = new Set<string>();
    sender.socket.on("message", (data) => {
      const frame: Frame = JSON.parse(data.toString());
      if (frame.type === "accepted") accepted.add(String(frame.id));
    });
    const sent: string[] = [];
    const pour = setInterval(() => {
      for (let turn = 0; turn < 20; turn++) {
        const id = `f${sent.length}`;
        sent.push(id);
        sender.send(message(bob, id, { ciphertext: "x".repeat(2_000) }));
      }
    }, 1);
    sender.socket.once("close", () => clearInterval(pour));
    while (accepted.size < 100) await sender.read();
    await first.drain();
    expect(await sender.ended).toBe(1012);
    await first.close();
    const second = await liveWorld(first);
    const again = await connect(second, alice, ACCEPTED);
    const missing = sent.filter((id) => !accepted.has(id));
    for (const id of missing) again.send(message(bob, id, { ciphertext: "x".repeat(2_000) }));
    await again.take(missing.length);
    expect(ids(await mailOf(second)).toSorted()).toEqual(sent.toSorted());
  });

  test("plain clients, which offer nothing twice and must be given nothing twice, lose and double nothing", async () => {
    const first = await liveWorld();
    const sender = await connect(first, alice);
    const reader = await connect(first, bob);
    const read: unknown[] = [];
    reader.socket.on("message", (data) => read.push(JSON.parse(data.toString()).id));
    const sent: string[] = [];
    const pour = setInterval(() => {
      for (let turn = 0; turn < 20 && sender.socket.readyState === sender.socket.OPEN; turn++) {
        const id = `f${sent.length}`;
        sent.push(id);
        sender.send(message(bob, id, { ciphertext: "x".repeat(2_000) }));
      }
    }, 1);
    onTestFinished(() => clearInterval(pour));
    await reader.take(100);
    await first.drain();
    clearInterval(pour);
    await first.close();
    const second = await liveWorld(first);
    expect([...read, ...ids(await mailOf(second))]).toEqual(sent);
  });

  test("one that does not say goodbye does not hold it up for ever", async () => {
    const server = await world();
    const deaf = await connect(server, alice);
    deaf.socket.pause();
    await server.drain();
    expect(server.relay.isConnected(alice.did)).toBe(false);
  }, 20_000);
});

test("clients of ours come back by themselves and lose nothing", async () => {
  const first = await liveWorld();
  const home = await temporaryDirectory();
  const open = async (name: string) => {
    const node = await openNode({ home: join(home, name), ports: realPorts(realNetwork), onNote: () => undefined });
    onTestFinished(() => node.close());
    node.start();
    const { relayUrl, url: registryUrl } = first;
    const member = { controller: null, cluster: "test", relayUrl, registryUrl, name, capabilities: ["chat"] };
    await node.membership.join(member);
    return node;
  };
  const [sender, receiver] = [await open("sender"), await open("receiver")];
  const { did } = receiver.core.keyring.identity;
  const wanted: string[] = [];
  const say = async () => {
    wanted.push(`message ${wanted.length}`);
    await call(sender, "send", { to: did, message: wanted.at(-1) ?? "" });
  };
  for (let turn = 0; turn < 20; turn++) await say();
  let isOver = false;
  const drained = first
    .drain()
    .then(() => first.close())
    .then(() => {
      isOver = true;
    });
  while (!isOver) await say();
  await drained;
  const second = await liveWorld(first);
  await say();
  await call(sender, "settle", {});
  const from = [sender.core.keyring.identity.did];
  const inbox = () => call(receiver, "inbox", { all: true, limit: 200 });
  while ((await inbox()).messages.length < wanted.length) await call(receiver, "await", { from, timeout_ms: 20_000 });
  // Read messages are listed newest first.
  await call(receiver, "inbox", { mark_read: true, limit: 200 });
  const bodies = (await inbox()).messages.map(({ body }) => body).toReversed();
  expect(bodies).toEqual(wanted);
  expect(second.relay.connections().toSorted()).toEqual([...from, did].toSorted());
}, 60_000);

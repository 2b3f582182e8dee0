import { once } from "node:events";
import { connect as connectTcp } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";
import { READER_WAIT_MS } from "../../src/cluster/limits.ts";
import type { Rates } from "../../src/cluster/rates.ts";
import type { ServerOptions } from "../../src/cluster/server.ts";
import { CONNECT_WAIT_MS, FRAME_SIZE_MAX, RELAY_IDLE_MS, REPLY_BUFFER_SIZE_MAX } from "../../src/limits.ts";
import {
  ACCEPTED,
  agent,
  agentPath,
  Clock,
  connect,
  connectFrame,
  type Frame,
  ids,
  message,
  openSocket,
  prekeys,
  publish,
  register,
  registration,
  request,
  type World,
  world,
} from "./world.ts";

// Whoever abuses a cluster is held back and told which limit it was; the others go on beside it.

const [alice, bob, mallory] = [agent("alice"), agent("bob"), agent("mallory")];

/** A server whose clock is the real one. */
function liveWorld(options: Partial<ServerOptions> = {}): Promise<World> {
  const clock = new Clock();
  clock.time = Date.now();
  return world({ clock, now: Date.now, ...options });
}

/** Two who behave, and a look whether all that one sends comes to the other. */
async function wellBehaved(server: World) {
  const sender = await connect(server, alice, ACCEPTED);
  const receiver = await connect(server, bob);
  let sent = 0;
  return {
    async beat(): Promise<void> {
      for (const client of [sender, receiver]) client.send({ type: "heartbeat" });
      await Promise.all([sender.read(), receiver.read()]);
    },
    async areUnharmed(): Promise<void> {
      const batch = Array.from({ length: 5 }, () => `m${++sent}`);
      for (const id of batch) sender.send(message(bob, id));
      expect(ids(await receiver.take(batch.length))).toEqual(batch);
      expect(ids(await sender.take(batch.length))).toEqual(batch);
      for (const id of batch) receiver.send({ type: "ack", id, sender: alice.did });
    },
  };
}

const lowered = (rates: Partial<Rates>) => ({ rates });

/** What a socket is told that is not let in. */
async function turnedAway(url: string, headers: Record<string, string> = {}) {
  const socket = new WebSocket(url, { headers });
  onTestFinished(() => socket.terminate());
  socket.on("error", () => undefined);
  const [, response] = await once(socket, "unexpected-response");
  let text = "";
  for await (const chunk of response) text += chunk;
  return { status: response.statusCode, retryAfter: response.headers["retry-after"], json: JSON.parse(text) };
}

describe("rates", () => {
  test("registrations of one address: 429 that says which limit and when to come again", async () => {
    const server = await world(lowered({ registrations_per_address: { burst: 3, perMinute: 6 } }));
    const pair = await wellBehaved(server);
    const spam = (count: number) => register(server, agent(`spam ${count}`));
    for (const count of [1, 2, 3]) expect((await spam(count)).status).toBe(201);
    const refused = await spam(4);
    expect(refused).toMatchObject({
      status: 429,
      json: {
        error: { code: "limit_reached", message: expect.stringContaining("registrations_per_address") },
        limit: "registrations_per_address",
        retry_after_ms: 10_000,
      },
    });
    expect(refused.headers.get("retry-after")).toBe("10");
    await pair.areUnharmed();
    server.clock.pass(10_000);
    expect((await spam(4)).status).toBe(201);
  });

  test("whoever drains an agent's prekeys costs nobody a session: bundles come without a one-time prekey", async () => {
    const server = await world(lowered({ bundles_per_agent: { burst: 4, perMinute: 1 } }));
    const pair = await wellBehaved(server);
    await register(server, bob);
    await publish(server, bob, prekeys(bob, { count: 20 }));
    const fetched = async () => (await request(server, "GET", agentPath(bob, "/prekeys"))).json;
    const drained = [];
    for (let turn = 0; turn < 8; turn++) drained.push(await fetched());
    const taken = drained.map((bundle) => (bundle.one_time_pre_key as { key_id: number } | null)?.key_id);
    expect(taken).toEqual([0, 1, 2, 3, undefined, undefined, undefined, undefined]);
    expect(drained.at(-1)).toMatchObject({ identity_key: prekeys(bob).identity_key, one_time_pre_key: null });
    const { json } = await request(server, "GET", agentPath(bob, "/prekeys/count"), { as: bob });
    expect(json.one_time_count).toBe(16);
    await pair.areUnharmed();
    server.clock.pass(60_000);
    expect((await fetched()).one_time_pre_key).toMatchObject({ key_id: 4 });
  });

  test("an address takes one-time prekeys of many agents no faster", async () => {
    const server = await world(lowered({ bundles_per_address: { burst: 2, perMinute: 1 } }));
    const agents = ["a", "b", "c"].map(agent);
    const taken = [];
    for (const each of agents) {
      await register(server, each);
      await publish(server, each, prekeys(each));
      taken.push((await request(server, "GET", agentPath(each, "/prekeys"))).json.one_time_pre_key !== null);
    }
    expect(taken).toEqual([true, true, false]);
  });

  test("HTTP requests of one address; who asks how it is, is always answered", async () => {
    const server = await world(lowered({ requests_per_address: { burst: 2, perMinute: 60 } }));
    const statuses = [];
    for (let turn = 0; turn < 3; turn++) statuses.push((await request(server, "GET", "/v1/discover")).status);
    expect(statuses).toEqual([200, 200, 429]);
    expect((await request(server, "GET", "/health")).status).toBe(200);
    expect((await request(server, "GET", "/ready")).status).toBe(200);
  });

  test("WebSockets of one address: 429 before they are one", async () => {
    const server = await world(lowered({ connects_per_address: { burst: 4, perMinute: 60 } }));
    const pair = await wellBehaved(server);
    await Promise.all([openSocket(server), openSocket(server)]);
    expect(await turnedAway(`${server.relayUrl}/ws`)).toMatchObject({
      status: 429,
      retryAfter: "1",
      json: { error: { code: "limit_reached" }, limit: "connects_per_address" },
    });
    await pair.areUnharmed();
    server.clock.pass(1_000);
    await openSocket(server);
  });

  test("connects that one agent proves: 1013, and another's connects count for that one alone", async () => {
    const server = await world(lowered({ connects_per_agent: { burst: 2, perMinute: 60 } }));
    const pair = await wellBehaved(server);
    for (const _ of [1, 2]) await (await connect(server, mallory)).close();
    const third = await openSocket(server);
    third.send(connectFrame(mallory, server.clock.iso()));
    expect(await third.next()).toMatchObject({
      type: "error",
      code: "limit_reached",
      limit: "connects_per_agent",
      retry_after_ms: 1_000,
    });
    expect(await third.ended).toBe(1013);
    await pair.areUnharmed();
  });

  test("who connects without a proof uses up nothing of the DID's holder", async () => {
    const server = await world({
      allowUnproven: true,
      ...lowered({ connects_per_agent: { burst: 1, perMinute: 1 } }),
    });
    const open = async (frame: Frame) => {
      const socket = await openSocket(server);
      socket.send({ ...frame, ...ACCEPTED });
      return socket.next();
    };
    expect(await open({ type: "connect", from: mallory.did })).toMatchObject({ type: "connected" });
    expect(await open({ type: "connect", from: mallory.did })).toMatchObject({ code: "limit_reached" });
    expect(await open(connectFrame(mallory, server.clock.iso()))).toMatchObject({ type: "connected" });
  });

  test("behind a proxy that is trusted, an address is what it says last; behind another, what it says is nothing", async () => {
    const once = lowered({ connects_per_address: { burst: 1, perMinute: 1 } });
    const [trusting, wary] = [await world({ ...once, trustProxy: true }), await world(once)];
    const status = async ({ relayUrl }: World, forwarded: string) => {
      const socket = new WebSocket(`${relayUrl}/ws`, { headers: { "x-forwarded-for": forwarded } });
      onTestFinished(() => socket.terminate());
      socket.on("error", () => undefined);
      return new Promise((resolve) => {
        socket.once("open", () => resolve(101));
        socket.once("unexpected-response", (_, response) => resolve(response.statusCode));
      });
    };
    expect(await status(trusting, "203.0.113.1")).toBe(101);
    expect(await status(trusting, "203.0.113.2")).toBe(101);
    expect(await status(trusting, "198.51.100.9, 203.0.113.1")).toBe(429);
    expect(await status(wary, "203.0.113.1")).toBe(101);
    expect(await status(wary, "203.0.113.2")).toBe(429);
  });

  test.each([
    ["frames", { frames_per_agent: { burst: 50, perMinute: 60_000 } }, 1_000, 10],
    ["bytes", { bytes_per_agent: { burst: 50_000, perMinute: 60 * 500_000 } }, 20, 20_000],
  ])("a sender that never stops is read slower, and loses nothing: %s", async (_, rates, count, size) => {
    const server = await liveWorld(lowered(rates));
    const sender = await connect(server, mallory, ACCEPTED);
    const receiver = await connect(server, agent("carol"));
    const begun = performance.now();
    const wanted = Array.from({ length: count }, (_, index) => `f${index}`);
    for (const id of wanted) sender.send(message(agent("carol"), id, { ciphertext: "x".repeat(size) }));
    const pair = await wellBehaved(server);
    await pair.areUnharmed();
    const harmlessMs = performance.now() - begun;
    expect(ids(await receiver.take(count))).toEqual(wanted);
    const wholeMs = performance.now() - begun;
    expect(ids(await sender.take(count))).toEqual(wanted);
    // What is above the burst comes no faster than it may, but for what one look at the socket brings.
    expect(wholeMs).toBeGreaterThan(350);
    expect(harmlessMs).toBeLessThan(wholeMs);
  });
});

describe("slow and silent", () => {
  test("a reader that never reads is cut off, and its mail stays", async () => {
    const server = await world();
    const pair = await wellBehaved(server);
    const reader = await connect(server, mallory, ACCEPTED);
    reader.socket.pause();
    const sender = await connect(server, agent("carol"), ACCEPTED);
    const count = 48;
    const wanted = Array.from({ length: count }, (_, index) => `f${index}`);
    for (const id of wanted) sender.send(message(mallory, id, { ciphertext: "x".repeat(500_000) }));
    await sender.take(count);
    const isUp = () => server.relay.isConnected(mallory.did);
    server.clock.pass(READER_WAIT_MS);
    expect(isUp()).toBe(true);
    await pair.beat();
    // What waits in its socket would have gone to the slowest reader by now, and it is not idle yet.
    server.clock.pass(RELAY_IDLE_MS - READER_WAIT_MS - 1);
    expect(isUp()).toBe(false);
    expect(server.lines.join("\n")).toContain(`${mallory.did} takes nothing: cut off`);
    await pair.areUnharmed();
    reader.socket.terminate();
    const again = await openSocket(server);
    again.send({ ...connectFrame(mallory, server.clock.iso()), ...ACCEPTED });
    expect(await again.next()).toMatchObject({ type: "connected", pending: count });
    expect(ids(await again.take(count))).toEqual(wanted);
  });

  test("a TCP connection that says nothing, and one whose headers or body do not end, are ended", async () => {
    const server = await world({ requestTimeoutMs: 500 });
    const pair = await wellBehaved(server);
    const opened = (text: string) => {
      const socket = connectTcp(server.port, "127.0.0.1");
      socket.on("error", () => undefined);
      onTestFinished(() => void socket.destroy());
      if (text !== "") socket.write(text);
      socket.resume();
      return once(socket, "close");
    };
    await Promise.all([
      opened(""),
      opened("GET /health HT"),
      opened("GET /health HTTP/1.1\r\nhost: x\r\nx-slow: "),
      opened("POST /v1/agents HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"),
      opened("GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n"),
    ]);
    await pair.areUnharmed();
  });

  test("a WebSocket that never connects is closed", async () => {
    const server = await world();
    const silent = await openSocket(server);
    server.clock.pass(CONNECT_WAIT_MS + 1);
    expect(await silent.ended).toBe(4001);
  });

  test("one that sends what is answered, and never reads, does not fill the memory", async () => {
    const server = await liveWorld();
    const pair = await wellBehaved(server);
    const flood = await connect(server, mallory);
    flood.socket.pause();
    const text = JSON.stringify({ v: 1, type: "fetch_pending" });
    const stop = performance.now() + 2_000;
    const before = process.memoryUsage().rss;
    while (performance.now() < stop && flood.socket.readyState === WebSocket.OPEN) {
      for (let turn = 0; turn < 500; turn++) flood.socket.send(text);
      flood.socket.ping("x".repeat(100));
      await new Promise((resolve) => flood.socket.send(text, resolve));
    }
    await pair.areUnharmed();
    expect(process.memoryUsage().rss - before).toBeLessThan(4 * REPLY_BUFFER_SIZE_MAX);
  });
});

describe("too much at once", () => {
  test("a giant frame ends its connection with 1009, whole or in parts", async () => {
    const server = await world();
    const pair = await wellBehaved(server);
    const whole = await connect(server, mallory);
    whole.socket.send("x".repeat(FRAME_SIZE_MAX + 1));
    expect(await whole.ended).toBe(1009);
    const parts = await connect(server, agent("carol"));
    const part = "x".repeat(FRAME_SIZE_MAX / 4);
    for (let turn = 0; turn < 5; turn++) parts.socket.send(part, { fin: false });
    expect(await parts.ended).toBe(1009);
    await pair.areUnharmed();
  });

  test("a frame in very many parts ends its connection", async () => {
    const server = await world();
    const pair = await wellBehaved(server);
    const crumbs = await connect(server, mallory);
    for (let turn = 0; turn < 20_000; turn++) crumbs.socket.send("x", { fin: false });
    expect(await crumbs.ended).toBe(1008);
    await pair.areUnharmed();
  });

  test("one address has no more than its sockets", async () => {
    const server = await world({ connectionsPerAddress: 6 });
    const pair = await wellBehaved(server);
    const many = Array.from({ length: 30 }, () => {
      const socket = connectTcp(server.port, "127.0.0.1");
      socket.on("error", () => undefined);
      onTestFinished(() => void socket.destroy());
      return socket;
    });
    const ended = new Set<object>();
    await new Promise<void>((resolve) => {
      for (const socket of many)
        socket.resume().once("close", () => {
          ended.add(socket);
          if (ended.size === 26) resolve();
        });
    });
    await pair.areUnharmed();
    for (const socket of many) socket.destroy();
  });

  test("connects whose proofs are wrong cost the one it names nothing", async () => {
    const server = await world(lowered({ connects_per_agent: { burst: 1, perMinute: 1 } }));
    for (let turn = 0; turn < 3; turn++) {
      const forged = await openSocket(server);
      forged.send({ ...connectFrame(mallory, server.clock.iso()), from: bob.did });
      await forged.ended;
    }
    const socket = await openSocket(server);
    socket.send({ ...connectFrame(bob, server.clock.iso()), ...ACCEPTED });
    expect(await socket.next()).toMatchObject({ type: "connected" });
  });
});

test("a registration that is refused for its rate says nothing of the agent", async () => {
  const server = await world(lowered({ registrations_per_address: { burst: 0, perMinute: 1 } }));
  const body = registration(alice, server.clock.iso());
  const { status, json } = await request(server, "POST", "/v1/agents", { body });
  expect(status).toBe(429);
  expect(JSON.stringify(json)).not.toContain(alice.did);
});

import { describe, expect, test } from "vitest";
import { base64, sign, utf8 } from "../../src/crypto/index.ts";
import { FRAME_SIZE_MAX, RELAY_IDLE_MS } from "../../src/limits.ts";
import { CONNECT_TOKEN_LENGTH_MAX } from "../../src/wire/limits.ts";
import { ACCEPTED, agent, Clock, connect, connectFrame, type Frame, ids, message, openSocket, world } from "./world.ts";

const alice = agent("alice");
const bob = agent("bob");

/** The close code that a first frame earns, and the error frame before it. */
async function outcome(server: Awaited<ReturnType<typeof world>>, frame: Frame | string) {
  const client = await openSocket(server);
  client.send(frame);
  const error = await client.next();
  return { code: await client.ended, error };
}

describe("a connect is refused", () => {
  test.each([
    ["no JSON", "hello", 4001],
    ["JSON that is no frame", "[]", 4001],
    ["another frame", { type: "heartbeat", from: alice.did }, 4001],
    ["no from", { type: "connect" }, 4002],
    ["an empty from", { type: "connect", from: "" }, 4002],
  ])("%s", async (_, frame, code) => {
    const server = await world();
    const { code: closed, error } = await outcome(server, frame);
    expect(closed).toBe(code);
    expect(error).toMatchObject({ v: 1, type: "error", message: expect.any(String) });
    expect(server.relay.connections()).toEqual([]);
  });

  const clock = new Clock();
  const good = connectFrame(alice, clock.iso());
  const signedAt = (timestamp: string) => connectFrame(alice, timestamp);
  test.each<[string, Frame]>([
    ["no key", { ...good, public_key: undefined }],
    ["no signature", { ...good, signature: undefined }],
    ["no timestamp", { ...good, timestamp: undefined }],
    ["another's DID", { ...good, from: bob.did }],
    ["another's key", { ...good, public_key: base64.encode(bob.publicKey) }],
    ["the written specification's DID", { ...good, from: alice.did.replace("mesh", "agentmesh") }],
    [
      "a signature over something else",
      { ...good, signature: base64.encode(sign(alice, utf8.encode("something else"))) },
    ],
    ["a key that is not base64", { ...good, public_key: "*".repeat(44) }],
    [
      "a key in base64 that is not canonical",
      { ...good, public_key: `${base64.encode(alice.publicKey).slice(0, 42)}9=` },
    ],
    ["a short signature", { ...good, signature: "AAAA" }],
    ["a token whose length is no number", { ...good, token: { length: { toString: null } } }],
    ["a time too early", signedAt(clock.iso(-301_000))],
    ["a time too late", signedAt(clock.iso(301_000))],
    ["a time without Z", signedAt(clock.iso().replace("Z", "+00:00"))],
    ["a time that is no time", signedAt("2026-99-99T00:00:00Z")],
    ["a text that is no time", signedAt("Z")],
  ])("%s: 4005", async (_, frame) => {
    const server = await world({ clock });
    expect((await outcome(server, frame)).code).toBe(4005);
  });

  test("with the wrong token: 4003", async () => {
    const server = await world({ token: "secret" });
    const frame = connectFrame(alice, server.clock.iso());
    expect((await outcome(server, frame)).code).toBe(4003);
    expect((await outcome(server, { ...frame, token: "other" })).code).toBe(4003);
    await connect(server, alice, { token: "secret" });
  });

  test("with a token that is longer than the reference relay takes", async () => {
    const token = "t".repeat(CONNECT_TOKEN_LENGTH_MAX);
    const server = await world({ token });
    const frame = connectFrame(alice, server.clock.iso());
    expect((await outcome(server, { ...frame, token: `${token}t` })).code).toBe(4005);
    await connect(server, alice, { token });
    expect(server.relay.connections()).toEqual([alice.did]);
  });

  test("and what came with it is not read", async () => {
    const server = await world();
    const client = await openSocket(server);
    client.send({ type: "message", from: alice.did, to: bob.did, id: "early" });
    client.send(connectFrame(alice, server.clock.iso()));
    client.send(message(bob, "late"));
    expect(await client.ended).toBe(4001);
    const receiver = await connect(server, bob);
    receiver.send(message(bob, "only"));
    expect((await receiver.next()).id).toBe("only");
  });
});

describe("a connect is taken", () => {
  test("at both ends of the clock's leeway, with microseconds", async () => {
    const server = await world();
    for (const time of [server.clock.iso(-299_000), server.clock.iso(299_000).replace("Z", "999Z")]) {
      const client = await openSocket(server);
      client.send(connectFrame(alice, time));
      await client.read();
      expect(server.relay.connections()).toEqual([alice.did]);
      await client.close();
    }
  });

  test("without a word, as the reference does", async () => {
    const server = await world();
    const client = await connect(server, alice);
    client.send(message(alice, "first"));
    expect((await client.next()).id).toBe("first");
    expect(await client.received()).toEqual([]);
  });

  test("with the extensions that both sides have", async () => {
    const server = await world();
    const client = await openSocket(server);
    client.send({ ...connectFrame(alice, server.clock.iso()), extensions: ["accepted", "of-tomorrow"] });
    expect(await client.next()).toEqual({ v: 1, type: "connected", extensions: ["accepted"], pending: 0 });
  });

  test("a second one of the same DID replaces the first with 4006, and gets what the first did not ack", async () => {
    const server = await world();
    const first = await connect(server, alice, ACCEPTED);
    first.send(message(alice, "a"));
    expect((await first.next()).id).toBe("a");
    server.clock.pass(1);
    const second = await connect(server, alice, ACCEPTED);
    expect(await first.ended).toBe(4006);
    expect((await second.next()).id).toBe("a");
    expect(server.relay.connections()).toEqual([alice.did]);
    second.send(message(alice, "b"));
    expect((await second.next()).id).toBe("b");
  });

  test("one that comes late, or again, takes nobody's place: the connect that was signed last stands", async () => {
    const server = await world();
    const old = connectFrame(alice, server.clock.iso());
    server.clock.pass(1000);
    const standing = await connect(server, alice);
    for (const frame of [old, connectFrame(alice, server.clock.iso())]) {
      const ghost = await openSocket(server);
      ghost.send(frame);
      expect(await ghost.ended).toBe(4007);
    }
    expect(server.relay.connections()).toEqual([alice.did]);
    standing.send(message(alice, "a"));
    expect((await standing.next()).id).toBe("a");
  });
});

describe("a connection ends", () => {
  test("with 4004 when it is silent for 90 s, whatever else it sends", async () => {
    const server = await world();
    const silent = await connect(server, alice, ACCEPTED);
    const beating = await connect(server, bob);
    server.clock.pass(RELAY_IDLE_MS - 1);
    silent.send(message(bob, "still-here"));
    silent.send({ type: "ack", id: "nothing" });
    beating.send({ type: "heartbeat", from: bob.did, ts: server.clock.iso() });
    await Promise.all([silent.read(), beating.read()]);
    server.clock.pass(2);
    expect(await silent.ended).toBe(4004);
    expect(server.relay.connections()).toEqual([bob.did]);
  });

  test("with 4001 when it never connects", async () => {
    const server = await world();
    const client = await openSocket(server);
    server.clock.pass(11_000);
    expect(await client.ended).toBe(4001);
  });

  test("with 1009 above 16 MiB", async () => {
    const server = await world();
    const client = await connect(server, alice);
    client.send("x".repeat(FRAME_SIZE_MAX + 1));
    expect(await client.ended).toBe(1009);
  });

  test("with 1000 when it says so", async () => {
    const server = await world();
    const client = await connect(server, alice);
    client.send({ type: "disconnect", from: alice.did });
    expect(await client.ended).toBe(1000);
    expect(server.relay.connections()).toEqual([]);
  });

  test("with 1001 when the relay stops, and its mail waits", async () => {
    const server = await world();
    const client = await connect(server, alice, ACCEPTED);
    client.send(message(bob, "a"));
    expect(ids([await client.next()])).toEqual(["a"]);
    await server.close();
    expect(await client.ended).toBe(1001);
  });
});

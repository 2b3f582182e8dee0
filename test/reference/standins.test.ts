/** What the stand-ins do that no recording shows, as the reference programs were watched to do it, or as their source has it. */
import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { base64, identityFromSeed, sign, utf8 } from "../../src/crypto/index.ts";
import { ManualClock } from "../actors/systems.ts";
import { random } from "./channel.ts";
import { ReferenceClient } from "./client.ts";
import { openServers, type Places } from "./servers.ts";

const identity = identityFromSeed(random(32));

function connectAt(time: number) {
  const timestamp = new Date(time).toISOString();
  const signature = base64.encode(sign(identity, utf8.encode(timestamp)));
  return { type: "connect", from: identity.did, public_key: base64.encode(identity.publicKey), timestamp, signature };
}

async function opened({ relayUrl }: Places) {
  const socket = new WebSocket(`${relayUrl}/ws`);
  await once(socket, "open");
  const said: string[] = [];
  socket.on("message", (text) => said.push(String(text)));
  const ended: Promise<number> = once(socket, "close").then(([code]) => code);
  const say = async (...frames: readonly object[]) => {
    for (const frame of frames) socket.send(JSON.stringify(frame));
    const read = Promise.race([once(socket, "pong"), ended]);
    socket.ping();
    await read;
  };
  return { say, said, ended, socket };
}

const message = (id: string) => ({ type: "message", to: identity.did, id });

describe("the relay", () => {
  it("waits 10 seconds for a connect, and 90 for any frame after it", async () => {
    const clock = new ManualClock(Date.now());
    const servers = await openServers({ clock });
    const silent = await opened(servers);
    await silent.say();
    clock.pass(10_000);
    expect(await silent.ended).toBe(1000);
    const idle = await opened(servers);
    await idle.say(connectAt(clock.now()));
    clock.pass(89_000);
    await idle.say({ type: "ack", id: "anything" });
    clock.pass(89_000);
    expect(idle.socket.readyState).toBe(WebSocket.OPEN);
    clock.pass(1_000);
    expect(await idle.ended).toBe(4004);
  });

  it("gives nothing to a connection that acks but does not beat, and all of it to the next one until it is acked", async () => {
    const clock = new ManualClock(Date.now());
    const servers = await openServers({ clock });
    const [first, sender] = [await opened(servers), await ReferenceClient.open(servers, { clock })];
    await first.say(connectAt(clock.now()));
    for (let seconds = 0; seconds < 95; seconds += 19) {
      await first.say({ type: "ack", id: "anything" });
      clock.pass(19_000);
    }
    sender.forge(message("while stale"));
    await servers.relay.passed.first(({ id }) => id === "while stale");
    expect(first.said).toEqual([]);
    const given: string[][] = [];
    for (const acks of [false, true, true]) {
      const { said, say, socket, ended } = await opened(servers);
      await say(connectAt(clock.now()));
      given.push(said.map((text) => JSON.parse(text).id));
      if (acks) await say({ type: "ack", id: "while stale" });
      socket.close();
      await ended;
    }
    expect(given).toEqual([["while stale"], ["while stale"], []]);
    expect(await first.ended).toBe(4006);
  });

  it("drops a frame of an id that it has stored, and passes a live one each time that it comes", async () => {
    const servers = await openServers();
    const sender = await ReferenceClient.open(servers);
    sender.forge({ ...message("one"), n: 1 });
    sender.forge({ ...message("one"), n: 2 });
    await servers.relay.passed.first(({ n }) => n === 2);
    const { said, say } = await opened(servers);
    await say(connectAt(Date.now()));
    sender.forge({ ...message("one"), n: 3 });
    await servers.relay.passed.first(({ n }) => n === 3);
    await say();
    expect(said.map((text) => JSON.parse(text).n)).toEqual([1, 3]);
  });

  it("keeps its mail in memory, and asks for its token after the proof", async () => {
    const servers = await openServers({ token: "secret" });
    const refused = await opened(servers);
    await refused.say(connectAt(Date.now()));
    expect(await refused.ended).toBe(4003);
    expect(refused.said).toEqual(['{"type": "error", "detail": "Authentication failed"}']);
    servers.relay.deliver({ ...message("lost"), from: identity.did });
    servers.relay.restart();
    const { said, say } = await opened(servers);
    await say({ ...connectAt(Date.now()), token: "secret" });
    expect([said, servers.relay.isOnline(identity.did)]).toEqual([[], true]);
  });
});

describe("the clients", () => {
  const meet = async (manner: "typescript" | "python") => {
    const clock = new ManualClock(Date.now());
    const servers = await openServers();
    const alice = await ReferenceClient.open(servers, { name: "alice" });
    const bob = await ReferenceClient.open(servers, { name: "bob", manner, clock });
    return { servers, alice, bob, clock };
  };
  /** Everything that went to a client came to it, and was dealt with. */
  const dealtWith = async (from: ReferenceClient, to: ReferenceClient) => {
    const id = crypto.randomUUID();
    from.forge({ v: 1, type: "knock_accept", from: from.did, to: to.did, id, knock_id: id });
    await to.came.first((frame) => frame.id === id);
    await to.idle();
  };

  it.each(["typescript", "python"] as const)("a frame that comes twice breaks a %s one's session", async (manner) => {
    const { servers, alice, bob } = await meet(manner);
    await alice.say(bob.did, "one");
    await alice.say(bob.did, "two");
    const frame = await servers.relay.passed.first(({ type }) => type === "message");
    servers.relay.deliver(frame);
    await alice.say(bob.did, "three");
    await dealtWith(alice, bob);
    expect(bob.heard.all.map(({ payload }) => payload)).toEqual(["one", "two"]);
    expect(bob.problems.all[0]).toContain("session_desync");
    expect(bob.hasSession(alice.did)).toBe(manner === "python");
  });

  it("a TypeScript one that has a session answers a knock and does not look at what it brings; a Python one lets it replace the session", async () => {
    for (const manner of ["typescript", "python"] as const) {
      const { alice, bob } = await meet(manner);
      await alice.say(bob.did, "one");
      await alice.restart();
      await alice.say(bob.did, "two");
      await dealtWith(alice, bob);
      const isPython = manner === "python";
      expect(bob.heard.all.map(({ payload }) => payload)).toEqual(isPython ? ["one", "two"] : ["one"]);
      expect(bob.sent.all.filter(({ type }) => type === "knock_accept")).toHaveLength(isPython ? 0 : 2);
      expect(bob.hasSession(alice.did)).toBe(isPython);
    }
  });

  it("a restart forgets every session, and its prekeys begin at 0", async () => {
    const { servers, alice, bob } = await meet("python");
    await alice.say(bob.did, "one");
    await dealtWith(alice, bob);
    await bob.restart();
    await alice.say(bob.did, "two");
    await dealtWith(alice, bob);
    expect(bob.heard.all.map(({ payload }) => payload)).toEqual(["one"]);
    const published = servers.registry.asked.all.filter(({ http }) => http.startsWith(`PUT /v1/agents/${bob.did}`));
    const ids = published.map(
      ({ request = "" }) => JSON.parse(request).one_time_pre_keys.map((key: { key_id: number }) => key.key_id)[0],
    );
    // With the start, with the knock, with the new start.
    expect(ids).toEqual([0, 10, 0]);
  });

  it("a TypeScript one keeps the last five messages that come before their knock, for three seconds", async () => {
    const { servers, alice, bob, clock } = await meet("typescript");
    const held: Parameters<typeof servers.relay.deliver>[0][] = [];
    servers.relay.loses = (frame) => frame.type === "knock" && held.push(frame) > 0;
    for (let n = 0; n < 6; n++) await alice.say(bob.did, n);
    await dealtWith(alice, bob);
    servers.relay.loses = () => false;
    for (const knock of held) servers.relay.deliver(knock);
    await dealtWith(alice, bob);
    expect(bob.heard.all.map(({ payload }) => payload)).toEqual([1, 2, 3, 4, 5]);
    bob.closeSession(alice.did);
    await alice.say(bob.did, 6);
    await dealtWith(alice, bob);
    clock.pass(3_000);
    expect(bob.waiting(alice.did)).toBe(0);
  });
});

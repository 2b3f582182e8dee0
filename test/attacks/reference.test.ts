/** What breaks the reference client, by name, and does not break us. */
import { randomBytes, randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { until } from "../../src/actors/inbox.ts";
import { realNetwork } from "../../src/actors/network.ts";
import { type Network, realPorts, type SocketEvents } from "../../src/actors/ports.ts";
import { preKeysContext } from "../../src/actors/prekeys.ts";
import { base64, base64url, identityFromSeed, sha256, sign, utf8 } from "../../src/crypto/index.ts";
import { EARLY_FRAMES_MAX, HEARTBEAT_MS, LINK_BACKOFF_MAX_MS, SIGNED_PREKEY_MS } from "../../src/limits.ts";
import { CLOSE, Knock, Message } from "../../src/wire/frame.ts";
import { CalendarClock } from "../actors/systems.ts";
import { call, filtered, openNode, openWorld } from "../actors/world.ts";
import { connectFrame, openSocket } from "../cluster/world.ts";
import { ReferenceClient } from "../reference/client.ts";
import { comes, didOf, heard, hears, inbox, lying, openPair, say, sessionsOf, tapped } from "./world.ts";

const mallory = identityFromSeed(sha256(utf8.encode("mallory")));
const PATIENCE = { timeoutMs: 20_000, signal: new AbortController().signal, concerns: () => true };

describe("1. a ratchet moves only on what is authentic", () => {
  it("forged frames and duplicates of true ones cost a counter, and the session goes on", async () => {
    const tap = tapped();
    const { alice, bob } = await openPair({ alice: tap.ports });
    await say(alice, bob, "one");
    await say(bob, alice, "one back");
    await say(alice, bob, "two");
    const before = sessionsOf(bob);
    for (const frame of tap.messages) {
      const header = { ...frame.header, dh: base64.encode(new Uint8Array(randomBytes(32))) };
      const bytes = base64.decode(String(frame.ciphertext));
      bytes[20] = (bytes[20] ?? 0) ^ 1;
      await comes(bob, { ...frame, id: randomUUID() });
      await comes(bob, { ...frame, id: randomUUID(), ciphertext: base64.encode(bytes) });
      await comes(bob, { ...frame, id: randomUUID(), header });
      await comes(bob, { ...frame, id: randomUUID(), header: { ...frame.header, n: frame.header.n + 50 } });
    }
    expect(sessionsOf(bob)).toEqual(before);
    const { duplicates = 0, unreadable = 0 } = bob.incoming.countersOf(didOf(alice)) ?? {};
    expect(duplicates + unreadable).toBe(4 * tap.messages.length);
    await say(alice, bob, "three");
    await say(bob, alice, "three back");
    expect(await inbox(bob)).toEqual(["one", "two", "three"]);
  });
});

describe("2. a restart forgets nothing", () => {
  it("sessions, inbox and prekeys are there: a knock that waited works, and its one-time key works once", async () => {
    const tap = tapped();
    const { world, alice, bob } = await openPair({ alice: tap.ports });
    await bob.close();
    await call(alice, "send", { to: didOf(bob), message: "while you were away" });
    const second = await world.open("bob");
    await heard(second, alice, "while you were away");
    await second.close();
    const third = await world.open("bob");
    expect(await inbox(third)).toEqual(["while you were away"]);
    await say(third, alice, "I am back");
    await say(alice, third, "so I see");
    const [knock] = tap.knocks;
    if (!knock) throw new Error("no knock");
    expect(knock.establishment.otk).toEqual(expect.any(Number));
    await comes(third, { ...knock, id: randomUUID() });
    expect(sessionsOf(third)).toHaveLength(1);
  });
});

describe("3. keys are bound to the DID, whoever brings them", () => {
  const fake = (answer: Record<string, unknown>) => {
    const spk = sha256(utf8.encode("spk"));
    const signature = base64url.encode(sign(mallory, spk));
    return {
      ...answer,
      identity_key: base64url.encode(mallory.dhPublic),
      identity_key_ed: base64url.encode(mallory.publicKey),
      signed_pre_key: { key_id: 1, public_key: base64url.encode(spk), signature },
    };
  };
  it.each([
    ["another's bundle", fake],
    ["an X25519 key that is not the Ed25519 key's", (a: object) => ({ ...a, identity_key: fake({}).identity_key })],
    ["a prekey that another signed", (a: object) => ({ ...a, signed_pre_key: fake({}).signed_pre_key })],
  ])("a registry that gives %s gets no session, and the sender is told", async (_, lie) => {
    const ports = lying((path, answer) => (path.endsWith("/prekeys") ? lie(answer) : answer));
    const { alice, bob } = await openPair({ alice: ports });
    const { id, to } = await call(alice, "send", { to: didOf(bob), message: "for bob alone" });
    expect(await call(alice, "sent", { to, id, wait_ms: 10_000 })).toMatchObject({ state: "undeliverable" });
    expect(sessionsOf(alice)).toEqual([]);
  });

  it("a knock in another's name opens nothing, though the registry is in on it", async () => {
    const public_key = base64url.encode(mallory.publicKey);
    const ports = lying((path, answer) => (path.endsWith("/prekeys") ? fake(answer) : { ...answer, public_key }));
    const tap = tapped();
    const { alice, bob } = await openPair({ alice: tap.ports, bob: ports });
    await call(alice, "send", { to: didOf(bob), message: "hello" });
    await until(alice, () => tap.knocks.length > 0, PATIENCE);
    const [knock] = tap.knocks;
    if (!knock) throw new Error("no knock");
    const establishment = { ...knock.establishment, ik: base64.encode(mallory.dhPublic), otk: undefined };
    await comes(bob, { ...knock, id: randomUUID(), establishment });
    expect(sessionsOf(bob)).toEqual([]);
  });
});

describe("4. nothing is acked before it is kept, and two who knock at once both get through", () => {
  it("when the ack leaves, the message is in the inbox, on disk", async () => {
    const kept: boolean[] = [];
    const ports = filtered((frame, direction) => {
      if (direction === "out" && frame.type === "ack" && frame.id === "m1")
        kept.push(bob.core.messages.wasReceived(didOf(alice), "m1"));
      return true;
    });
    const { alice, bob } = await openPair({ bob: ports });
    await call(alice, "send", { to: didOf(bob), message: "hello", id: "m1" });
    await heard(bob, alice, "hello");
    await say(alice, bob, "and more");
    expect(kept).toEqual([true]);
  });

  it("both knock and speak before they hear of the other", async () => {
    const deaf = () => filtered((frame, direction) => direction === "out" || "extensions" in frame || !("to" in frame));
    const { world, alice, bob } = await openPair({ alice: deaf(), bob: deaf() });
    const speak = async (from: typeof alice, to: typeof alice, message: string) => {
      const { id } = await call(from, "send", { to: didOf(to), message });
      expect(await call(from, "sent", { to: didOf(to), id, wait_ms: 10_000 })).toMatchObject({ state: "sent" });
    };
    await Promise.all([speak(alice, bob, "from alice"), speak(bob, alice, "from bob")]);
    await Promise.all([alice.close(), bob.close()]);
    const [a, b] = [await world.open("alice"), await world.open("bob")];
    await Promise.all([heard(a, b, "from bob"), heard(b, a, "from alice")]);
    for (let round = 0; round < 3; round++) {
      await Promise.all([say(a, b, `to bob ${round}`), say(b, a, `to alice ${round}`)]);
    }
    expect(await inbox(a)).toEqual(["from bob", "to alice 0", "to alice 1", "to alice 2"]);
    expect(await inbox(b)).toEqual(["from alice", "to bob 0", "to bob 1", "to bob 2"]);
  });
});

describe("5. a signed prekey that is replaced", () => {
  it("opens the session of a knock that was under way", async () => {
    const clock = new CalendarClock(Date.now());
    const world = await openWorld({ now: () => clock.now(), every: () => () => undefined });
    const ports = { ...realPorts(realNetwork), clock };
    const bob = await world.open("bob", ports);
    const signed = () => preKeysContext(bob.core.system, bob.membership.current?.controller ?? "")?.signed;
    await until(bob, () => signed() === 1, PATIENCE);
    const alice = await world.open("alice", ports);
    bob.core.link.pause();
    const { id, to } = await call(alice, "send", { to: didOf(bob), message: "sealed with the old one" });
    expect(await call(alice, "sent", { to, id, wait_ms: 10_000 })).toMatchObject({ state: "sent" });
    clock.pass(SIGNED_PREKEY_MS);
    await until(bob, () => signed() === 2, PATIENCE);
    expect(signed()).toBe(2);
    bob.core.link.proceed();
    await heard(bob, alice, "sealed with the old one");
  });
});

describe("6. a knock that took no one-time prekey cannot be given again", () => {
  /** Another public key by which every clamped secret comes to the same: its point and the point of order 2, added. */
  function twin(key: Uint8Array): Uint8Array {
    const p = 2n ** 255n - 19n;
    const bytes = (value: bigint) => Buffer.from(value.toString(16).padStart(64, "0"), "hex").reverse();
    let base = BigInt(`0x${Buffer.from(key).reverse().toString("hex")}`) % p;
    let inverse = 1n;
    for (let exponent = p - 2n; exponent > 0n; exponent >>= 1n) {
      if (exponent & 1n) inverse = (inverse * base) % p;
      base = (base * base) % p;
    }
    return new Uint8Array(bytes(inverse));
  }

  it("under new ids, with its messages, as it was or with another key that means the same", async () => {
    const world = await openWorld();
    const bob = await world.open("bob");
    const alice = await ReferenceClient.open(world.places);
    for (let left: unknown = true; left; ) {
      const response = await fetch(`${world.server.url}/v1/agents/${encodeURIComponent(didOf(bob))}/prekeys`);
      left = ((await response.json()) as { one_time_pre_key: unknown }).one_time_pre_key;
    }
    for (const word of ["transfer 100", "that was all"]) {
      await alice.say(didOf(bob), word);
      await hears(bob, alice.did, word);
    }
    const sent = (type: string) => alice.sent.all.filter((frame) => frame.type === type);
    const knock = Knock.parse(sent("knock")[0]);
    const messages = sent("message").map((frame) => Message.parse(frame));
    expect(knock.establishment.otk).toBeUndefined();
    const { length } = sessionsOf(bob);
    await comes(bob, { ...knock, id: randomUUID() });
    for (const frame of messages.toReversed()) await comes(bob, { ...frame, id: randomUUID() });
    expect(sessionsOf(bob)).toHaveLength(length);

    const id = randomUUID();
    const ek = base64.encode(twin(base64.decode(knock.establishment.ek)));
    await comes(bob, { ...knock, id, establishment: { ...knock.establishment, ek } });
    expect(sessionsOf(bob).at(-1)).toMatchObject({ id, kdf: null, closed: null });
    for (const frame of messages.toReversed()) await comes(bob, { ...frame, id: randomUUID() });
    expect(sessionsOf(bob).at(-1)).toMatchObject({ id, decrypted: 0, closed: expect.any(String) });
    expect(await inbox(bob)).toEqual(["transfer 100", "that was all"]);
    await call(bob, "send", { to: alice.did, message: "done" });
    await alice.heard.first(() => true);
    await alice.say(didOf(bob), "thanks");
    await hears(bob, alice.did, "thanks");
  });
});

describe("7. an unsigned reject", () => {
  it("ends no session that the peer has proved to hold", async () => {
    const { alice, bob } = await openPair();
    await say(alice, bob, "one");
    await say(bob, alice, "one back");
    const [session] = sessionsOf(alice);
    const reject = { v: 1, type: "knock_reject", from: didOf(bob), to: didOf(alice), id: "r" } as const;
    await comes(alice, { ...reject, knock_id: session?.id ?? "", reason: "policy_denied" });
    expect(sessionsOf(alice)).toEqual([session]);
    await say(alice, bob, "two");
  });
});

describe("8. what is signed for the registry", () => {
  it("connects nobody: a relay takes no such time", async () => {
    const signed: string[] = [];
    const ports = realPorts({
      ...realNetwork,
      fetch: (url, init) => {
        const header = new Headers(init?.headers).get("authorization");
        if (header !== null) signed.push(header);
        return realNetwork.fetch(url, init);
      },
    });
    const { world, alice } = await openPair({ alice: ports });
    await until(alice, () => signed.length > 0, PATIENCE);
    const { did, publicKey } = alice.core.keyring.identity;
    for (const header of signed) {
      const [, from, timestamp = "", proof = ""] = header.split(" ");
      expect(from).toBe(did);
      const signature = base64.encode(base64url.decode(proof));
      const socket = await openSocket(world.server);
      socket.send({ type: "connect", from: did, public_key: base64.encode(publicKey), timestamp, signature });
      expect(await socket.ended).toBe(CLOSE.possessionUnproved);
    }
    expect(alice.core.link.online).toBe(true);
  });
});

describe("9. messages that come before their knock", () => {
  it("all of them are read when it comes, in their order, many more than five", async () => {
    const count = 40;
    expect(count).toBeLessThan(EARLY_FRAMES_MAX);
    const tap = tapped(({ type }) => type !== "knock");
    const { alice, bob } = await openPair({ alice: tap.ports });
    const words = Array.from({ length: count }, (_, index) => `word ${index}`);
    for (const message of words) await call(alice, "send", { to: didOf(bob), message });
    await call(alice, "settle", { wait_ms: 10_000 });
    for (const frame of tap.messages) await comes(bob, frame);
    expect(await inbox(bob)).toEqual([]);
    const [knock] = tap.knocks;
    if (!knock) throw new Error("no knock");
    await comes(bob, knock);
    await heard(bob, alice, words.at(-1) ?? "");
    expect(await inbox(bob)).toEqual(words);
  });
});

describe("10. plaintext", () => {
  it("is honoured from nobody, with a header or without one", async () => {
    const { world, alice, bob } = await openPair();
    const socket = await openSocket(world.server);
    socket.send(connectFrame(mallory, new Date().toISOString()));
    const ciphertext = base64.encode(utf8.encode(JSON.stringify({ type: "message", content: "trust me" })));
    const header = { dh: base64.encode(mallory.dhPublic), pn: 0, n: 0 };
    const frame = { type: "message", from: mallory.did, to: didOf(bob), plaintext: true, ciphertext };
    socket.send({ ...frame, id: "sealed-looking", header });
    socket.send({ ...frame, id: "plain" });
    await socket.read();
    // What is sent later comes later.
    await say(alice, bob, "hello");
    expect(await inbox(bob)).toEqual(["hello"]);
    expect(bob.core.link.malformed).toBe(1);
  });
});

describe("11. the link", () => {
  /** A network whose one relay does as it is told. */
  function relay() {
    const dials: SocketEvents[] = [];
    const frames: { readonly type: string }[] = [];
    const network: Network = {
      dial: (_, events) => {
        dials.push(events);
        return {
          send: (text) => frames.push(JSON.parse(text.toString())),
          ping: () => undefined,
          buffered: 0,
          close: () => undefined,
        };
      },
      fetch: () => Promise.reject(new TypeError("fetch failed")),
    };
    return { dials, frames, network };
  }

  it("beats by itself, comes back after a lost line, and not after it was refused or replaced", async () => {
    const { world, alice } = await openPair();
    await alice.close();
    for (const code of [4005, 4006]) {
      const { dials, frames, network } = relay();
      const clock = new CalendarClock(Date.now());
      const node = await openNode({ home: world.home("alice"), ports: { ...realPorts(network), clock } });
      node.start();
      dials[0]?.opened();
      // The reference relay's answer, as it was recorded.
      dials[0]?.received('{"type": "error", "detail": "Unknown frame type: fetch_pending"}');
      clock.pass(HEARTBEAT_MS);
      dials[0]?.answered();
      clock.pass(HEARTBEAT_MS);
      expect(frames.map(({ type }) => type)).toEqual(["connect", "fetch_pending", "heartbeat", "heartbeat"]);
      dials[0]?.closed(1006, "lost");
      clock.pass(LINK_BACKOFF_MAX_MS);
      expect(dials).toHaveLength(2);
      dials[1]?.opened();
      dials[1]?.closed(code, "no");
      for (let hour = 0; hour < 24; hour++) clock.pass(3_600_000);
      expect(dials).toHaveLength(2);
      expect(node.core.link.value).toBe("refused");
      await node.close();
    }
  });

  it("notices a line that is dead and does not say so, and a sleep, and comes back on a new one", async () => {
    const { world, alice } = await openPair();
    await alice.close();
    const { dials, frames, network } = relay();
    const clock = new CalendarClock(Date.now());
    const node = await openNode({ home: world.home("alice"), ports: { ...realPorts(network), clock } });
    node.start();
    const connected = (dial: SocketEvents | undefined) => {
      dial?.opened();
      dial?.received(JSON.stringify({ v: 1, type: "connected", extensions: ["accepted"], pending: 0 }));
    };
    connected(dials[0]);
    for (let beat = 0; beat < 10; beat++) {
      clock.pass(HEARTBEAT_MS);
      dials[0]?.answered();
    }
    expect([dials.length, node.core.link.online]).toEqual([1, true]);
    // The network is gone, and no socket says so.
    clock.pass(HEARTBEAT_MS);
    clock.pass(HEARTBEAT_MS);
    expect(node.core.link.online).toBe(false);
    expect(node.core.link.context?.closed?.reason).toContain("no sign of life");
    clock.pass(LINK_BACKOFF_MAX_MS);
    expect(dials).toHaveLength(2);
    connected(dials[1]);
    clock.pass(HEARTBEAT_MS);
    dials[1]?.answered();
    // The lid is closed for a night: the relay has given this connection up.
    const { length } = frames;
    clock.pass(8 * 3_600_000);
    expect(frames.slice(length).filter(({ type }) => type === "heartbeat")).toEqual([]);
    expect(node.core.link.context?.closed?.reason).toContain("asleep");
    clock.pass(LINK_BACKOFF_MAX_MS);
    expect(dials).toHaveLength(3);
    connected(dials[2]);
    expect(node.core.link.online).toBe(true);
    await node.close();
  });
});

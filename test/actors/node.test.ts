import { cp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { MeshNode } from "../../src/actors/node.ts";
import type { Ports } from "../../src/actors/ports.ts";
import { realDisk } from "../../src/store/disk.ts";
import { readJournal } from "../../src/store/journal-reader.ts";
import { filesBelow } from "../store/disks.ts";
import { call, encodingsOf, filtered, offline, openNode, openWorld } from "./world.ts";

const didOf = ({ core }: MeshNode) => core.keyring.identity.did;
/** Everything that a node knows, as JSON. */
const everything = ({ core }: MeshNode) => JSON.parse(JSON.stringify(core.system.capture()));
const bodiesOf = (inbox: { messages: { body: string }[] }) => inbox.messages.map(({ body }) => body);

/** A few messages each way, all delivered. */
async function talk(alice: MeshNode, bob: MeshNode, rounds = 3): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    await call(alice, "send", { to: didOf(bob), message: `to bob ${round}` });
    await call(bob, "await", { from: [didOf(alice)], timeout_ms: 10_000 });
    await call(bob, "send", { to: didOf(alice), message: `to alice ${round}` });
    await call(alice, "await", { from: [didOf(bob)], timeout_ms: 10_000 });
  }
  await call(alice, "settle", {});
  await call(bob, "settle", {});
}

describe("a node that is closed and opened again", () => {
  it("is the same, with its snapshots or without, and goes on talking", async () => {
    const world = await openWorld();
    const [alice, bob] = [await world.open("alice"), await world.open("bob")];
    await talk(alice, bob);
    const did = didOf(alice);
    await alice.close();
    const before = everything(alice);
    const again = await openNode({ home: world.home("alice"), ports: offline() });
    expect(everything(again)).toEqual(before);
    expect(didOf(again)).toBe(did);
    await again.close();
    await rm(join(world.home("alice"), "snapshots"), { recursive: true });
    const folded = await openNode({ home: world.home("alice"), ports: offline() });
    expect(everything(folded)).toEqual(before);
    await folded.close();
    const back = await world.open("alice");
    await talk(back, bob, 1);
    expect(await call(back, "peers", {})).toMatchObject({
      peers: [{ did: didOf(bob), sent: 4, received: 4 }],
    });
  });

  it("seals a message in the commit that queues it when nothing waits before it, and otherwise in its turn", async () => {
    const world = await openWorld();
    const [alice, bob] = [await world.open("alice"), await world.open("bob")];
    const to = didOf(bob);
    const send = (message: string) => call(alice, "send", { to, message });
    // The second one waits behind the first, which waits for a session.
    await Promise.all([send("one"), send("two")]);
    await call(alice, "settle", {});
    await Promise.all([send("three"), send("four")]);
    await call(alice, "settle", {});
    await call(bob, "settle", {});
    expect(bodiesOf(await call(bob, "inbox", {}))).toEqual(["one", "two", "three", "four"]);
    const commits = await Array.fromAsync(readJournal(realDisk, join(world.home("alice"), "journal")));
    const sending = commits
      .map(({ entries }) =>
        entries.map(({ event }) => event.type).filter((type) => /^(SEND|ENCRYPTED|SEALED)$/.test(type)),
      )
      .filter((types) => types.length > 0);
    const [queued, sealed] = [["SEND"], ["ENCRYPTED", "SEALED"]];
    const both = [...queued, ...sealed];
    expect(sending).toEqual([queued, queued, sealed, sealed, both, both]);
  });

  it("has its inbox, read and unread, word for word", async () => {
    const world = await openWorld();
    const [alice, bob] = [await world.open("alice"), await world.open("bob")];
    await talk(alice, bob, 1);
    await alice.close();
    for (const text of ["one", "two ☂", "three"]) {
      const { id, to } = await call(bob, "send", { to: didOf(alice), message: text });
      await call(bob, "sent", { to, id, wait_ms: 10_000 });
    }
    const back = await world.open("alice");
    await call(back, "settle", {});
    expect(bodiesOf(await call(back, "inbox", {}))).toEqual(["one", "two ☂", "three"]);
    expect(bodiesOf(await call(back, "inbox", { mark_read: true, limit: 1 }))).toEqual(["one"]);
    await back.close();
    const third = await world.open("alice");
    expect(await call(third, "inbox", {})).toMatchObject({
      messages: [{ body: "two ☂" }, { body: "three" }],
      unread: 2,
    });
    expect(bodiesOf(await call(third, "inbox", { all: true }))).toEqual(["two ☂", "three", "one", "to alice 0"]);
  });

  it("keeps what it accepted while nothing could be reached, and sends it in order when it can", async () => {
    const world = await openWorld();
    const [alice, bob] = [await world.open("alice"), await world.open("bob")];
    await talk(alice, bob, 1);
    await alice.close();
    const alone = await openNode({ home: world.home("alice"), ports: offline() });
    alone.start();
    const sent = await Promise.all(
      ["one", "two", "three"].map((message) => call(alone, "send", { to: didOf(bob), message })),
    );
    expect(sent.map(({ state }) => state)).toEqual(["queued", "queued", "queued"]);
    await alone.close();
    const back = await world.open("alice");
    expect(await call(back, "settle", { wait_ms: 10_000 })).toMatchObject({ queued: 0 });
    await call(bob, "settle", {});
    await call(bob, "await", { from: [didOf(back)], timeout_ms: 10_000 });
    expect(bodiesOf(await call(bob, "inbox", { all: true })).toSorted()).toEqual(["one", "three", "to bob 0", "two"]);
    const received = (await Array.fromAsync(readJournal(realDisk, join(world.home("bob"), "journal")))).flatMap(
      ({ entries }) => entries.filter(({ event }) => event.type === "RECEIVED").map(({ event }) => event.id),
    );
    expect(received.slice(1)).toEqual(sent.map(({ id }) => id));
  });

  it("a message with an id that was sent before is that message", async () => {
    const world = await openWorld();
    const [alice, bob] = [await world.open("alice"), await world.open("bob")];
    await call(alice, "send", { to: didOf(bob), message: "once", id: "the-id" });
    await call(alice, "settle", {});
    await call(bob, "await", { from: [didOf(alice)], timeout_ms: 10_000 });
    expect(await call(alice, "send", { to: didOf(bob), message: "once", id: "the-id" })).toMatchObject({
      state: "sent",
    });
    await call(alice, "settle", {});
    await talk(alice, bob, 1);
    expect(bodiesOf(await call(bob, "inbox", { all: true })).filter((body) => body === "once")).toEqual(["once"]);
  });
});

describe("a node that is killed", () => {
  it("opens again from what was on disk at that moment: a prefix of its history, and no message twice", async () => {
    const world = await openWorld();
    const [alice, bob] = [await world.open("alice"), await world.open("bob")];
    await talk(alice, bob, 1);
    const copies: string[] = [];
    const copying = (async () => {
      while (copies.length < 8) {
        for (const name of ["alice", "bob"]) {
          const copy = join(world.directory, `copy ${copies.length} of ${name}`);
          await cp(world.home(name), copy, { recursive: true });
          copies.push(copy);
        }
      }
    })();
    // They talk as long as copies are made.
    for (let round = 0; copies.length < 8; round++) {
      const said = [0, 1].map((n) => call(alice, "send", { to: didOf(bob), message: `a ${round}.${n}` }));
      await Promise.all([...said, call(bob, "send", { to: didOf(alice), message: `b ${round}` })]);
    }
    await copying;
    await call(alice, "settle", { wait_ms: 15_000 });
    await call(bob, "settle", { wait_ms: 15_000 });
    await alice.close();
    await bob.close();
    const history = async (home: string) =>
      (await Array.fromAsync(readJournal(realDisk, join(home, "journal")))).map(({ number, entries }) => ({
        number,
        entries,
      }));
    const whole = { alice: await history(world.home("alice")), bob: await history(world.home("bob")) };
    for (const copy of copies) {
      const node = await openNode({ home: copy, ports: offline() });
      const prefix = await history(copy);
      expect(prefix.length).toBeGreaterThan(0);
      expect(prefix).toEqual(whole[copy.endsWith("alice") ? "alice" : "bob"].slice(0, prefix.length));
      const received = prefix.flatMap(({ entries }) =>
        entries.filter(({ event }) => event.type === "RECEIVED").map(({ event }) => event.id),
      );
      expect(new Set(received).size).toBe(received.length);
      const { messages } = await call(node, "inbox", { all: true, limit: 200 });
      expect(messages.length).toBe(Math.min(received.length, 200));
      node.start();
      await node.close();
    }
  });
});

describe("what is on disk", () => {
  it.each([0, 1, 2])("is searched so that words are found in base64 of anything around them (%s)", (before) => {
    const text = "words that are looked for";
    const around = Buffer.from(`${"x".repeat(before)}${text}, and more`);
    for (const file of [around, Buffer.from(around.toString("base64")), Buffer.from(around.toString("hex"))])
      expect(encodingsOf(text).some((form) => file.includes(form))).toBe(true);
  });

  it("shows no words and no keys to who reads every file, while it runs and when it is closed", async () => {
    const world = await openWorld();
    const [alice, bob] = [await world.open("alice"), await world.open("bob")];
    await talk(alice, bob, 1);
    const spoken = [
      "a confidential sentence to bob",
      "a confidential sentence to alice",
      "x".repeat(100) + "large".repeat(20_000),
    ];
    await call(alice, "send", { to: didOf(bob), message: spoken[0] ?? "" });
    await call(alice, "send", { to: didOf(bob), message: spoken[2] ?? "" });
    await call(bob, "send", { to: didOf(alice), message: spoken[1] ?? "" });
    await call(bob, "await", { from: [didOf(alice)], timeout_ms: 10_000 });
    await call(alice, "await", { from: [didOf(bob)], timeout_ms: 10_000 });
    const secrets = new Map<string, Uint8Array>();
    const canaries = (node: MeshNode, name: string) => {
      const { keyring, system } = node.core;
      const { identity } = keyring;
      const keep = (what: string, key: Uint8Array | null | undefined) => key && secrets.set(`${name}'s ${what}`, key);
      keep("identity seed", identity.seed);
      keep("identity DH secret", identity.dhSecret);
      keep("signed prekey", keyring.signedPreKey(1)?.keyPair.secret);
      for (let id = 1; id <= 50; id++) keep(`one-time prekey ${id}`, keyring.oneTimePreKey(id)?.keyPair.secret);
      for (const [stream] of system.streams("conversation"))
        keep(`content key of ${stream}`, keyring.contentKey(stream.slice("conversation/".length)));
      for (const [stream] of system.streams("session")) {
        const ratchet = keyring.ratchet(stream.slice("session/".length));
        keep(`root key of ${stream}`, ratchet?.state.rootKey);
        keep(`ratchet secret of ${stream}`, ratchet?.state.self.secret);
        keep(`sending chain of ${stream}`, ratchet?.state.sending?.key);
        keep(`receiving chain of ${stream}`, ratchet?.state.receiving?.key);
        keep(`associated data of ${stream}`, undefined);
      }
    };
    canaries(alice, "alice");
    canaries(bob, "bob");
    expect(secrets.size).toBeGreaterThan(100);
    const search = async () => {
      const files = new Map([
        ...(await filesBelow(world.home("alice"))),
        ...(await filesBelow(world.home("bob"))),
        ...(await filesBelow(join(world.directory, "server"))),
      ]);
      expect(files.size).toBeGreaterThan(5);
      for (const [path, bytes] of files) {
        for (const text of spoken)
          for (const form of encodingsOf(text.slice(0, 60)))
            expect(bytes.includes(form), `"${text.slice(0, 20)}" in ${path}`).toBe(false);
        for (const [what, secret] of secrets)
          for (const form of encodingsOf(secret)) expect(bytes.includes(form), `${what} in ${path}`).toBe(false);
      }
    };
    await search();
    await alice.close();
    await bob.close();
    await search();
  });

  it("is its owner's alone", async () => {
    const world = await openWorld();
    const alice = await world.open("alice");
    await alice.close();
    const { stat } = await import("node:fs/promises");
    expect((await stat(world.home("alice"))).mode & 0o077).toBe(0);
    for (const path of (await filesBelow(world.home("alice"))).keys())
      expect((await stat(path)).mode & 0o077, path).toBe(0);
  });
});

describe("on the wire", () => {
  /** The real network, and every text that goes over its sockets. */
  const overheard = (texts: string[]): Ports =>
    filtered((frame) => {
      texts.push(JSON.stringify(frame));
      return true;
    });

  it("the relay sees who, which and when, and ciphertext: nothing that was said", async () => {
    const world = await openWorld();
    const texts: string[] = [];
    const alice = await world.open("alice", overheard(texts));
    const bob = await world.open("bob");
    await talk(alice, bob);
    const frames: Record<string, unknown>[] = texts.map((text) => JSON.parse(text));
    const messages = frames.filter(({ type }) => type === "message");
    expect(messages.length).toBeGreaterThanOrEqual(6);
    for (const frame of messages) {
      expect(Object.keys(frame).toSorted()).toEqual(["ciphertext", "from", "header", "id", "to", "ts", "type", "v"]);
      expect(Object.keys(frame.header as object).toSorted()).toEqual(["dh", "n", "pn"]);
    }
    const known = new Set([
      "connect",
      "connected",
      "fetch_pending",
      "error",
      "knock",
      "knock_accept",
      "message",
      "ack",
      "accepted",
      "heartbeat",
    ]);
    expect(frames.filter(({ type }) => !known.has(String(type)))).toEqual([]);
    const all = texts.join("\n");
    for (const said of ["to bob", "to alice"])
      for (const form of encodingsOf(`${said} 0`)) expect(all).not.toContain(form.toString("latin1"));
  });

  it("no message key is used twice: every nonce, and every place in a chain, is there once", async () => {
    const world = await openWorld();
    const texts: string[] = [];
    let alice = await world.open("alice", overheard(texts));
    const bob = await world.open("bob");
    await talk(alice, bob, 2);
    await alice.close();
    alice = await world.open("alice", overheard(texts));
    await talk(alice, bob, 2);
    interface Sealed {
      readonly id: string;
      readonly header: { readonly dh: string; readonly n: number };
      readonly ciphertext: string;
    }
    const byId = new Map<string, Sealed>();
    for (const text of texts) {
      const frame: Sealed & { type: string } = JSON.parse(text);
      if (frame.type !== "message") continue;
      expect(byId.get(frame.id)?.ciphertext ?? frame.ciphertext).toBe(frame.ciphertext);
      byId.set(frame.id, frame);
    }
    const sealed = [...byId.values()];
    expect(sealed.length).toBeGreaterThanOrEqual(8);
    expect(new Set(sealed.map(({ header }) => `${header.dh} ${header.n}`)).size).toBe(sealed.length);
    expect(new Set(sealed.map(({ ciphertext }) => ciphertext.slice(0, 16))).size).toBe(sealed.length);
  });
});

it("a home that has nothing yet says so, and is not paired", async () => {
  const world = await openWorld();
  const node = await openNode({ home: world.home("new"), ports: offline() });
  node.start();
  expect(await call(node, "whoami", {})).toMatchObject({ did: null, name: null, clusters: [] });
  await expect(call(node, "send", { to: `did:mesh:${"a".repeat(32)}`, message: "x" })).rejects.toMatchObject({
    code: "not_paired",
  });
  expect(await call(node, "peers", {})).toEqual({ peers: [], malformed: 0 });
  await node.close();
  expect(await readdir(join(world.home("new"), "journal"))).toEqual([]);
});

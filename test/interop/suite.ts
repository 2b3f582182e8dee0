/** What must hold between our laptop and the published client, whichever relay and registry they meet at. */
import { expect, it, onTestFinished } from "vitest";
import { until } from "../../src/actors/inbox.ts";
import { realNetwork } from "../../src/actors/network.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { realClock, realPorts } from "../../src/actors/ports.ts";
import { Registry } from "../../src/actors/registry.ts";
import type { SessionContext } from "../../src/machines/session/events.ts";
import { call, openNode } from "../actors/world.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { openPeer, type Peer, type Servers } from "./published.ts";

const PATIENCE_MS = 45_000;
/** Messages each way, half of them before our restart. */
const MESSAGES = 50;
const HALF = MESSAGES / 2;

const texts = (of: string, from = 0, to = MESSAGES) =>
  Array.from({ length: to - from }, (_, index) => `${of} ${from + index}`);

/** Our side: a node that can be closed and opened again. */
export class Laptop {
  node: MeshNode;
  readonly #home: string;
  readonly did: string;
  /** What it said to its operator. */
  readonly notes: string[];

  private constructor(home: string, node: MeshNode, notes: string[]) {
    this.#home = home;
    this.node = node;
    this.did = node.core.keyring.identity.did;
    this.notes = notes;
  }

  static async open({ relayUrl, registryUrl }: Servers): Promise<Laptop> {
    const home = await temporaryDirectory();
    const notes: string[] = [];
    const node = await openNode({ home, ports: realPorts(realNetwork), onNote: (line) => notes.push(line) });
    node.start();
    const name = `laptop-${home.slice(-6).replaceAll(/[^A-Za-z0-9]/g, "x")}`;
    await node.membership.join({
      controller: null,
      cluster: "interop",
      relayUrl,
      registryUrl,
      name,
      capabilities: ["chat"],
    });
    const laptop = new Laptop(home, node, notes);
    // The servers of a live test stay: nothing of ours is left there.
    const { identity } = node.core.keyring;
    const ports = { network: realNetwork, clock: realClock, signal: new AbortController().signal };
    onTestFinished(() => new Registry(ports, registryUrl).remove(identity));
    return laptop;
  }

  async close(): Promise<void> {
    await this.node.close();
  }

  async again(): Promise<void> {
    this.node = await openNode({
      home: this.#home,
      ports: realPorts(realNetwork),
      onNote: (line) => this.notes.push(line),
    });
    this.node.start();
  }

  async say(to: string, ...contents: readonly string[]): Promise<void> {
    for (const message of contents) await call(this.node, "send", { to, message });
  }

  /** What it received from a peer, in order. */
  async inbox(from: string): Promise<string[]> {
    const { messages } = await call(this.node, "inbox", { from, all: true, limit: 200 });
    return messages.map(({ body }) => body);
  }

  /** Waits until it has so many messages of a peer. */
  async has(from: string, count: number): Promise<void> {
    const isThere = () => [...this.node.core.messages.received()].filter(({ peer }) => peer === from).length >= count;
    const patience = { timeoutMs: PATIENCE_MS, signal: this.node.signal, concerns: () => true };
    expect(await until(this.node, isThere, patience)).toBe(true);
  }

  sessions(peer: string): SessionContext[] {
    return [...this.node.core.system.streams("session")]
      .map(([, state]): SessionContext => state.snapshot.context)
      .filter((session) => session.peer === peer);
  }
}

/** Takes our one-time prekeys from the registry until there are none. */
async function drain({ registryUrl }: Servers, did: string): Promise<void> {
  for (;;) {
    const response = await fetch(`${registryUrl}/v1/agents/${encodeURIComponent(did)}/prekeys`);
    expect(response.status).toBe(200);
    const bundle = (await response.json()) as { one_time_pre_key?: unknown };
    if (!bundle.one_time_pre_key) return;
  }
}

/** Both sides say all they have to say, and ours is closed and opened again in the middle. */
async function converse(laptop: Laptop, peer: Peer, begun: { ours: number; theirs: number }): Promise<void> {
  await Promise.all([
    laptop.say(peer.did, ...texts("ours", begun.ours, HALF)),
    peer.say(laptop.did, ...texts("theirs", begun.theirs, HALF)),
  ]);
  await Promise.all([laptop.has(peer.did, HALF), peer.until(() => peer.received.length >= HALF)]);
  await laptop.close();
  // Half of the rest comes while we are away.
  await peer.say(laptop.did, ...texts("theirs", HALF, HALF + 10));
  await laptop.again();
  await Promise.all([
    laptop.say(peer.did, ...texts("ours", HALF)),
    peer.say(laptop.did, ...texts("theirs", HALF + 10)),
  ]);
  await Promise.all([laptop.has(peer.did, MESSAGES), peer.until(() => peer.received.length >= MESSAGES)]);
  expect(peer.errors).toEqual([]);
  expect(peer.received).toEqual(texts("ours"));
  expect(await laptop.inbox(peer.did)).toEqual(texts("theirs"));
}

/**
 * @param open the relay and the registry of one test
 * @param proves whether the client must prove itself here, which it can do by its hooks only
 */
export function interop(open: () => Promise<Servers>, proves: boolean): void {
  it.each([
    ["with one-time prekeys", true],
    ["without one-time prekeys", false],
  ])(`it opens the session, ${MESSAGES} messages each way across our restart, %s`, async (_, withOneTime) => {
    const servers = await open();
    const laptop = await Laptop.open(servers);
    if (!withOneTime) await drain(servers, laptop.did);
    const peer = await openPeer({ ...servers, proves });
    await peer.client.establishSessionWithPeer(laptop.did);
    await peer.say(laptop.did, ...texts("theirs", 0, 1));
    await laptop.has(peer.did, 1);
    await converse(laptop, peer, { ours: 0, theirs: 1 });
    const [session, ...others] = laptop.sessions(peer.did);
    expect(others).toEqual([]);
    expect(session).toMatchObject({ role: "responder", kdf: "npm4", decrypted: MESSAGES, encrypted: MESSAGES });
    expect(session?.otk === null).toBe(!withOneTime);
  });

  // A client that registered with a proof looks like one of today: what happens to it is the test after this.
  const cases: readonly [string, number][] = [
    ["with one-time prekeys", 5],
    ["without one-time prekeys", 0],
  ];
  it.each(proves ? [] : cases)(
    `we open the session, ${MESSAGES} messages each way across our restart, %s`,
    async (_, oneTimePrekeys) => {
      const servers = await open();
      const laptop = await Laptop.open(servers);
      const peer = await openPeer({ ...servers, oneTimePrekeys });
      await laptop.say(peer.did, ...texts("ours", 0, 1));
      await peer.until(() => peer.received.length === 1);
      await converse(laptop, peer, { ours: 1, theirs: 0 });
      const [session, ...others] = laptop.sessions(peer.did);
      expect(others).toEqual([]);
      expect(session).toMatchObject({ role: "initiator", kdf: "npm4", decrypted: MESSAGES, encrypted: MESSAGES });
      expect(session?.otk === null).toBe(oneTimePrekeys === 0);
    },
  );

  it("one that does not look old reads nothing until it has spoken: then we speak as it does, and remember it", async () => {
    const servers = await open();
    const laptop = await Laptop.open(servers);
    const peer = await openPeer({ ...servers, proves: true });
    await laptop.say(peer.did, "in the wrong tongue");
    await peer.until(() => peer.errors.length > 0);
    expect(peer.errors).toEqual([expect.stringMatching(/^session_desync/)]);
    expect(peer.client.getSession(laptop.did)).toBeUndefined();

    await peer.client.establishSessionWithPeer(laptop.did);
    await peer.say(laptop.did, "hello");
    await laptop.has(peer.did, 1);
    const [first, second] = laptop.sessions(peer.did);
    expect(first).toMatchObject({ role: "initiator", kdf: "current", closed: expect.any(String) });
    expect(second).toMatchObject({ role: "responder", kdf: "npm4", closed: null });
    await laptop.say(peer.did, "now you read me");
    await peer.until(() => peer.received.length > 0);
    await peer.until(() => peer.received.length > 1);
    // What it could not read is said again.
    expect(peer.received).toEqual(["in the wrong tongue", "now you read me"]);
  });

  it("its plaintext is not honoured, with a session or without one", async () => {
    const servers = await open();
    const laptop = await Laptop.open(servers);
    const peer = await openPeer({ ...servers, proves });
    const sayPlainly = async () => {
      peer.client.addPlaintextPeer(laptop.did);
      await peer.say(laptop.did, "in the clear");
      peer.client.removePlaintextPeer(laptop.did);
    };
    await sayPlainly();
    peer.client.closeSession(laptop.did);
    await peer.client.establishSessionWithPeer(laptop.did);
    await peer.say(laptop.did, "sealed");
    await sayPlainly();
    await peer.say(laptop.did, "sealed too");
    await laptop.has(peer.did, 2);
    expect(await laptop.inbox(peer.did)).toEqual(["sealed", "sealed too"]);
    expect(laptop.node.core.link.malformed).toBeGreaterThanOrEqual(2);
  });
}

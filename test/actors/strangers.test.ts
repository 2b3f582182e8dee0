/** Who may open a session: strangers are held with a bound, shown to the person, and let in or turned away later. */
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { isVouchedFor } from "../../src/actors/admission.ts";
import { compose } from "../../src/actors/drafts.ts";
import { until } from "../../src/actors/inbox.ts";
import { openMesh } from "../../src/actors/mesh.ts";
import { realNetwork } from "../../src/actors/network.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { openCluster } from "../../src/cluster/local.ts";
import { base64url, identityFromSeed, sign, utf8 } from "../../src/crypto/index.ts";
import { MEMBERSHIP_MS, STRANGER_MESSAGES_MAX, STRANGERS_HELD_MAX, WAIT_MAX_MS } from "../../src/limits.ts";
import { Message } from "../../src/wire/frame.ts";
import { memberText } from "../../src/wire/registry.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { call, filtered, openNode, openWorld } from "./world.ts";

const PATIENCE_MS = 20_000;
const didOf = ({ core }: MeshNode) => core.keyring.identity.did;
const patient = (stream: string) => ({
  timeoutMs: PATIENCE_MS,
  signal: AbortSignal.timeout(PATIENCE_MS),
  concerns: (each: string) => each === stream,
});

async function openHouse(policy: "circle" | "verified" | "everyone" | "nobody") {
  const world = await openWorld();
  const [alice, bob] = [await world.open("alice"), await world.open("bob")];
  await call(alice, "knock_policy", { policy });
  return { world, alice, bob };
}

const peer = async (node: MeshNode, of: MeshNode) =>
  (await call(node, "peers", {})).peers.find(({ did }) => did === didOf(of));
const inbox = async (node: MeshNode) =>
  (await call(node, "inbox", { all: true, limit: 200 })).messages.map(({ body }) => body);

/** Sends, and gives how the message stands when it has come so far, or will not. */
async function send(from: MeshNode, to: MeshNode, message: string, wanted: "sent" | "delivered" = "sent") {
  const { id } = await call(from, "send", { to: didOf(to), message });
  return (await call(from, "sent", { to: didOf(to), id, until: wanted, wait_ms: PATIENCE_MS })).state;
}

/** Resolves when so many messages of a peer wait to be decided on. */
const waiting = (node: MeshNode, from: MeshNode, count: number) => {
  const stream = `conversation/${didOf(from)}`;
  return until(node, () => node.core.system.state(stream)?.snapshot.context.unread === count, patient(stream));
};
async function heard(node: MeshNode, from: MeshNode, words: readonly string[]): Promise<void> {
  const got: string[] = [];
  while (got.length < words.length) {
    const { status, messages } = await call(node, "await", { from: [didOf(from)], timeout_ms: PATIENCE_MS });
    expect(status).toBe("received");
    got.push(...messages.map(({ body }) => body));
  }
  expect(got).toEqual(words);
}

describe("a stranger", () => {
  it("is held out of sight and shown among the peers; let in, all that it said is there, and it hears of it", async () => {
    const { alice, bob } = await openHouse("verified");
    expect(await send(bob, alice, "may I?")).toBe("sent");
    expect(await send(bob, alice, "please")).toBe("sent");
    await waiting(alice, bob, 2);
    expect(await inbox(alice)).toEqual([]);
    expect(await call(alice, "inbox", {})).toMatchObject({ unread: 0, strangers: 1 });
    expect(await call(alice, "await", { from: [didOf(bob)], timeout_ms: 0 })).toMatchObject({ status: "timeout" });
    expect(await peer(alice, bob)).toMatchObject({ name: "bob", admission: "held", unread: 2 });
    expect(await peer(bob, alice)).toMatchObject({ confirmed: false });

    expect(await call(alice, "accept", { peer: "bob" })).toMatchObject({ did: didOf(bob), unread: 2 });
    await heard(alice, bob, ["may I?", "please"]);
    expect(await send(bob, alice, "thanks", "delivered")).toBe("delivered");
    expect(await send(alice, bob, "welcome", "delivered")).toBe("delivered");
    expect(await peer(bob, alice)).toMatchObject({ confirmed: true });
  });

  it("is still held after a restart, and what it said is still there", async () => {
    const { world, alice, bob } = await openHouse("verified");
    await send(bob, alice, "may I?");
    await waiting(alice, bob, 1);
    await alice.close();
    const back = await world.open("alice");
    expect(await inbox(back)).toEqual([]);
    expect(await peer(back, bob)).toMatchObject({ admission: "held" });
    await call(back, "accept", { peer: didOf(bob) });
    expect(await inbox(back)).toEqual(["may I?"]);
  });

  it("can say so much and no more: the rest waits at the relay, and comes in its order when it is let in", async () => {
    const { alice, bob } = await openHouse("verified");
    const words = Array.from({ length: 2 * STRANGER_MESSAGES_MAX }, (_, index) => `word ${index}`);
    for (const word of words) expect(await send(bob, alice, word)).toBe("sent");
    await waiting(alice, bob, STRANGER_MESSAGES_MAX);
    const { position } = alice.core.system;
    await send(bob, alice, "one more");
    await alice.core.lanes.idle();
    expect(alice.core.system.position).toBe(position);
    await call(alice, "accept", { peer: "bob" });
    await heard(alice, bob, [...words, "one more"]);
  });

  it("that is turned away is told so; nothing that it says later is shown; it may be let in after all", async () => {
    const { alice, bob } = await openHouse("verified");
    await send(bob, alice, "may I?");
    await waiting(alice, bob, 1);
    await call(alice, "decline", { peer: "bob" });
    expect(await peer(alice, bob)).toMatchObject({ admission: "declined" });
    expect(await send(bob, alice, "why not?", "delivered")).toBe("undeliverable");
    expect(await inbox(alice)).toEqual([]);
    await call(alice, "accept", { peer: didOf(bob) });
    expect(await send(bob, alice, "at last", "delivered")).toBe("delivered");
    expect(await inbox(alice)).toEqual(["may I?", "at last"]);
  });

  it("is let in by being written to, and by being verified", async () => {
    const { world, alice, bob } = await openHouse("verified");
    const carol = await world.open("carol");
    for (const each of [bob, carol]) {
      await send(each, alice, "may I?");
      await waiting(alice, each, 1);
    }
    await send(alice, bob, "you may");
    await call(alice, "verify", { peer: didOf(carol), record: "verified" });
    expect(await inbox(alice)).toEqual(["may I?", "may I?"]);
    expect(await peer(alice, carol)).toMatchObject({ admission: "admitted" });
  });

  it("waits longer when as many as may be are held, and comes through when there is room", async () => {
    const { alice, bob } = await openHouse("verified");
    const others = Array.from(
      { length: STRANGERS_HELD_MAX },
      (_, index) => `did:mesh:${String(index).padStart(32, "0")}`,
    );
    const held = others.map((did) => ({ stream: `conversation/${did}`, event: { type: "HELD" } }));
    await alice.core.system.commit(held).durable;
    const { id } = await call(bob, "send", { to: didOf(alice), message: "may I?" });
    const stream = `conversation/${didOf(alice)}`;
    await until(bob, () => bob.core.system.state(stream)?.snapshot.matches("waiting") === true, patient(stream));
    expect(await peer(alice, bob)).toBeUndefined();
    await call(alice, "decline", { peer: others[0] ?? "" });
    await waiting(alice, bob, 1);
    expect(await peer(alice, bob)).toMatchObject({ admission: "held" });
    await call(alice, "accept", { peer: "bob" });
    expect(await call(bob, "sent", { to: didOf(alice), id, until: "delivered", wait_ms: PATIENCE_MS })).toMatchObject({
      state: "delivered",
    });
  });
});

describe("a stranger cannot get round that", () => {
  const context = (node: MeshNode, of: MeshNode) =>
    node.core.system.state(`conversation/${didOf(of)}`)?.snapshot.context;

  it("by receipts: they are bounded as its words are, and mean nothing when it is let in", async () => {
    const { alice, bob } = await openHouse("verified");
    await send(bob, alice, "may I?");
    for (let count = 0; count < 2 * STRANGER_MESSAGES_MAX; count++) {
      const { entries, ...rest } = compose(bob.core, didOf(alice), {
        type: "mesh:receipt",
        delivered: ["x"],
        read: [],
      });
      await bob.core.system.commit(entries, rest).durable;
    }
    const stream = `conversation/${didOf(alice)}`;
    await until(bob, () => context(bob, alice)?.outbox.length === 0, patient(stream));
    await send(bob, alice, "please");
    await alice.core.lanes.idle();
    expect(context(alice, bob)).toMatchObject({ received: STRANGER_MESSAGES_MAX, unread: 1 });
    await call(alice, "accept", { peer: "bob" });
    await heard(alice, bob, ["may I?", "please"]);
    const fromBob = `conversation/${didOf(bob)}`;
    expect(await until(alice, () => context(alice, bob)?.handling.length === 0, patient(fromBob))).toBe(true);
  });

  it("by having been let in before: what is gathered for it is not told", async () => {
    const { alice, bob } = await openHouse("everyone");
    await send(bob, alice, "hello");
    await heard(alice, bob, ["hello"]);
    await alice.core.system.commit([{ stream: `conversation/${didOf(bob)}`, event: { type: "HELD" } }]).durable;
    expect(alice.receipts.flush()).toBe(false);
    await call(alice, "accept", { peer: "bob" });
    expect(alice.receipts.flush()).toBe(true);
  });

  it("by work: it keeps nobody waiting that settles", async () => {
    const { alice, bob } = await openHouse("verified");
    const { entries, ...rest } = compose(bob.core, didOf(alice), { type: "task_received", request_id: "r" });
    await bob.core.system.commit(entries, rest).durable;
    await until(alice, () => context(alice, bob)?.handling.length === 1, patient(`conversation/${didOf(bob)}`));
    expect(await call(alice, "settle", { wait_ms: WAIT_MAX_MS })).toMatchObject({ online: true });
    expect(context(alice, bob)?.handling).toHaveLength(1);
  });

  it("and is let in by a knock that the policy takes meanwhile", async () => {
    const { alice, bob } = await openHouse("verified");
    await send(bob, alice, "may I?");
    await waiting(alice, bob, 1);
    await call(alice, "knock_policy", { policy: "everyone" });
    const { session } = context(bob, alice);
    const reject = { v: 1, type: "knock_reject", from: didOf(alice), to: didOf(bob), id: "r" } as const;
    await bob.knocks.onReject({ ...reject, knock_id: session });
    await heard(alice, bob, ["may I?"]);
  });

  it("what it says while it is let in does not overtake what waits at the relay", async () => {
    const world = await openWorld();
    const frames: Message[] = [];
    const alice = await world.open(
      "alice",
      filtered((frame, direction) => {
        if (direction === "in" && frame.type === "message") frames.push(Message.parse(frame));
        return true;
      }),
    );
    const bob = await world.open("bob");
    await call(alice, "knock_policy", { policy: "verified" });
    const words = Array.from({ length: STRANGER_MESSAGES_MAX + 2 }, (_, index) => `word ${index}`);
    for (const word of words) await send(bob, alice, word);
    await until(alice, () => frames.length >= words.length, patient("link/relay"));
    await waiting(alice, bob, STRANGER_MESSAGES_MAX);
    await alice.core.lanes.idle();
    const { durable } = alice.core.system.commit([
      { stream: `conversation/${didOf(bob)}`, event: { type: "ADMITTED" } },
    ]);
    const last = frames.at(-1);
    if (last) alice.incoming.onFrame(last, 1);
    await durable;
    await heard(alice, bob, words);
  });
});

describe("the policy", () => {
  it("nobody: strangers are refused, and whoever was written to may answer", async () => {
    const { world, alice, bob } = await openHouse("nobody");
    expect(await send(bob, alice, "may I?", "delivered")).toBe("undeliverable");
    expect(await peer(alice, bob)).toBeUndefined();
    const carol = await world.open("carol");
    await send(alice, carol, "hello", "delivered");
    expect(await send(carol, alice, "hello back", "delivered")).toBe("delivered");
  });

  it("everyone: nobody is asked", async () => {
    const { alice, bob } = await openHouse("everyone");
    expect(await send(bob, alice, "hello", "delivered")).toBe("delivered");
  });

  it("circle, which is the default: whom the cluster vouches for may, whoever only registered there waits", async () => {
    const directory = await temporaryDirectory();
    const cluster = await openCluster({ directory: join(directory, "cluster"), port: 0 });
    onTestFinished(() => cluster.close());
    const member = async (name: string) => {
      const node = await openNode({ home: join(directory, name), ports: realPorts(realNetwork) });
      node.start();
      const { token } = await cluster.call("grant_issue", { name, expires_ms: 60_000 });
      await call(node, "pair", { token });
      return node;
    };
    const [alice, bob, carol] = [await member("alice"), await member("bob"), await member("carol")];
    const mallory = await openNode({ home: join(directory, "mallory"), ports: realPorts(realNetwork) });
    mallory.start();
    const { relay_url: relayUrl, registry_url: registryUrl } = cluster.urls;
    const place = { controller: null, cluster: "local", relayUrl, registryUrl, name: "bob", capabilities: [] };
    await mallory.membership.join(place);
    expect(await call(alice, "knock_policy", {})).toEqual({ policy: "circle" });
    expect(await send(bob, alice, "hello", "delivered")).toBe("delivered");
    await send(mallory, alice, "it is me, bob");
    await waiting(alice, mallory, 1);
    await cluster.call("grant_revoke", { name: "carol" });
    await send(carol, alice, "hello");
    await waiting(alice, carol, 1);
    expect(await inbox(alice)).toEqual(["hello"]);
  });

  it("keeps no sandbox of an own offload out, not even nobody", async () => {
    const directory = await temporaryDirectory();
    const cluster = await openCluster({ directory: join(directory, "cluster"), port: 0 });
    onTestFinished(() => cluster.close());
    const laptop = await openMesh({ home: join(directory, "laptop") });
    onTestFinished(() => laptop.close());
    const { token } = await cluster.call("grant_issue", { name: "laptop", expires_ms: 60_000 });
    await laptop.call("pair", { token });
    await laptop.call("knock_policy", { policy: "nobody" });
    const { offload_id: id } = await laptop.call("offload", { task: "list the files" });
    const view = await laptop.call("offload_status", { id, wait_ms: 60_000, until_over: true });
    expect(view).toMatchObject({ status: "done" });
  });
});

describe("a controller's word for a member", () => {
  const [controller, other] = [1, 2].map((fill) => identityFromSeed(new Uint8Array(32).fill(fill)));
  const now = Date.parse("2026-03-01T12:00:00.000Z");
  const member = `did:mesh:${"a".repeat(32)}`;
  const word = (ends: number, { by = controller, did = member } = {}) => {
    if (!by) throw new Error("no identity");
    const expires_at = new Date(ends).toISOString();
    const signature = base64url.encode(sign(by, utf8.encode(memberText(did, expires_at))));
    return { controller_key: base64url.encode(by.publicKey), expires_at, signature };
  };
  const counts = (given: ReturnType<typeof word> | undefined) =>
    isVouchedFor(controller?.did ?? "", member, given, now);

  it("counts for that member, by that controller, for a while", () => {
    expect(counts(word(now + MEMBERSHIP_MS))).toBe(true);
    expect(counts(undefined)).toBe(false);
    expect(counts(word(now + MEMBERSHIP_MS, { by: other }))).toBe(false);
    expect(counts(word(now + MEMBERSHIP_MS, { did: `did:mesh:${"b".repeat(32)}` }))).toBe(false);
    expect(counts(word(now))).toBe(false);
    expect(counts(word(now + 3 * MEMBERSHIP_MS))).toBe(false);
    expect(counts({ ...word(now + MEMBERSHIP_MS), expires_at: "never" })).toBe(false);
  });
});

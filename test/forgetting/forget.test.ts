/** What `forget` leaves of a conversation in a home: that it was, and no word of it. */
import { cp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { compose } from "../../src/actors/drafts.ts";
import { MeshNode } from "../../src/actors/node.ts";
import { offloadOf } from "../../src/actors/offloads.ts";
import { realDisk } from "../../src/store/disk.ts";
import { call, offline, openNode, openWorld, type World } from "../actors/world.ts";
import { killedAt, temporaryDirectory } from "../store/disks.ts";
import { burgle } from "./burglar.ts";

const didOf = (node: MeshNode) => node.core.keyring.identity.did;
const textsOf = ({ messages }: { messages: readonly { body: string }[] }) => messages.map(({ body }) => body);

const SAID = ["the first word to bob", "the first word to alice", "a word that waits"];
const LARGE = "a large word that waits ".repeat(4_000);

/** Alice and Bob have talked, and Alice, offline since, has more to say: queued words, and a blob. */
async function talkedTo(world: World): Promise<{ alice: string; bob: string }> {
  const alice = await world.open("alice");
  const bob = await world.open("bob");
  await call(alice, "send", { to: "bob", message: SAID[0] ?? "" });
  await call(bob, "await", { from: [didOf(alice)], timeout_ms: 10_000 });
  await call(bob, "send", { to: didOf(alice), message: SAID[1] ?? "" });
  await call(alice, "await", { from: [didOf(bob)], timeout_ms: 10_000 });
  const names = { alice: didOf(alice), bob: didOf(bob) };
  await alice.close();
  await bob.close();
  const later = await MeshNode.open({ home: world.home("alice"), ports: offline() });
  await call(later, "send", { to: names.bob, message: SAID[2] ?? "", id: "waits" });
  const { entries, secrets, before } = compose(later.core, names.bob, {
    type: "offload_progress",
    request_id: "r",
    message: LARGE,
  });
  const session = later.sessions.known.all(names.bob)[0];
  await later.core.system.commit(entries, {
    before,
    // As if a frame had been passed over, and another were on its way.
    secrets: { ...secrets, [`skipped/${session}/x`]: key(1), [`sent/${names.bob}/y`]: key(2) },
  }).durable;
  await later.close();
  return names;
}
const key = (byte: number) => Buffer.alloc(32, byte).toString("base64");

const wantedOf = (contentKey: Uint8Array | undefined) => ({
  ...Object.fromEntries(SAID.map((text) => [text, text])),
  "the large word": LARGE.slice(0, 100),
  "the skipped key": Buffer.alloc(32, 1),
  "the sent key": Buffer.alloc(32, 2),
  ...(contentKey && { "the content key": contentKey }),
});

describe("a conversation that is forgotten", () => {
  it("is readable in no file, with any key in the home, and that it was stays", { timeout: 30_000 }, async () => {
    const world = await openWorld();
    const names = await talkedTo(world);
    const home = world.home("alice");
    const alice = await openNode({ home, ports: offline() });
    alice.start();
    const wanted = wantedOf(alice.core.keyring.contentKey(names.bob));
    // Before it, a burglar with the store key reads it all.
    const before = await burgle(home, wanted);
    for (const what of Object.keys(wanted)) expect(before.join("\n")).toContain(`${what} in `);

    const preview = await call(alice, "forget", { peer: names.bob, preview: true });
    expect(preview).toEqual({ did: names.bob, name: "bob", messages: 2, undelivered: 2, offloads: 0, folders: 0 });
    expect((await call(alice, "inbox", { all: true })).messages).toHaveLength(1);
    expect(await call(alice, "forget", { peer: "bob" })).toEqual(preview);

    expect(await burgle(home, wanted)).toEqual([]);
    expect(await readdir(join(home, "blobs"))).toEqual([]);
    expect(textsOf(await call(alice, "inbox", { all: true }))).toEqual(["(forgotten)"]);
    expect((await call(alice, "inbox", {})).unread).toBe(0);
    expect(await call(alice, "sent", { to: names.bob, id: "waits" })).toMatchObject({ state: "undeliverable" });
    await alice.close();
    expect(await burgle(home, wanted)).toEqual([]);
  });

  it("can be taken up again by either side, and what is said then has a key of its own", {
    timeout: 30_000,
  }, async () => {
    const world = await openWorld();
    const names = await talkedTo(world);
    let alice = await world.open("alice");
    const old = alice.core.keyring.contentKey(names.bob);
    await call(alice, "forget", { peer: names.bob });
    const bob = await world.open("bob");
    await call(bob, "send", { to: names.alice, message: "again, to alice" });
    await call(alice, "await", { from: [names.bob], timeout_ms: 10_000 });
    await call(alice, "send", { to: names.bob, message: "again, to bob" });
    // What was under way when it was forgotten may come first.
    const came: string[] = [];
    while (!came.includes("again, to bob"))
      came.push(...textsOf(await call(bob, "await", { from: [names.alice], timeout_ms: 10_000 })));
    expect(alice.core.keyring.contentKey(names.bob)).not.toEqual(old);
    for (const keepsSnapshots of [true, false]) {
      await alice.close();
      if (!keepsSnapshots) await rm(join(world.home("alice"), "snapshots"), { recursive: true });
      alice = await world.open("alice");
      expect(textsOf(await call(alice, "inbox", { all: true })).toSorted()).toEqual(["(forgotten)", "again, to alice"]);
    }
  });

  it("a process that dies at any step leaves it forgotten or not, and asking again finishes it", {
    timeout: 60_000,
  }, async () => {
    const world = await openWorld();
    const names = await talkedTo(world);
    const fates = new Set<string>();
    for (let step = 1; ; step++) {
      const home = join(await temporaryDirectory(), "home");
      await cp(world.home("alice"), home, { recursive: true });
      const disk = killedAt(step);
      let wanted = wantedOf(undefined);
      let dying: MeshNode | undefined;
      try {
        dying = await MeshNode.open({ home, ports: { ...offline(), disk } });
        wanted = wantedOf(dying.core.keyring.contentKey(names.bob));
        await call(dying, "forget", { peer: names.bob });
      } catch (error) {
        if (!disk.wasKilled()) throw error;
      }
      await dying?.close();
      const again = await MeshNode.open({ home, ports: offline() });
      const [text] = textsOf(await call(again, "inbox", { all: true }));
      expect([SAID[1], "(forgotten)"], `step ${step}`).toContain(text);
      fates.add(text ?? "");
      const waits = again.core.system.state(`conversation/${names.bob}`)?.snapshot.context.outbox.length;
      expect(waits, `step ${step}`).toBe(text === "(forgotten)" ? 0 : 2);
      await call(again, "forget", { peer: names.bob });
      await again.close();
      expect(await burgle(home, wanted), `step ${step}`).toEqual([]);
      if (!disk.wasKilled()) break;
    }
    expect(fates.size).toBe(2);
  });

  it("one that was cut short finishes itself when the home opens next", { timeout: 30_000 }, async () => {
    const world = await openWorld();
    const names = await talkedTo(world);
    const home = world.home("alice");
    let isFull = false;
    const ports = offline();
    const refusing = {
      ...realDisk,
      replace: (path: string, bytes: Uint8Array) =>
        isFull ? Promise.reject(new Error("ENOSPC: no space left on device")) : realDisk.replace(path, bytes),
    };
    const alice = await MeshNode.open({ home, ports: { ...ports, disk: refusing } });
    const wanted = wantedOf(alice.core.keyring.contentKey(names.bob));
    isFull = true;
    await expect(call(alice, "forget", { peer: names.bob })).rejects.toMatchObject({ code: "store_io" });
    await alice.close();
    const again = await MeshNode.open({ home, ports: offline() });
    again.start();
    await again.close();
    expect(await burgle(home, wanted)).toEqual([]);
  });

  it("names that nobody here has are unknown, and nothing is asked of the registry", async () => {
    const node = await openNode({ home: await temporaryDirectory(), ports: offline() });
    await expect(call(node, "forget", { peer: "nobody" })).rejects.toMatchObject({ code: "peer_unknown" });
  });
});

describe("offloads of a peer that is forgotten", () => {
  const CONTROLLER = `did:mesh:${"c".repeat(32)}`;
  const SANDBOX = `did:mesh:${"d".repeat(32)}`;
  const ID = "00000000-0000-4000-8000-000000000001";

  /** An offload whose sandbox sent one result file, and which is over or not. */
  async function offloaded(isOver: boolean) {
    const home = await temporaryDirectory();
    const node = await openNode({ home, ports: offline() });
    await node.offloads.begin({ id: ID, controller: CONTROLLER, task: "count the stars", files: [], target: {} });
    const { bodies, system } = node.core;
    const stream = offloadOf(ID);
    const path = join(home, "offloads", ID, "stars.txt");
    await realDisk.makeDirectory(join(home, "offloads", ID));
    await realDisk.replace(path, Buffer.from("as many as there are"));
    const file = bodies.seal(stream, JSON.stringify({ name: "stars.txt", path }));
    const summary = bodies.seal(stream, "there are many");
    const end = { type: "FINISHED", body: summary.body, outputs: 1, tokens: null, duration_seconds: null };
    await system.commit(
      [
        { stream, event: { type: "ASKED" } },
        { stream, event: { type: "GREETED", did: SANDBOX, awaits_task: false } },
        { stream, event: { type: "FILE_SAVED", body: file.body, size: 20, sha256: "0".repeat(64) } },
        ...(isOver ? [{ stream, event: end }] : []),
        ...[CONTROLLER, SANDBOX].map((did) => ({
          stream: `conversation/${did}`,
          event: { type: "NAMED", name: did === SANDBOX ? "box" : "cluster", source: "registry" },
        })),
      ],
      { secrets: { ...file.secrets, ...summary.secrets } },
    ).durable;
    return { home, node, wanted: { task: "count the stars", summary: "there are many", file: "as many as there are" } };
  }

  it("lose their words and their result files with the sandbox; what they were stays", async () => {
    const { home, node, wanted } = await offloaded(true);
    expect((await burgle(home, wanted)).length).toBeGreaterThan(2);
    expect(await call(node, "forget", { peer: "box" })).toMatchObject({ did: SANDBOX, offloads: 1, folders: 1 });
    expect(await burgle(home, wanted)).toEqual([]);
    expect(await readdir(join(home, "offloads"))).toEqual([]);
    expect(await call(node, "offload_status", { id: ID })).toMatchObject({
      status: "done",
      task: "(forgotten)",
      summary: "(forgotten)",
      files: [{ name: "", size: 20 }],
    });
  });

  it("lose their words with the controller, and keep the files, which it never had", async () => {
    const { home, node, wanted } = await offloaded(true);
    expect(await call(node, "forget", { peer: "cluster" })).toMatchObject({ offloads: 1, folders: 0 });
    expect(await burgle(home, wanted)).toEqual([`file in ${join(home, "offloads", ID, "stars.txt")}`]);
  });

  it("are not taken from under one that has not ended", async () => {
    const { home, node, wanted } = await offloaded(false);
    for (const peer of [SANDBOX, CONTROLLER])
      await expect(call(node, "forget", { peer })).rejects.toMatchObject({ code: "offload_running" });
    expect((await burgle(home, wanted)).length).toBeGreaterThan(1);
  });
});

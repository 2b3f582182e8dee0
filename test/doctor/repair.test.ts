// A damaged home is salvaged: its longest sound prefix becomes a new home in its place, and the damaged one is kept.

import { readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { realNetwork } from "../../src/actors/network.ts";
import { MeshNode } from "../../src/actors/node.ts";
import { claimOwnership } from "../../src/actors/owner.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { repairHome } from "../../src/actors/repair.ts";
import type { ConversationContext } from "../../src/machines/conversation/events.ts";
import type { SessionContext } from "../../src/machines/session/events.ts";
import { call, offline, openNode, openWorld, type World } from "../actors/world.ts";
import { ALICE } from "../specification.ts";
import { filesBelow, temporaryDirectory } from "../store/disks.ts";

const repair = (home: string) => repairHome({ home, ports: offline() });
const segmentIn = (home: string, name = "000000000001.jsonl") => join(home, "journal", name);

/** Changes one byte in a line of a segment, counted from 1; the last ones from -1. */
async function damageLine(home: string, line: number, segment?: string): Promise<void> {
  const path = segmentIn(home, segment);
  const lines = (await readFile(path, "utf8")).split("\n");
  const index = line > 0 ? line - 1 : lines.length - 1 + line;
  lines[index] = lines[index]?.replace('"e":', '"E":') ?? "";
  await writeFile(path, lines.join("\n"));
}

/** The number of the commit in which an event of that type first stands. */
async function commitOf(home: string, type: string, occurrence = 1): Promise<number> {
  const lines = (await readFile(segmentIn(home), "utf8")).split("\n");
  let seen = 0;
  return 1 + lines.findIndex((line) => line.includes(`"type":"${type}"`) && ++seen === occurrence);
}

const says = (node: MeshNode, to: string, message: string) => call(node, "send", { to, message });
async function hears(node: MeshNode, from: string): Promise<string[]> {
  const { messages } = await call(node, "await", { from: [from], timeout_ms: 15_000 });
  return messages.map(({ body }) => body);
}

/** Two who have talked, both ways, and one of them has gone to sleep. */
async function talked(world: World): Promise<{ home: string; did: string; bob: MeshNode }> {
  const bob = await world.open("bob");
  const alice = await world.open("alice");
  await says(alice, "bob", "one");
  expect(await hears(bob, "alice")).toEqual(["one"]);
  await says(bob, "alice", "two");
  expect(await hears(alice, "bob")).toEqual(["two"]);
  await says(alice, "bob", "three");
  expect(await hears(bob, "alice")).toEqual(["three"]);
  const { did } = alice.core.keyring.identity;
  await alice.close();
  return { home: world.home("alice"), did, bob };
}

const damagedBeside = async (home: string) =>
  (await readdir(dirname(home))).filter((name) => name.startsWith(`${basename(home)}.damaged-`));

describe("a journal that is damaged in the middle", () => {
  it("is cut there: the new home opens, is who it was, and talks with its old peers both ways", async () => {
    const world = await openWorld();
    const { home, did, bob } = await talked(world);
    // The vault is of the end, so it is newer than what is kept.
    const line = await commitOf(home, "RECEIVED");
    await damageLine(home, line);
    const before = await filesBelow(home);
    await expect(MeshNode.open({ home, ports: offline() })).rejects.toMatchObject({ code: "store_damaged" });

    const told = await repair(home);
    expect(told).toMatchObject({
      outcome: "repaired",
      kept: { commits: line - 1 },
      sessions_closed: 1,
      secrets_unreadable: 0,
      given_up: 0,
    });
    expect(told.left?.commits).toBeGreaterThan(3);
    // The damaged home is as it was, byte for byte.
    const damaged = told.damaged ?? "";
    for (const [path, bytes] of before)
      if (!path.includes("owner.")) expect(await readFile(path.replace(home, damaged)), path).toEqual(bytes);

    const alice = await world.open("alice");
    expect(alice.core.keyring.identity.did).toBe(did);
    const [session] = [...alice.core.system.streams("session")].map(([, { snapshot }]) => snapshot.context);
    expect((session as SessionContext).closed).toContain("repaired");
    // What the peer says in the session that it still believes in cannot be read, and is counted when that is certain.
    await says(bob, "alice", "unheard");
    await says(alice, "bob", "four");
    expect(await hears(bob, "alice")).toContain("four");
    await says(bob, "alice", "five");
    expect(await hears(alice, "bob")).toEqual(["five"]);
    const { peers } = await call(alice, "peers", {});
    expect(peers).toMatchObject([{ confirmed: true }]);
    // On a slow machine a receipt that was owed has come in the lost session, too.
    expect([1, 2]).toContain(peers[0]?.unreadable);
    const { messages } = await call(bob, "inbox", { all: true });
    expect(messages.map(({ body }) => body).sort()).toEqual(["four", "one", "three"]);
  });

  it("in a closed segment: everything behind it stays in the damaged home", async () => {
    const home = await temporaryDirectory();
    const node = await MeshNode.open({ home, ports: offline(), limits: { segmentSize: 500 } });
    for (let n = 1; n <= 9; n++) {
      const event = { type: "NAMED", name: `name ${n}`, source: "registry" };
      await node.core.system.commit([{ stream: `conversation/${ALICE}`, event }], { secrets: { identity: "AA==" } })
        .durable;
    }
    await node.close();
    const segments = await readdir(join(home, "journal"));
    expect(segments.length).toBeGreaterThan(2);
    const [, second = ""] = segments;
    await damageLine(home, 1, second);
    const kept = Number.parseInt(second, 10) - 1;
    expect(await repair(home)).toMatchObject({
      outcome: "repaired",
      kept: { commits: kept },
      left: { commits: 9 - kept },
    });
    const again = await openNode({ home, ports: offline() });
    expect(again.core.system.state(`conversation/${ALICE}`)?.snapshot.context.name).toBe(`name ${kept}`);
  });

  it("what had not left is sealed anew by a session of its own, and arrives once", async () => {
    const world = await openWorld();
    const { home, bob } = await talked(world);
    const alice = await openNode({ home, ports: offline() });
    alice.start();
    for (const message of ["late one", "late two"]) await says(alice, bob.core.keyring.identity.did, message);
    await alice.core.lanes.idle();
    await says(alice, bob.core.keyring.identity.did, "lost");
    await alice.core.lanes.idle();
    await alice.close();
    await damageLine(home, await commitOf(home, "SEND", 5));
    expect(await repair(home)).toMatchObject({ outcome: "repaired", queued: 2, sessions_closed: 1 });
    const again = await world.open("alice");
    const arrived: string[] = [];
    while (arrived.length < 2) arrived.push(...(await hears(bob, "alice")));
    expect(arrived).toEqual(["late one", "late two"]);
    // The relay's word that it has them may come after them.
    await call(again, "settle", {});
    const { peers } = await call(again, "peers", {});
    expect(peers).toMatchObject([{ queued: 0, sent: 4 }]);
  });

  it("a node that was killed has its newest secrets in the journal: those behind the damage count, too", async () => {
    const world = await openWorld();
    const bob = await world.open("bob");
    const alice = await world.open("alice");
    await says(alice, "bob", "one");
    expect(await hears(bob, "alice")).toEqual(["one"]);
    const home = world.home("killed");
    await rename(world.home("alice"), home);
    // Its vault is of its beginning: all that is secret stands in the journal alone.
    await damageLine(home, await commitOf(home, "REGISTERED"));
    expect(await repair(home)).toMatchObject({ outcome: "repaired", kept: { commits: 1 }, secrets_unreadable: 0 });
    const { keyring } = (await openNode({ home, ports: offline() })).core;
    expect(keyring.identity.did).toBe(alice.core.keyring.identity.did);
    expect(keyring.contentKey(bob.core.keyring.identity.did)).toBeDefined();
    expect(keyring.signedPreKey(1)).toBeDefined();
    for (const [, { snapshot }] of alice.core.system.streams("session"))
      expect(keyring.ratchet((snapshot.context as SessionContext).id), "no ratchet goes back").toBeUndefined();
  });
});

describe("a vault and a journal that do not fit", () => {
  it("a journal that was cut is taken as it is, with the vault's secrets", async () => {
    const world = await openWorld();
    const { home, did, bob } = await talked(world);
    const path = segmentIn(home);
    const lines = (await readFile(path, "utf8")).split("\n");
    await writeFile(path, `${lines.slice(0, -3).join("\n")}\n`);
    await expect(MeshNode.open({ home, ports: offline() })).rejects.toMatchObject({ code: "store_damaged" });
    expect(await repair(home)).toMatchObject({ outcome: "repaired", left: { commits: 2 } });
    const alice = await world.open("alice");
    expect(alice.core.keyring.identity.did).toBe(did);
    await says(alice, "bob", "again");
    expect(await hears(bob, "alice")).toEqual(["again"]);
  });

  it("an older vault keeps every fact; what was sealed in the epochs that it does not know is told", async () => {
    const world = await openWorld();
    const home = world.home("alice");
    const bob = await world.open("bob");
    await (await world.open("alice")).close();
    const vault = await readFile(join(home, "vault"));
    for (const message of ["one", "two"]) {
      const alice = await world.open("alice");
      await says(alice, "bob", message);
      expect(await hears(bob, "alice")).toEqual([message]);
      await alice.close();
    }
    await writeFile(join(home, "vault"), vault);
    await expect(MeshNode.open({ home, ports: offline() })).rejects.toMatchObject({ code: "store_damaged" });
    const told = await repair(home);
    expect(told).toMatchObject({ outcome: "repaired", left: { commits: 0 }, sessions_closed: 1 });
    expect(told.secrets_unreadable).toBeGreaterThan(0);
    const alice = await world.open("alice");
    await says(alice, "bob", "three");
    expect(await hears(bob, "alice")).toEqual(["three"]);
  });

  it("without a vault or its key nothing can be repaired, and nothing is changed", async () => {
    for (const [name, code] of [
      ["vault", "store_damaged"],
      ["store.key", "store_key_unreadable"],
    ] as const) {
      const home = await temporaryDirectory();
      const node = await MeshNode.open({ home, ports: offline() });
      const event = { type: "NAMED", name: "a", source: "registry" };
      await node.core.system.commit([{ stream: `conversation/${ALICE}`, event }]).durable;
      await node.close();
      await rm(join(home, name));
      const before = (await readdir(home)).sort();
      await expect(repair(home)).rejects.toMatchObject({ code, message: expect.stringContaining(join(home, name)) });
      expect((await readdir(home)).filter((each) => !each.startsWith("owner.")).sort()).toEqual(before);
      expect(await damagedBeside(home)).toEqual([]);
    }
  });
});

describe("a repair", () => {
  const damaged = async (): Promise<string> => {
    const home = join(await temporaryDirectory(), "home");
    const node = await MeshNode.open({ home, ports: offline() });
    for (const name of ["a", "b", "c"]) {
      const event = { type: "NAMED", name, source: "registry" };
      await node.core.system.commit([{ stream: `conversation/${ALICE}`, event }]).durable;
    }
    await node.close();
    await damageLine(home, 2);
    return home;
  };
  const nameIn = async (home: string) => {
    const node = await openNode({ home, ports: offline() });
    return node.core.system.state(`conversation/${ALICE}`)?.snapshot.context.name;
  };

  it.each([1, 2, 3])(
    "that is killed at its rename %i is finished by the next, and no new home is begun meanwhile",
    async (at) => {
      const home = await damaged();
      let renames = 0;
      const move: typeof rename = (from, to) =>
        ++renames < at ? rename(from, to) : Promise.reject(new Error("killed"));
      await expect(repairHome({ home, ports: offline(), move })).rejects.toMatchObject({ message: /killed/ });
      await expect(MeshNode.open({ home, ports: offline() })).rejects.toMatchObject({ code: "store_damaged" });
      const { outcome, damaged: aside } = await repair(home);
      expect(outcome).toBe(at === 3 ? "finished" : "repaired");
      expect(await readdir(dirname(home))).toEqual(["home", basename(aside ?? "")]);
      expect(await nameIn(home)).toBe("a");
    },
  );

  it("leaves a home that opens as it is", async () => {
    const home = await damaged();
    await repair(home);
    const before = await readFile(segmentIn(home));
    expect(await repair(home)).toMatchObject({ outcome: "sound", damaged: null });
    expect(await readFile(segmentIn(home))).toEqual(before);
    expect(await damagedBeside(home)).toHaveLength(1);
  });

  it("never runs beside a live owner, and makes no home where there is none", async () => {
    const home = await damaged();
    const ownership = await claimOwnership(home);
    await expect(repair(home)).rejects.toMatchObject({ code: "store_locked" });
    ownership?.release();
    const nowhere = join(home, "nowhere");
    await expect(repair(nowhere)).rejects.toMatchObject({ code: "input_invalid" });
    await expect(stat(nowhere)).rejects.toMatchObject({ code: "ENOENT" });
  });

  it("takes with it whatever else lies in the home, and gives up what has lost its words", async () => {
    const home = join(await temporaryDirectory(), "home");
    const node = await MeshNode.open({ home, ports: realPorts(realNetwork) });
    const { body, size, secrets, before } = node.core.bodies.seal(ALICE, "x".repeat(40_000), true);
    const send = { type: "SEND", id: "m", kind: "work", body, size };
    await node.core.system.commit([{ stream: `conversation/${ALICE}`, event: send }], { secrets, before }).durable;
    const named = { type: "NAMED", name: "b", source: "registry" };
    for (let n = 0; n < 2; n++)
      await node.core.system.commit([{ stream: `conversation/${ALICE}`, event: named }]).durable;
    await node.close();
    await writeFile(join(home, "note.txt"), "mine");
    await damageLine(home, 2);
    await rm(join(home, "blobs"), { recursive: true });
    expect(await repair(home)).toMatchObject({ outcome: "repaired", given_up: 1, queued: 0 });
    expect(await readFile(join(home, "note.txt"), "utf8")).toBe("mine");
    const again = await openNode({ home, ports: offline() });
    const context: ConversationContext | undefined = again.core.system.state(`conversation/${ALICE}`)?.snapshot.context;
    expect(context).toMatchObject({ outbox: [], undeliverable: 1 });
  });
});

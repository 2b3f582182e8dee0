/** What the end of an epoch leaves in a home of the secrets that it had. */
import { createHash } from "node:crypto";
import { cp, readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { MeshNode } from "../../src/actors/node.ts";
import { type Disk, diskOn, realDisk } from "../../src/store/disk.ts";
import { type FileSystem, nodeFileSystem } from "../../src/store/file-system.ts";
import { openStoreKey } from "../../src/store/key.ts";
import { openVault } from "../../src/store/vault.ts";
import { ManualClock } from "../actors/systems.ts";
import { call, offline, openNode, openWorld } from "../actors/world.ts";
import { ALICE } from "../specification.ts";
import { diskWith, killedAt, noSpace, seededRandom, temporaryDirectory } from "../store/disks.ts";
import { burgle } from "./burglar.ts";

const random = seededRandom(5);
/** A secret of 32 bytes that everyone can know by its name. */
const secret = (name: string) => createHash("sha256").update(name).digest();
const text = (name: string) => secret(name).toString("base64");
const stream = `conversation/${ALICE}`;

/** A commit that sets secrets, or forgets them. */
const commit = (node: MeshNode, secrets: Record<string, string | null>) =>
  node.core.system.commit([{ stream, event: { type: "NAMED", name: "a", source: "registry" } }], { secrets }).durable;

/** The key of the epoch that a home is in. */
async function epochKeyOf(home: string): Promise<Uint8Array> {
  const unlock = { passphrase: async () => undefined, keychain: () => Promise.reject(new Error("none")) };
  const options = { disk: realDisk, home, random, unlock, hasData: true, opens: async () => true };
  const { document } = await openVault(realDisk, home, (await openStoreKey(options)).key, random, 0);
  return new Uint8Array(Buffer.from(document.key, "base64"));
}

/** A disk that tells when an epoch has ended: a snapshot is written last. */
function watched(): { disk: Disk; turned: () => Promise<void> } {
  let next = Promise.withResolvers<void>();
  const disk = diskWith(
    {},
    {
      replace: async (path, bytes) => {
        await realDisk.replace(path, bytes);
        if (path.includes("snapshots")) next.resolve();
      },
    },
  );
  return {
    disk,
    turned: () => {
      next = Promise.withResolvers();
      return next.promise;
    },
  };
}

describe("secrets of an epoch that has ended are in no file, whatever key in the home is tried", () => {
  const used = { "ratchet/s": text("ratchet"), "skipped/s/1": text("skipped"), "prekey/one-time/1": text("prekey") };
  const gone = Object.fromEntries(Object.keys(used).map((name) => [name, null]));
  const wanted = { ratchet: secret("ratchet"), skipped: secret("skipped"), prekey: secret("prekey") };

  it("by count, by time though nothing happens any more, and by a clean stop", async () => {
    const home = await temporaryDirectory();
    const { disk, turned } = watched();
    const clock = new ManualClock();
    const ports = { ...offline(), disk, clock };
    const node = await openNode({ home, ports, limits: { epochCommits: 3, epochTimeMs: 1_000 } });
    node.start();
    const ends: readonly (readonly [string, () => Promise<void>])[] = [
      [
        "count",
        async () => {
          const turning = turned();
          await commit(node, { x: "1" });
          await turning;
        },
      ],
      [
        "time",
        async () => {
          const turning = turned();
          clock.pass(1_000);
          await turning;
        },
      ],
      ["a clean stop", () => node.close()],
    ];
    for (const [how, end] of ends) {
      await commit(node, used);
      await commit(node, gone);
      const epochKey = await epochKeyOf(home);
      const all = { ...wanted, "the epoch key": epochKey };
      const found = (await burgle(home, all)).join("\n");
      for (const name of Object.keys(all)) expect(found, how).toContain(`${name} in `);
      await end();
      expect(await burgle(home, all), how).toEqual([]);
    }
  });

  it("those of real sessions: ratchets, prekeys and message keys", { timeout: 30_000 }, async () => {
    const world = await openWorld();
    const alice = await world.open("alice");
    const bob = await world.open("bob");
    const did = (node: MeshNode) => node.core.keyring.identity.did;
    const prekeys = Array.from({ length: 50 }, (_, id) => bob.core.keyring.oneTimePreKey(id + 1)?.keyPair.secret);
    await call(alice, "send", { to: did(bob), message: "one" });
    await call(bob, "await", { from: [did(alice)], timeout_ms: 10_000 });
    const secretsOf = (node: MeshNode) => {
      const [[name] = [""]] = [...node.core.system.streams("session")];
      const ratchet = node.core.keyring.ratchet(name.slice("session/".length));
      return { root: ratchet?.state.rootKey, self: ratchet?.state.self.secret, sending: ratchet?.state.sending?.key };
    };
    const [ofAlice, ofBob] = [secretsOf(alice), secretsOf(bob)];
    await call(bob, "send", { to: did(alice), message: "two" });
    await call(alice, "await", { from: [did(bob)], timeout_ms: 10_000 });
    await call(alice, "send", { to: did(bob), message: "three" });
    await call(bob, "await", { from: [did(alice)], timeout_ms: 10_000 });
    const spent = prekeys.filter((_, id) => bob.core.keyring.oneTimePreKey(id + 1) === undefined);
    expect(spent).toHaveLength(1);
    for (const [node, name, old] of [
      [alice, "alice", { ...ofAlice }],
      [bob, "bob", { ...ofBob, "one-time prekey": spent[0] }],
    ] as const) {
      const known = Object.entries(old).filter((entry): entry is [string, Uint8Array] => entry[1] !== undefined);
      expect(known.length).toBeGreaterThan(1);
      const all = { ...Object.fromEntries(known), "the epoch key": await epochKeyOf(world.home(name)) };
      const before = (await burgle(world.home(name), all)).join("\n");
      for (const what of Object.keys(all)) expect(before, name).toContain(`${what} in `);
      await node.close();
      expect(await burgle(world.home(name), all), name).toEqual([]);
    }
  });

  it("a vault that the disk takes only half of, or cannot put in its place, leaves no copy beside it", async () => {
    const home = await temporaryDirectory();
    for (const failing of ["sync", "rename"]) {
      const files: FileSystem = {
        ...nodeFileSystem,
        open: async (path, flags, mode) => {
          const file = await nodeFileSystem.open(path, flags, mode);
          if (failing === "sync") file.sync = () => Promise.reject(noSpace());
          return file;
        },
        rename: () => Promise.reject(noSpace()),
      };
      await expect(diskOn(files).replace(join(home, "vault"), secret("ratchet"))).rejects.toThrow("ENOSPC");
      expect(await readdir(home)).toEqual([]);
    }
  });

  it("an end that the disk refuses is tried again, by itself", async () => {
    const home = await temporaryDirectory();
    let isFull = false;
    const { disk: watching, turned } = watched();
    const disk = {
      ...watching,
      replace: (path: string, bytes: Uint8Array) =>
        isFull ? Promise.reject(noSpace()) : watching.replace(path, bytes),
    };
    const clock = new ManualClock();
    const told = Promise.withResolvers<void>();
    const node = await openNode({
      home,
      ports: { ...offline(), disk, clock },
      limits: { epochCommits: 2 },
      onNote: () => told.resolve(),
    });
    node.start();
    isFull = true;
    await commit(node, used);
    await commit(node, gone);
    await told.promise;
    isFull = false;
    const turning = turned();
    clock.pass(60_000);
    await turning;
    expect(await burgle(home, wanted)).toEqual([]);
  });
});

describe("a node that dies at any step of a rollover", () => {
  it("opens with all that was acknowledged, and the next end leaves nothing of the old", {
    timeout: 60_000,
  }, async () => {
    const seed = join(await temporaryDirectory(), "home");
    const first = await MeshNode.open({ home: seed, ports: offline() });
    await commit(first, { "token/kept": "0", spent: text("spent") });
    await first.close();
    let ends = 0;
    for (let step = 1; ; step++) {
      const home = join(await temporaryDirectory(), "home");
      await cp(seed, home, { recursive: true });
      const disk = killedAt(step);
      const ports = { ...offline(), disk };
      let acknowledged = 0;
      let node: MeshNode | undefined;
      try {
        node = await MeshNode.open({
          home,
          ports,
          limits: { epochCommits: 2, snapshotCommits: 2, segmentSize: 1_500 },
        });
        for (let value = 1; value <= 6; value++) {
          await commit(node, { "token/kept": String(value), spent: value === 6 ? null : text("spent") });
          acknowledged = value;
        }
        await node.close();
      } catch (error) {
        if (!disk.wasKilled()) throw error;
      }
      await node?.close();
      // What the crash left is read by whoever finds it, until the home opens again.
      const again = await MeshNode.open({ home, ports: offline() });
      expect(
        (await readdir(home)).filter((name) => name.endsWith(".tmp")),
        `step ${step}`,
      ).toEqual([]);
      await commit(again, { spent: null });
      await again.close();
      const last = await MeshNode.open({ home, ports: offline() });
      expect(Number(last.core.keyring.token("kept")), `step ${step}`).toBeGreaterThanOrEqual(acknowledged);
      await last.close();
      expect(await burgle(home, { spent: secret("spent") }), `step ${step}`).toEqual([]);
      ends++;
      if (!disk.wasKilled()) break;
    }
    expect(ends).toBeGreaterThan(20);
  });
});

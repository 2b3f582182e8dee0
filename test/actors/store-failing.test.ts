/** Disks that are full for a while: nothing that was accepted is lost, nothing overtakes, nobody has to start anything again. */
import { spawnSync } from "node:child_process";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { realNetwork } from "../../src/actors/network.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { type Ports, realPorts } from "../../src/actors/ports.ts";
import type { Disk } from "../../src/store/disk.ts";
import { Laptop } from "../reference/laptops.ts";
import { openServers } from "../reference/servers.ts";
import { FullDisk, temporaryDirectory } from "../store/disks.ts";
import { call, filtered, openNode, openWorld } from "./world.ts";

const BURST = 40;
const on = (disk: Disk): Ports => ({ ...realPorts(realNetwork), disk });
const didOf = ({ core }: MeshNode) => core.keyring.identity.did;

/** Sends one after the other; gives those that were accepted. */
async function burst(from: MeshNode, to: MeshNode, name: string, halfway: () => void = () => undefined) {
  const accepted: string[] = [];
  const sending = Array.from({ length: BURST }, (_, index) => {
    if (index === BURST / 2) halfway();
    const message = `${name} ${index}`;
    return call(from, "send", { to: didOf(to), message }).then(
      () => void accepted.push(message),
      (error: unknown) => expect(error).toMatchObject({ code: "store_io" }),
    );
  });
  await Promise.all(sending);
  return accepted;
}

/** All that came from a peer, up to a message of these words. */
async function receive(node: MeshNode, from: MeshNode, last: string | undefined): Promise<string[]> {
  const bodies: string[] = [];
  while (bodies.at(-1) !== last) {
    const { status, messages } = await call(node, "await", { from: [didOf(from)], timeout_ms: 20_000 });
    expect(status).toBe("received");
    bodies.push(...messages.map(({ body }) => body));
  }
  return bodies;
}

async function acquainted(alice: MeshNode, bob: MeshNode): Promise<void> {
  await call(alice, "send", { to: didOf(bob), message: "hello" });
  expect(await receive(bob, alice, "hello")).toEqual(["hello"]);
  await call(bob, "send", { to: didOf(alice), message: "hello" });
  expect(await receive(alice, bob, "hello")).toEqual(["hello"]);
  expect([alice.core.link.online, bob.core.link.online]).toEqual([true, true]);
}

describe("a laptop whose disk refuses", () => {
  it("can be read, says why, and goes on by itself: all that was accepted arrives once and in order, both ways", async () => {
    const world = await openWorld();
    const full = new FullDisk();
    const notes: string[] = [];
    const alice = await world.open("alice", on(full.disk), (text) => notes.push(text));
    const bob = await world.open("bob");
    await acquainted(alice, bob);

    const [sent, coming] = await Promise.all([
      burst(alice, bob, "from alice", () => {
        full.room = 100;
      }),
      burst(bob, alice, "from bob"),
    ]);
    await expect(call(alice, "send", { to: didOf(bob), message: "no room" })).rejects.toMatchObject({
      code: "store_io",
      message: expect.stringMatching(/alice\/journal\/\d+\.jsonl: .*ENOSPC/),
    });
    expect(await call(alice, "whoami", {})).toMatchObject({
      name: "alice",
      store: { state: "failing", reason: expect.stringContaining("ENOSPC") },
      link: { state: "down" },
    });
    expect(await call(alice, "inbox", { all: true })).toMatchObject({
      messages: expect.arrayContaining([expect.objectContaining({ body: "hello" })]),
    });
    expect(await call(alice, "peers", {})).toMatchObject({ peers: [{ did: didOf(bob) }] });

    full.room = undefined;
    expect(await receive(alice, bob, coming.at(-1))).toEqual(coming);
    sent.push("and then");
    await call(alice, "send", { to: didOf(bob), message: "and then" });
    expect(await receive(bob, alice, "and then")).toEqual(sent);
    expect(await call(alice, "whoami", {})).toMatchObject({ store: { state: "ok" }, link: { state: "online" } });
    expect(notes.filter((text) => text.includes("store"))).toEqual([
      expect.stringContaining("ENOSPC"),
      "The store can be written again.",
    ]);
  });

  it("takes in their order the frames that a plain relay does not give again", async () => {
    const servers = await openServers();
    const full = new FullDisk();
    const { node: alice } = await Laptop.open(servers, { name: "alice", ports: on(full.disk) });
    const { node: bob } = await Laptop.open(servers, { name: "bob" });
    await acquainted(alice, bob);
    full.syncFails = true;
    const coming = await burst(bob, alice, "from bob");
    // The first frame of them meets the disk that refuses.
    await expect(call(alice, "send", { to: didOf(bob), message: "x" })).rejects.toMatchObject({ code: "store_io" });
    full.syncFails = false;
    expect(await receive(alice, bob, coming.at(-1))).toEqual(coming);
  });

  it("on a file system that is full: the error names the file, and space makes it good", async (test) => {
    const mount = await temporaryDirectory();
    if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=3m", "tmpfs", mount]).status !== 0)
      test.skip("no file system can be mounted here");
    onTestFinished(() => void spawnSync("umount", [mount]));
    const world = await openWorld();
    const bob = await world.open("bob");
    const alice = await openNode({ home: join(mount, "alice") });
    alice.start();
    await alice.membership.join({
      controller: null,
      cluster: "test",
      relayUrl: world.server.relayUrl,
      registryUrl: world.server.url,
      name: "alice",
      capabilities: [],
    });
    await acquainted(alice, bob);
    const filler = join(mount, "filler");
    await writeFile(filler, new Uint8Array(8_000_000)).catch((error: unknown) =>
      expect(error).toMatchObject({ code: "ENOSPC" }),
    );
    const refusal = await (async () => {
      for (;;) {
        const error = await call(alice, "send", { to: didOf(bob), message: "x".repeat(4096) }).catch((e: unknown) => e);
        if (error instanceof Error) return error;
      }
    })();
    expect(refusal).toMatchObject({ code: "store_io", message: expect.stringMatching(/alice.*(ENOSPC|full)/) });
    const before = await call(bob, "send", { to: didOf(alice), message: "for later" });
    expect(before.state).toBe("queued");
    await rm(filler);
    expect(await receive(alice, bob, "for later")).toEqual(["for later"]);
    await call(alice, "send", { to: didOf(bob), message: "after" });
    expect((await receive(bob, alice, "after")).at(-1)).toBe("after");
  });
});

describe("a relay whose disk refuses", () => {
  it("says so frame by frame, and what was sent arrives once and in order when there is space", async () => {
    const full = new FullDisk();
    const world = await openWorld({ disk: full.disk });
    const told = Promise.withResolvers<void>();
    const heard = filtered((frame, direction) => {
      if (direction === "in" && frame.type === "error") told.resolve();
      return true;
    });
    const [alice, bob] = [await world.open("alice", heard), await world.open("bob")];
    await acquainted(alice, bob);
    const both = await Promise.all([
      burst(alice, bob, "from alice", () => {
        full.room = 100;
      }),
      burst(bob, alice, "from bob"),
    ]);
    await told.promise;
    full.room = undefined;
    expect(await Promise.all([receive(bob, alice, both[0].at(-1)), receive(alice, bob, both[1].at(-1))])).toEqual(both);
    expect(both.map(({ length }) => length)).toEqual([BURST, BURST]);
  });
});

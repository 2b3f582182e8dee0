import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, expect, it, onTestFinished } from "vitest";
import { type Mesh, openMesh } from "../../src/actors/mesh.ts";
import { claimOwnership } from "../../src/actors/owner.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { openWorld } from "./world.ts";

const PEER = `did:mesh:${"a".repeat(32)}`;

async function open(home: string): Promise<Mesh> {
  const mesh = await openMesh({ home });
  onTestFinished(() => mesh.close());
  return mesh;
}

/** A home that belongs to a mesh, so that it can wait for messages. */
async function memberHome(): Promise<string> {
  const world = await openWorld();
  const node = await world.open("member");
  await node.close();
  return world.home("member");
}

/** Another process that opened the home; gone when the test ends. */
async function openElsewhere(home: string, env: NodeJS.ProcessEnv = {}) {
  const child = spawn(process.execPath, ["--no-warnings", join(import.meta.dirname, "owner-process.ts"), home], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
  const ended = once(child, "exit");
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => JSON.parse((await lines.next()).value ?? "null");
  return {
    role: (await next()).role,
    pid: child.pid,
    signal: (signal: NodeJS.Signals) => child.kill(signal),
    async call(name: string, params: object) {
      child.stdin.write(`${JSON.stringify({ name, params })}\n`);
      return next();
    },
    async close() {
      child.stdin.end();
      await ended;
    },
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

describe("one home, one process", () => {
  it("the first owns it, the next reaches it; both get the same answers", async () => {
    const home = await temporaryDirectory();
    const [owner, caller] = [await open(home), await open(home)];
    expect([owner.role, caller.role]).toEqual(["owner", "caller"]);
    for (const name of ["whoami", "peers", "offload_status"] as const)
      expect(await caller.call(name, {})).toEqual(await owner.call(name, {}));
  });

  it("many at the same moment: one of them owns it", async () => {
    const home = await temporaryDirectory();
    const meshes = await Promise.all(Array.from({ length: 6 }, () => open(home)));
    expect(meshes.map(({ role }) => role).toSorted()).toEqual([...Array(5).fill("caller"), "owner"]);
    for (const mesh of meshes) expect(await mesh.call("whoami", {})).toMatchObject({ did: null });
  });

  it("errors come with their code and their sentence, over the socket too", async () => {
    const home = await temporaryDirectory();
    const [owner, caller] = [await open(home), await open(home)];
    const failures = await Promise.all(
      [owner, caller].map((mesh) => mesh.call("send", { to: PEER, message: "x" }).catch((error: unknown) => error)),
    );
    expect(failures[0]).toMatchObject({ code: "not_paired", name: "MeshError" });
    expect(failures[1]).toEqual(failures[0]);
    for (const mesh of [owner, caller])
      await expect(mesh.call("inbox", { limit: 0 })).rejects.toMatchObject({
        code: "input_invalid",
        message: expect.stringContaining("limit"),
      });
  });

  it("a call can be taken back", async () => {
    const home = await memberHome();
    for (const mesh of [await open(home), await open(home)]) {
      const taken = new AbortController();
      const waiting = mesh.call("await", { from: [PEER], timeout_ms: 600_000 }, { signal: taken.signal });
      const other = mesh.call("await", { from: [PEER], timeout_ms: 1 });
      taken.abort();
      await expect(waiting).rejects.toMatchObject({ code: "aborted" });
      expect(await other).toEqual({ status: "timeout", messages: [], missing: [PEER] });
      await expect(mesh.call("await", { from: [PEER] }, { signal: AbortSignal.abort() })).rejects.toMatchObject({
        code: "aborted",
      });
    }
  });

  it("news come before the result, in their order", async () => {
    const home = await temporaryDirectory();
    const [owner, caller] = [await open(home), await open(home)];
    const news: unknown[] = [];
    const stop = new AbortController();
    const first = Promise.withResolvers<void>();
    const watching = caller.call(
      "watch",
      {},
      {
        signal: stop.signal,
        onProgress: (change) => {
          news.push(change);
          first.resolve();
        },
      },
    );
    await caller.call("whoami", {});
    await owner.call("pair", { token: unreachableToken }).catch(() => undefined);
    await first.promise;
    stop.abort();
    await watching;
    expect(news[0]).toMatchObject({ stream: expect.stringMatching(/^pairing\//), event: { type: "STARTED" } });
  });

  it("when the owner leaves, its callers are told, and the next to come owns it", async () => {
    const home = await memberHome();
    const [owner, caller] = [await open(home), await open(home)];
    const waiting = caller.call("await", { from: [PEER], timeout_ms: 600_000 });
    const told = expect(waiting).rejects.toMatchObject({ code: "closed" });
    await caller.call("whoami", {});
    await owner.close();
    await told;
    await caller.closed;
    await expect(caller.call("whoami", {})).rejects.toMatchObject({ code: "closed" });
    expect((await open(home)).role).toBe("owner");
  });

  it("when a caller leaves, the owner does not notice", async () => {
    const home = await memberHome();
    const [owner, caller] = [await open(home), await open(home)];
    void caller.call("await", { from: [PEER], timeout_ms: 600_000 }).catch(() => undefined);
    await caller.call("whoami", {});
    await caller.close();
    expect(await owner.call("whoami", {})).toMatchObject({ name: "member" });
    expect((await open(home)).role).toBe("caller");
  });

  it("the right to it is given back by its release, and not before", async () => {
    const home = await temporaryDirectory();
    const first = await claimOwnership(home);
    expect(first).toBeDefined();
    expect(await claimOwnership(home)).toBeUndefined();
    first?.release();
    const second = await claimOwnership(home);
    expect(second).toBeDefined();
    second?.release();
  });
});

describe("two processes", () => {
  it("one owns it, the other reaches it; both get the same answers", async () => {
    const home = await temporaryDirectory();
    const elsewhere = await openElsewhere(home);
    const here = await open(home);
    expect([elsewhere.role, here.role]).toEqual(["owner", "caller"]);
    expect((await elsewhere.call("whoami", {})).result).toEqual(await here.call("whoami", {}));
    expect(await elsewhere.call("send", { to: PEER, message: "x" })).toMatchObject({ error: { code: "not_paired" } });
    await expect(here.call("send", { to: PEER, message: "x" })).rejects.toMatchObject({ code: "not_paired" });
    await elsewhere.close();
    await here.closed;
    expect((await open(home)).role).toBe("owner");
  });

  it("an owner that is killed is taken over at once, a live one never", async () => {
    const home = await memberHome();
    const elsewhere = await openElsewhere(home);
    expect(elsewhere.role).toBe("owner");
    expect(await claimOwnership(home)).toBeUndefined();
    const caller = await open(home);
    const waiting = expect(caller.call("await", { from: [PEER], timeout_ms: 600_000 })).rejects.toMatchObject({
      code: "closed",
    });
    await caller.call("whoami", {});
    await elsewhere.kill();
    await waiting;
    const begun = performance.now();
    const successor = await open(home);
    expect(successor.role).toBe("owner");
    expect(performance.now() - begun).toBeLessThan(5_000);
    expect(await successor.call("whoami", {})).toMatchObject({ name: "member" });
    expect((await openElsewhere(home)).role).toBe("caller");
  });

  it("ten at the same moment: one owns it, and all get the same answers", async () => {
    const home = await memberHome();
    const all = await Promise.all(Array.from({ length: 10 }, () => openElsewhere(home)));
    expect(all.map(({ role }) => role).toSorted()).toEqual([...Array(9).fill("caller"), "owner"]);
    const answers = await Promise.all(all.map((each) => each.call("whoami", {})));
    expect(new Set(answers.map(({ result }) => result.did)).size).toBe(1);
  });

  it("what the owner started does not keep the home when the owner is killed", async () => {
    const home = await temporaryDirectory();
    const elsewhere = await openElsewhere(home, { OWNER_STARTS: "child" });
    expect(elsewhere.role).toBe("owner");
    await elsewhere.kill();
    expect((await open(home)).role).toBe("owner");
  });

  it("an owner that is stopped is not waited for without end: the error names its process; continued, it is reached", async () => {
    const home = await temporaryDirectory();
    const elsewhere = await openElsewhere(home);
    elsewhere.signal("SIGSTOP");
    await expect(openMesh({ home }, 0)).rejects.toMatchObject({
      code: "store_locked",
      message: expect.stringContaining(`process ${elsewhere.pid}`),
    });
    elsewhere.signal("SIGCONT");
    expect((await open(home)).role).toBe("caller");
  });

  it("a call to an owner that is stopped can be taken back", async () => {
    const home = await memberHome();
    const elsewhere = await openElsewhere(home);
    const caller = await open(home);
    elsewhere.signal("SIGSTOP");
    const taken = new AbortController();
    const waiting = caller.call("await", { from: [PEER] }, { signal: taken.signal });
    taken.abort();
    await expect(waiting).rejects.toMatchObject({ code: "aborted" });
    await caller.close();
    elsewhere.signal("SIGCONT");
  });
});

describe("what lies in the home", () => {
  it("a lock file that is deleted while it is held makes no second owner", async () => {
    const home = await temporaryDirectory();
    const owner = await open(home);
    await rm(join(home, "owner.lock"));
    expect(await claimOwnership(home)).toBeUndefined();
    expect((await open(home)).role).toBe("caller");
    await owner.close();
    expect((await open(home)).role).toBe("owner");
  });

  it("what a dead owner left, or anybody else put there, is in nobody's way", async () => {
    const home = await temporaryDirectory();
    const elsewhere = await openElsewhere(home);
    await elsewhere.kill();
    expect(await readdir(home)).toContain("owner.sock");
    const second = await open(home);
    expect(second.role).toBe("owner");
    await second.close();
    for (const name of ["owner.sock", "owner.json"]) await writeFile(join(home, name), "not ours");
    expect((await open(home)).role).toBe("owner");
    expect((await open(home)).role).toBe("caller");
  });

  it("a home whose path is too long for a socket is owned and reached all the same", async () => {
    const home = join(await temporaryDirectory(), "long".repeat(30));
    const elsewhere = await openElsewhere(home, { TMPDIR: await temporaryDirectory() });
    const here = await open(home);
    expect([elsewhere.role, here.role]).toEqual(["owner", "caller"]);
    expect((await elsewhere.call("whoami", {})).result).toEqual(await here.call("whoami", {}));
  });

  it("a home on a read-only file system is an error that names the place", async (test) => {
    const mount = await temporaryDirectory();
    if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", mount]).status !== 0)
      test.skip("no file system can be mounted here");
    onTestFinished(() => void spawnSync("umount", [mount]));
    const home = join(mount, "home");
    await (await openMesh({ home })).close();
    spawnSync("mount", ["-o", "remount,ro", mount]);
    await expect(openMesh({ home })).rejects.toMatchObject({
      code: "store_io",
      message: expect.stringContaining(home),
    });
    spawnSync("mount", ["-o", "remount,rw", mount]);
    expect((await open(home)).role).toBe("owner");
  });
});

/** Whole, but its controller is not there. */
const unreachableToken = `kars-pair-${Buffer.from(
  JSON.stringify({ u: "http://127.0.0.1:9/v1/pair", c: PEER, s: Buffer.alloc(32, 7).toString("base64url") }),
).toString("base64url")}`;

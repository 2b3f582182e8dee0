import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Mesh, openMesh } from "../../src/actors/mesh.ts";
import { openCluster } from "../../src/cluster/local.ts";
import { PROGRAMS } from "../build.ts";

// Real processes, really killed. Each laptop of these tests is the command `kars-mesh run` in a process of its own, which is
// ended with SIGKILL; the test talks to it through its home, as any other command would.

type Cluster = Awaited<ReturnType<typeof openCluster>>;

class Laptop {
  readonly name: string;
  readonly home: string;
  #process: ChildProcess | undefined;
  #mesh: Mesh | undefined;

  constructor(name: string, home: string) {
    this.name = name;
    this.home = home;
  }

  async pair(cluster: Cluster): Promise<void> {
    const { token } = await cluster.call("grant_issue", {
      name: this.name,
      slots: 3,
      capabilities: ["offload"],
      expires_ms: 600_000,
    });
    const mesh = await openMesh({ home: this.home });
    await mesh.call("pair", { token });
    await mesh.close();
  }

  /** Starts the laptop's process and reaches it through its home. */
  async start(): Promise<void> {
    const child = spawn(process.execPath, [PROGRAMS["kars-mesh"], "run", "--json", "--home", this.home], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    this.#process = child;
    if (!child.stdout) throw new Error("no output");
    await once(createInterface({ input: child.stdout }), "line");
    const mesh = await openMesh({ home: this.home });
    expect(mesh.role).toBe("caller");
    this.#mesh = mesh;
  }

  get mesh(): Mesh {
    if (!this.#mesh) throw new Error(`${this.name} is not running`);
    return this.#mesh;
  }

  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
    await this.#mesh?.closed;
    this.#mesh = undefined;
  }

  send(to: Laptop, message: string) {
    return this.mesh.call("send", { to: to.name, message });
  }

  /** The next `count` messages from a peer, in the order of their arrival. */
  async receive(from: Laptop, count: number): Promise<string[]> {
    const bodies: string[] = [];
    while (bodies.length < count) {
      const { status, messages } = await this.mesh.call("await", { from: [from.name], timeout_ms: 20_000 });
      if (status === "timeout") break;
      bodies.push(...messages.map(({ body }) => body));
    }
    return bodies;
  }

  async sessionWith(peer: Laptop): Promise<string | null | undefined> {
    const { peers } = await this.mesh.call("peers", {});
    return peers.find(({ name }) => name === peer.name)?.session;
  }
}

let folder: string;
let cluster: Cluster;
let alice: Laptop;
let bob: Laptop;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "kars-mesh-kill-"));
  cluster = await openCluster({ directory: join(folder, "cluster"), port: 0 });
  alice = new Laptop("alice", join(folder, "alice"));
  bob = new Laptop("bob", join(folder, "bob"));
  for (const laptop of [alice, bob]) {
    await laptop.pair(cluster);
    await laptop.start();
  }
});

afterEach(async () => {
  await Promise.all([alice.kill(), bob.kill()]);
  await cluster.close();
  rmSync(folder, { recursive: true, force: true });
});

describe("a laptop whose process is killed", () => {
  it("loses neither the message before nor the one after, and its peer notices nothing", async () => {
    await alice.send(bob, "before");
    await alice.kill();
    await alice.start();
    await alice.send(bob, "after");
    expect(await bob.receive(alice, 2)).toEqual(["before", "after"]);
    expect(await alice.sessionWith(bob)).toBe(await bob.sessionWith(alice));
  });

  it("goes on in the same session, with the same identity, in both directions", async () => {
    await alice.send(bob, "one");
    expect(await bob.receive(alice, 1)).toEqual(["one"]);
    await bob.send(alice, "two");
    expect(await alice.receive(bob, 1)).toEqual(["two"]);
    const before = { session: await alice.sessionWith(bob), did: (await alice.mesh.call("whoami", {})).did };
    await alice.kill();
    await bob.send(alice, "three");
    await alice.start();
    expect(await alice.receive(bob, 1)).toEqual(["three"]);
    await alice.send(bob, "four");
    expect(await bob.receive(alice, 1)).toEqual(["four"]);
    expect({ session: await alice.sessionWith(bob), did: (await alice.mesh.call("whoami", {})).did }).toEqual(before);
  });

  it("delivers everything that was accepted exactly once and in order, however often it is killed in a burst", async () => {
    const accepted: string[] = [];
    for (let round = 0; round < 4; round++) {
      const burst = Array.from({ length: 25 }, (_, index) => `${round}.${index}`);
      const outcomes = burst.map((message) =>
        alice.send(bob, message).then(
          () => message,
          // Not accepted: the process died before it said so. It may or may not have been written.
          () => undefined,
        ),
      );
      // The kill falls into the burst: somewhere behind the answer to one of its messages.
      await outcomes[5 * round];
      await alice.kill();
      for (const outcome of await Promise.all(outcomes)) if (outcome !== undefined) accepted.push(outcome);
      await alice.start();
    }
    await alice.send(bob, "end");
    const received: string[] = [];
    while (received.at(-1) !== "end") received.push(...(await bob.receive(alice, 1)));
    expect(new Set(received).size).toBe(received.length);
    expect(received.filter((message) => accepted.includes(message))).toEqual(accepted);
    const position = (message: string) => message.split(".").map(Number);
    const order = received.slice(0, -1).map(position);
    expect(order).toEqual([...order].sort(([a = 0, b = 0], [c = 0, d = 0]) => a - c || b - d));
  });

  it("a command that waits goes on when the process that owns the home is killed, and what comes reaches it once", async () => {
    await alice.send(bob, "hello");
    await bob.receive(alice, 1);
    const waiting = spawn(
      process.execPath,
      [PROGRAMS["kars-mesh"], "await", "bob", "--timeout", "120", "--json", "--home", alice.home],
      {
        stdio: ["ignore", "pipe", "pipe"],
      },
    );
    const ended = once(waiting, "exit");
    let output = "";
    waiting.stdout.on("data", (chunk) => {
      output += chunk;
    });
    const notes = createInterface({ input: waiting.stderr })[Symbol.asyncIterator]();
    for (let waits = 0; waits < 2; ) {
      const { value } = await notes.next();
      if (!/^Waiting for bob/.test(value ?? "")) continue;
      waits++;
      if (waits === 1) await alice.kill();
    }
    await bob.send(alice, "at last");
    expect(await ended).toEqual([0, null]);
    expect(JSON.parse(output)).toMatchObject({ status: "received", messages: [{ body: "at last" }] });
    await alice.start();
    expect(await alice.mesh.call("inbox", {})).toMatchObject({ messages: [], unread: 0 });
  });

  it("receives exactly once what came while it was killed again and again", async () => {
    const sent: string[] = [];
    const received: string[] = [];
    for (let round = 0; round < 3; round++) {
      for (let index = 0; index < 10; index++) {
        sent.push(`${round}.${index}`);
        await alice.send(bob, `${round}.${index}`);
      }
      // What was handed to the caller is read; the rest is still unread after the kill.
      received.push(...(await bob.receive(alice, 1)));
      await bob.kill();
      await bob.start();
    }
    received.push(...(await bob.receive(alice, sent.length - received.length)));
    expect(received).toEqual(sent);
  });
});

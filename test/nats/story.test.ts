import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { documentOf, type Ended, folder, Laptop, Running, run, tidyUp, type Urls } from "../cli/harness.ts";
import { type Balancer, openBalancer, type Target } from "./balancer.ts";
import { freePort, natsNodes } from "./nodes.ts";

// A cluster on NATS as operators run it and laptops meet it: each line below is a process.

const STORY_MS = 240_000;
/** A service that is asked to end and has nothing to do is gone in less, on a busy machine too. */
const END_MS = 10_000;

/** Whoever asks the cluster `name`, from a place where nothing of it lies. */
class Operator {
  readonly #args: readonly string[];
  constructor(nats: string, name: string) {
    this.#args = ["--dir", join(folder(), "nowhere"), "--nats", nats, "--cluster", name];
  }
  run(...args: string[]): Promise<Ended> {
    return run("kars-local", [...args, ...this.#args]);
  }
  async json<T>(...args: string[]): Promise<T> {
    const ended = await this.run(...args, "--json");
    expect(ended, ended.stdout).toMatchObject({ code: 0 });
    return documentOf(ended) as T;
  }
  async laptop(name: string): Promise<Laptop & { readonly did: string }> {
    const { token } = await this.json<{ token: string }>("pair", "generate", "--name", name);
    const laptop = new Laptop();
    const { did } = await laptop.json<{ did: string }>("pair", token);
    return Object.assign(laptop, { did });
  }
}

const replica = (role: "relay" | "registry" | "controller" | "up", ...args: string[]) =>
  new Running("kars-local", [role, "--dir", folder(), ...args]);

async function urlsOf(replica: Running): Promise<Urls> {
  return JSON.parse((await replica.says(/^.+\n/))[0]);
}

/** Ends a service as an operator of processes does, which is nothing bad. */
async function endsWell(process: Running): Promise<void> {
  const begun = performance.now();
  const { code, stderr } = await process.end("SIGTERM");
  expect([code, stderr]).toEqual([0, expect.stringMatching(/Handing over what it has\.\n/)]);
  expect(performance.now() - begun).toBeLessThan(END_MS);
}

let servers: Awaited<ReturnType<typeof natsNodes>>;
let nats: string;

beforeAll(async () => {
  servers = await natsNodes(1);
  nats = servers.nodes[0]?.url ?? "";
});
afterAll(async () => {
  await tidyUp();
  await servers.close();
});

interface Inbox {
  readonly messages: readonly { readonly body: string }[];
}
interface Offload {
  readonly status: string;
  readonly files: readonly { readonly name: string; readonly size: number }[];
}
interface Audit {
  readonly entries: readonly { readonly what: string; readonly seq: number }[];
  readonly verdict: unknown;
}
interface Grants {
  readonly grants: readonly Readonly<Record<string, unknown>>[];
}

describe("relays, registries and controllers of a cluster", { timeout: STORY_MS }, () => {
  let balancer: Balancer;
  let origin: string;
  let relayUrls: string[];
  let relays: Running[];
  let registries: Running[];
  let active: Running;
  let standby: Running;
  let operator: Operator;
  let alice: Laptop & { readonly did: string };
  let bob: Laptop & { readonly did: string };
  let files: string;
  let grants: Grants;
  let audit: Audit;

  beforeAll(async () => {
    const targets: Target[] = [];
    for (const role of ["relay", "relay", "registry", "registry"] as const)
      targets.push({ host: "127.0.0.1", port: await freePort(), role });
    balancer = await openBalancer(targets);
    origin = `http://127.0.0.1:${balancer.port}`;
    const common = ["--nats", nats, "--name", "prod", "--public-url", origin];
    const serving = (wanted: "relay" | "registry") =>
      targets.flatMap(({ role, port }) =>
        role === wanted ? [replica(wanted, ...common, "--port", String(port))] : [],
      );
    relayUrls = targets.flatMap(({ role, port }) => (role === "relay" ? [`ws://127.0.0.1:${port}`] : []));
    [relays, registries] = [serving("relay"), serving("registry")];
    await balancer.allReady();
    active = replica("controller", ...common, "--port", "0");
    await active.says(/the controller is active here\n/, "stderr");
    standby = replica("controller", ...common, "--port", "0");
    await standby.says(/^.+\n/);
    operator = new Operator(nats, "prod");
    files = folder();
    writeFileSync(
      join(files, "double.js"),
      'const { readFileSync, writeFileSync } = require("node:fs");\n' +
        'writeFileSync("out/twice.txt", readFileSync("once.txt", "utf8").repeat(2));\n',
    );
    writeFileSync(join(files, "once.txt"), "words\n");
  }, STORY_MS);
  afterAll(() => balancer?.close());

  const offload = async (): Promise<Offload> => {
    const files_ = ["--file", "double.js", "once.txt"];
    const args = ["--home", alice.home, "offload", "run double.js", ...files_, "--force", "--wait", "--json"];
    const ended = await run("kars-mesh", args, { cwd: files });
    expect(ended, ended.stderr).toMatchObject({ code: 0 });
    return documentOf(ended) as Offload;
  };
  const done = { status: "done", files: [{ name: "twice.txt", size: 12 }] };

  test("each says where the cluster is reached", async () => {
    for (const each of [...relays, ...registries, active, standby])
      expect(await urlsOf(each)).toEqual({
        relay_url: `ws://127.0.0.1:${balancer.port}`,
        registry_url: origin,
        pair_url: `${origin}/v1/pair`,
      });
  });

  test("the operator makes tokens from anywhere, and laptops pair", async () => {
    alice = await operator.laptop("alice");
    bob = await operator.laptop("bob");
    expect(await alice.json("whoami")).toMatchObject({
      name: "alice",
      clusters: [{ cluster: "prod", registry_url: origin, grant: { name: "alice", slots: 1 }, state: "paired" }],
    });
  });

  test("laptops at different relays see each other and talk, both ways", async () => {
    const [one = "", other = ""] = relayUrls;
    const online = bob.start("run", "--relay", other);
    await online.says(/online\n/);
    const { agents } = await alice.json<{ agents: unknown[] }>("discover", "--name", "bob");
    expect(agents).toEqual([expect.objectContaining({ did: bob.did, name: "bob", online: true })]);
    expect(await alice.json("send", "bob", "over there?", "--relay", one)).toMatchObject({ state: "sent" });
    await online.says(/over there\?/);
    expect(await bob.json("send", "alice", "over here")).toMatchObject({ state: "sent" });
    const { messages } = await alice.json<Inbox>("await", "bob", "--relay", one);
    expect(messages.map(({ body }) => body)).toEqual(["over here"]);
    await online.end();
  });

  test("a task with files runs where the controller is, and the operator sees it", async () => {
    expect(await offload()).toMatchObject(done);
    const status = await operator.json("status");
    expect(status).toMatchObject({ name: "prod", up: true, registry_url: origin, grants: 2, running: 0 });
    grants = await operator.json<Grants>("pair", "list");
    expect(grants.grants).toEqual([
      expect.objectContaining({ name: "alice", phase: "Active", did: alice.did, completed: 1, failed: 0 }),
      expect.objectContaining({ name: "bob", phase: "Active", did: bob.did, completed: 0, failed: 0 }),
    ]);
    const { sandboxes } = await operator.json<{ sandboxes: unknown[] }>("sandboxes");
    expect(sandboxes).toEqual([expect.objectContaining({ grant: "alice", ended_at: expect.any(String) })]);
    audit = await operator.json<Audit>("audit", "--verify");
    expect(audit.verdict).toMatchObject({ problem: null, lines: audit.entries.length });
    expect(audit.entries.map(({ what }) => what)).toContain("task.ended");
  });

  test("the active controller is killed: the other goes on with all that it knew", async () => {
    await active.end("SIGKILL");
    expect(await offload()).toMatchObject(done);
    const after = await operator.json<Grants>("pair", "list");
    expect(after.grants).toEqual(
      grants.grants.map((grant) => (grant.name === "alice" ? { ...grant, completed: 2 } : grant)),
    );
    const now = await operator.json<Audit>("audit", "--verify");
    expect(now.verdict).toMatchObject({ problem: null, lines: now.entries.length });
    const seqs = new Set(audit.entries.map(({ seq }) => seq));
    expect(now.entries.filter(({ seq }) => seqs.has(seq))).toEqual(audit.entries);
    expect(now.entries.length).toBeGreaterThan(audit.entries.length);
    expect(await operator.run("audit", "--verify")).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/^The record is whole/m),
    });
  });

  test("a relay is killed: its laptop comes to the other, and hears what was said meanwhile", async () => {
    const online = bob.start("run");
    await online.says(/online\n/);
    const connected = new RegExp(`relay: ${bob.did} connected\\n(?![^]*relay: ${bob.did} left)`);
    const at = await Promise.any(relays.map((each, n) => each.says(connected, "stderr").then(() => n)));
    const staying = relayUrls[1 - at] ?? "";
    await relays[at]?.end("SIGKILL");
    expect(await alice.json("send", "bob", "are you there still?", "--relay", staying)).toMatchObject({
      state: "sent",
    });
    await online.says(/are you there still\?/);
    await online.end();
    relays.splice(at, 1);
  });

  test("each ends soon when it is asked to", async () => {
    await Promise.all([...relays, ...registries, standby].map(endsWell));
  });
});

test("all in one, twice: laptops pair at one and talk through the other", { timeout: STORY_MS }, async () => {
  const ups = [0, 0].map(() => replica("up", "--nats", nats, "--name", "twins", "--port", "0"));
  const [one, other] = await Promise.all(ups.map(urlsOf));
  const operator = new Operator(nats, "twins");
  const alice = await operator.laptop("alice");
  const bob = await operator.laptop("bob");
  const at = (urls: Urls | undefined) => ["--relay", urls?.relay_url ?? "", "--registry", urls?.registry_url ?? ""];
  expect(await alice.json("send", "bob", "hello", ...at(one))).toMatchObject({ state: "sent" });
  expect(await bob.json<Inbox>("inbox", ...at(other))).toMatchObject({ messages: [{ body: "hello" }] });

  // The one at work is asked to end: the other needs no time to notice.
  const working = await Promise.any(
    ups.map((up, n) => up.says(/the controller is active here\n/, "stderr").then(() => n)),
  );
  const [ending, staying] = working === 0 ? ups : [...ups].reverse();
  if (!ending || !staying) throw new Error("there are two");
  await endsWell(ending);
  await staying.says(/the controller is active here\n/, "stderr");
  const token = await operator.json<{ token: string }>("pair", "generate", "--name", "carol");
  const carol = new Laptop();
  // The token says the address of whoever was at work when it was made.
  expect(await carol.json("pair", token.token)).toMatchObject({ name: "carol", cluster: "twins" });
  await endsWell(staying);
});

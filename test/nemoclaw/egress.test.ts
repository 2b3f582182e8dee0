import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { networkOf } from "../../src/actors/network.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { type Clock, realClock, realPorts } from "../../src/actors/ports.ts";
import type { Environment } from "../../src/actors/proxy.ts";
import { examine } from "../../src/inspect/doctor/doctor.ts";
import { SIGNED_PREKEY_MS } from "../../src/limits.ts";
import { PRESENCE_JITTER_MS } from "../../src/machines/presence/limits.ts";
import { startProxy } from "../actors/proxies.ts";
import { CalendarClock } from "../actors/systems.ts";
import { call, openNode } from "../actors/world.ts";
import { documentOf, run, tidyUp } from "../cli/harness.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { type Endpoint, readPreset, setup } from "./preset.ts";
import { type EnforcingProxy, type NamedCluster, openNamedCluster, startEnforcing } from "./sandbox.ts";

// A home in a sandbox whose proxy refuses what the rendered preset does not name, and one outside.

const NAMES = ["relay.mesh.test", "registry.mesh.test", "controller.mesh.test"] as const;
const ONE_NAME = ["mesh.test", "mesh.test", "mesh.test"] as const;
/** What OpenShell takes of one text message. */
const TEXT_MESSAGE_MAX = 1024 * 1024;

afterAll(tidyUp);

/** The preset for a cluster, as setup.sh renders it. */
async function presetFor({ relay, registry, pairUrl }: NamedCluster, ...more: readonly string[]) {
  const { code, stdout, stderr } = await setup([
    ...["--relay", relay, "--registry", registry, "--pair-url", pairUrl],
    ...more,
  ]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return readPreset(stdout);
}

/** A home that goes by these variables, and is paired. */
async function openPaired(cluster: NamedCluster, name: string, environment: Environment, clock: Clock = realClock) {
  const home = join(await temporaryDirectory(), name);
  const node = await openNode({ home, ports: { ...realPorts(networkOf(() => environment)), clock } });
  node.start();
  await call(node, "pair", { token: await cluster.token(name) });
  return { node, home };
}

/** A home outside, for which every name leads to the cluster. */
async function openOutside(cluster: NamedCluster, name: string, clock?: Clock): Promise<MeshNode> {
  const { url } = await startProxy();
  return (await openPaired(cluster, name, { ALL_PROXY: url }, clock)).node;
}

/** What the reference registry says where ours says something else, to an agent that it knows until it is deleted. */
function plainRegistry(): EnforcingProxy["answers"] {
  let isKnown = true;
  return (method, path) => {
    if (method === "DELETE") isKnown = false;
    if (path.endsWith("/prekeys/count")) return { status: 404, body: { detail: "Not Found" } };
    const isRefused = isKnown && method === "POST" && path.endsWith("/v1/agents");
    return isRefused ? { status: 409, body: { detail: "Agent already registered" } } : undefined;
  };
}

const didOf = (node: MeshNode) => node.core.keyring.identity.did;

describe("kars-mesh as a program in a sandbox", () => {
  it("pairs, sends, receives, discovers and offloads through the preset's rules, and is refused all else", async () => {
    const cluster = await openNamedCluster(NAMES);
    const proxy = await startEnforcing(await presetFor(cluster));
    const home = join(await temporaryDirectory(), "home");
    const mesh = async (...args: readonly string[]) => {
      const ended = await run("kars-mesh", ["--home", home, ...args, "--json"], { env: proxy.environment });
      expect(ended, ended.stdout + ended.stderr).toMatchObject({ code: 0 });
      return documentOf(ended);
    };
    const bob = await openOutside(cluster, "bob");

    expect(await mesh("pair", await cluster.token("alice"))).toMatchObject({ name: "alice", relay_url: cluster.relay });
    expect(await mesh("discover", "--name", "bob")).toMatchObject({ agents: [{ did: didOf(bob), name: "bob" }] });
    expect(await mesh("send", "bob", "out of the sandbox")).toMatchObject({ state: "sent" });
    const { messages } = await call(bob, "await", { from: ["alice"], timeout_ms: 20_000 });
    expect(messages).toMatchObject([{ body: "out of the sandbox" }]);
    await call(bob, "send", { to: "alice", message: "and in" });
    expect(await mesh("await", "bob", "--timeout", "20")).toMatchObject({ messages: [{ body: "and in" }] });

    // Bytes that cannot be compressed, in chunks as large as they become.
    const folder = await temporaryDirectory();
    const [script, data] = [join(folder, "job.mjs"), join(folder, "data.bin")];
    await writeFile(
      script,
      `import { readFileSync, writeFileSync } from "node:fs";
       writeFileSync("out/size.txt", String(readFileSync("data.bin").length));`,
    );
    await writeFile(data, randomBytes(1_500_000));
    expect(await mesh("offload", "run job.mjs", "--file", script, data, "--wait")).toMatchObject({
      status: "done",
      files: [{ name: "size.txt" }],
    });
    expect(proxy.longest()).toBeGreaterThan(300_000);
    expect(proxy.longest()).toBeLessThan(TEXT_MESSAGE_MAX);

    expect(await mesh("doctor")).toMatchObject({ ok: true });
    expect([...proxy.refused]).toEqual([]);

    const inside = networkOf(() => proxy.environment);
    await expect(inside.fetch("http://elsewhere.test/")).rejects.toThrow("it answers 403 Forbidden");
    await expect(inside.fetch("http://relay.mesh.test:1/")).rejects.toThrow("it answers 403 Forbidden");
    expect((await inside.fetch(`${cluster.registry}/v1/agents`)).status).toBe(403);
    expect((await inside.fetch(`${cluster.registry}/v1/agents/x`, { method: "PUT" })).status).toBe(403);
    expect((await inside.fetch(`${cluster.relay.replace("ws:", "http:")}/v1/discover`)).status).toBe(403);
    expect(proxy.refused.size).toBe(5);
  }, 120_000);
});

describe("the preset", () => {
  it.each([
    ["where each has a name of its own", NAMES],
    ["where all are one server", ONE_NAME],
  ])("names what a home asks for in weeks of use, and nothing that it does not, %s", async (_, names) => {
    const clock = new CalendarClock(Date.parse("2026-03-01T12:00:00.000Z"));
    const cluster = await openNamedCluster(names, clock, { every: () => () => undefined });
    const policy = await presetFor(cluster);
    const proxy = await startEnforcing(policy);
    const bob = await openOutside(cluster, "bob", clock);
    const { node: alice, home } = await openPaired(cluster, "alice", proxy.environment, clock);
    await call(alice, "discover", { name: "bob" });
    // At a registry whose lists do not say who is online.
    await alice.core.registry().presence(didOf(bob));
    await call(alice, "send", { to: didOf(bob), message: "hello" });
    await call(bob, "await", { from: [didOf(alice)], timeout_ms: 20_000 });
    await call(bob, "send", { to: didOf(alice), message: "hello yourself" });
    await call(alice, "await", { from: [didOf(bob)], timeout_ms: 20_000 });
    // A stranger to it: who knocks is looked up.
    const carol = await openOutside(cluster, "carol", clock);
    await call(carol, "send", { to: didOf(alice), message: "knock" });
    await call(alice, "await", { from: [didOf(carol)], timeout_ms: 20_000 });

    const signedBefore = (await carol.core.registry().bundle(didOf(alice))).signedPreKey.keyId;
    await call(alice, "settle", { wait_ms: 10_000 });
    clock.pass(SIGNED_PREKEY_MS);
    const isCounted = () => [...proxy.passed].some((each) => each.endsWith("/prekeys/count"));
    await expect.poll(isCounted, { timeout: 20_000 }).toBe(true);
    const signedNow = async () => (await carol.core.registry().bundle(didOf(alice))).signedPreKey.keyId;
    await expect.poll(signedNow, { timeout: 20_000 }).toBeGreaterThan(signedBefore);

    // A registry like the reference registry is told that a home is there, and leaves a record as it was first registered.
    proxy.answers = plainRegistry();
    alice.core.link.pause();
    clock.pass(1);
    alice.core.link.proceed();
    await expect.poll(() => alice.presence.value, { timeout: 20_000 }).toBe("arriving");
    clock.pass(PRESENCE_JITTER_MS);
    await expect.poll(() => alice.presence.value, { timeout: 20_000 }).toBe("present");
    await call(alice, "pair", { token: await cluster.token("alice-2"), name: "alicia" });
    expect(await call(carol, "discover", { name: "alicia" })).toMatchObject({ agents: [{ did: didOf(alice) }] });

    const report = await examine({ home, network: networkOf(() => proxy.environment), clock });
    expect(report.checks).toMatchObject(
      expect.arrayContaining([expect.objectContaining({ name: "registry", status: "ok" })]),
    );
    expect([...proxy.refused]).toEqual([]);
    const allowed = policy.endpoints.flatMap((endpoint) =>
      "rules" in endpoint
        ? endpoint.rules.map(({ allow }) => `${endpoint.host}:${endpoint.port} ${allow.method} ${allow.path}`)
        : [],
    );
    expect([...proxy.passed].toSorted()).toEqual(allowed.toSorted());
  });
});

describe("who has no policy, or not all of it", () => {
  const FIRST = "its policy must let this through first, in NemoClaw as nemoclaw/README.md says";

  it("is told that a proxy refuses, and what to do, when pairing and by the doctor", async () => {
    const cluster = await openNamedCluster(NAMES);
    const policy = { endpoints: [] as readonly Endpoint[] };
    const proxy = await startEnforcing(policy);
    const home = join(await temporaryDirectory(), "home");
    const mesh = (...args: readonly string[]) =>
      run("kars-mesh", ["--home", home, ...args, "--json"], { env: proxy.environment });
    const token = await cluster.token("alice");
    const refusal = await mesh("pair", token);
    expect([refusal.code, documentOf(refusal)]).toMatchObject([
      1,
      {
        error: {
          code: "cluster_unreachable",
          message: expect.stringContaining(`does not answer: proxy ${proxy.url}: it answers 403 Forbidden; ${FIRST}.`),
        },
      },
    ]);

    policy.endpoints = (await presetFor(cluster)).endpoints;
    expect(await mesh("pair", token)).toMatchObject({ code: 0 });
    policy.endpoints = [];
    const told = await mesh("doctor");
    const because = expect.stringContaining(`(proxy ${proxy.url}: it answers 403 Forbidden; ${FIRST})`);
    expect([told.code, documentOf(told)]).toMatchObject([
      1,
      {
        checks: expect.arrayContaining(
          ["registry", "relay"].map((name) => expect.objectContaining({ name, status: "problem", message: because })),
        ),
      },
    ]);
  }, 60_000);

  it("is told which request is denied on the way", async () => {
    const cluster = await openNamedCluster(ONE_NAME);
    const { endpoints } = await presetFor(cluster);
    const policy = { endpoints };
    const proxy = await startEnforcing(policy);
    const { node } = await openPaired(cluster, "alice", proxy.environment);
    policy.endpoints = endpoints.map((endpoint) =>
      "rules" in endpoint && endpoint.protocol === "rest"
        ? { ...endpoint, rules: endpoint.rules.filter(({ allow }) => allow.path !== "/v1/discover") }
        : endpoint,
    );
    await expect(call(node, "discover", {})).rejects.toMatchObject({
      code: "registry_unreachable",
      message: expect.stringContaining(`A proxy denies GET /v1/discover at ${cluster.registry}: ${FIRST}.`),
    });
  });
});

it("a plain tunnel to the relay serves as well", async () => {
  const cluster = await openNamedCluster(NAMES);
  const proxy = await startEnforcing(await presetFor(cluster, "--tunnel"));
  const bob = await openOutside(cluster, "bob");
  const { node: alice } = await openPaired(cluster, "alice", proxy.environment);
  await call(alice, "send", { to: didOf(bob), message: "through a tunnel" });
  const { messages } = await call(bob, "await", { from: [didOf(alice)], timeout_ms: 20_000 });
  expect(messages).toMatchObject([{ body: "through a tunnel" }]);
  expect(proxy.passed).toContain(cluster.relay.replace("ws://", ""));
  expect([...proxy.refused]).toEqual([]);
});

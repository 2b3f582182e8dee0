/** What recorded histories are made of: whole lives of real nodes on a real relay, with what goes wrong in them. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { until } from "../../src/actors/inbox.ts";
import { type Mesh, openMesh } from "../../src/actors/mesh.ts";
import { MeshNode } from "../../src/actors/node.ts";
import type { PersistedState } from "../../src/actors/state.ts";
import type { ClusterOperations } from "../../src/cluster/household.ts";
import { openCluster } from "../../src/cluster/local.ts";
import { startServer } from "../../src/cluster/server.ts";
import { MeshError } from "../../src/errors.ts";
import { PREKEYS_CHECK_MS, SIGNED_PREKEY_MS } from "../../src/limits.ts";
import type { PreKeysContext } from "../../src/machines/prekeys/events.ts";
import { FaultyNetwork } from "./network.ts";
import { RARE } from "./rare.ts";

/** A node whose history is worth keeping, and where it lies when the scenario has ended. */
export interface Played {
  readonly node: string;
  readonly home: string;
}
export type Scenario = (directory: string) => Promise<Played[]>;

type Cluster = Awaited<ReturnType<typeof openCluster>>;

const WAIT_MS = 30_000;

interface Told {
  readonly stream: string;
  readonly state: PersistedState;
}

/** Resolves when the node says of one of its streams what is waited for. */
async function shows(mesh: Mesh | Mesh<ClusterOperations>, isIt: (told: Told) => boolean): Promise<void> {
  const signal = AbortSignal.timeout(WAIT_MS);
  const done = new AbortController();
  const look = (news: unknown) => {
    if (isIt(news as Told)) done.abort();
  };
  await (mesh as Mesh).call("watch", {}, { signal: AbortSignal.any([signal, done.signal]), onProgress: look });
  signal.throwIfAborted();
}
const contextOf = (state: PersistedState) => state.context as Record<string, unknown>;

async function tokenFor(cluster: Cluster, name: string, more: { slots?: number; expires_ms?: number } = {}) {
  const { token } = await cluster.call("grant_issue", { name, expires_ms: WAIT_MS * 100, ...more });
  return token;
}

/** Sends, and waits until the relay has it or it is given up. */
async function send(from: Mesh, to: string, message: string): Promise<string> {
  const { id, to: peer } = await from.call("send", { to, message });
  return (await from.call("sent", { to: peer, id, wait_ms: WAIT_MS })).state;
}

/** Tokens that are refused, a registry that does not answer, restarts on the way, a grant that ends. */
const pairing: Scenario = async (directory) => {
  const cluster = await openCluster({ directory: join(directory, "cluster"), port: 0 });
  const home = join(directory, "alice");
  const network = new FaultyNetwork();
  let alice = await openMesh({ home, ports: network.ports });
  const refused = async (token: string) => {
    await alice.call("pair", { token }).then(
      () => Promise.reject(new Error("a token was taken that should not have been")),
      () => undefined,
    );
  };
  const expired = await tokenFor(cluster, "expired", { expires_ms: 1 });
  await shows(cluster, ({ state }) => state.value === "expired");
  await refused(expired);
  const revoked = await tokenFor(cluster, "revoked");
  await cluster.call("grant_revoke", { name: "revoked" });
  await refused(revoked);
  const token = await tokenFor(cluster, "alice", { slots: 2 });
  network.leaveUnanswered("/v1/pair");
  await refused(token);
  network.leaveUnanswered("/v1/agents");
  network.leaveUnanswered("/prekeys");
  const joining = alice.call("pair", { token }).catch(() => undefined);
  await shows(alice, ({ state }) => JSON.stringify(state.value).includes("registeringLater"));
  await alice.close();
  await joining;
  alice = await openMesh({ home, ports: network.ports });
  await shows(alice, ({ state }) => state.value === "paired");
  const second = await tokenFor(cluster, "second");
  await cluster.call("grant_revoke", { name: "second" });
  await refused(second);
  await alice.call("pair", { token: await tokenFor(cluster, "studio"), name: "studio" });
  await cluster.call("grant_revoke", { name: "alice" });
  await alice.close();
  await cluster.close();
  return [
    { node: "laptop", home },
    { node: "controller", home: join(directory, "cluster", "controller") },
  ];
};

/**
 * Talk both ways: failed and refused openings, messages out of order, restarts, a queue from a time without network, peers
 * that are forgotten.
 */
const messages: Scenario = async (directory) => {
  const cluster = await openCluster({ directory: join(directory, "cluster"), port: 0 });
  const networks = { alice: new FaultyNetwork(), bob: new FaultyNetwork(), carol: new FaultyNetwork() };
  const open = (name: keyof typeof networks) => openMesh({ home: join(directory, name), ports: networks[name].ports });
  const member = async (name: keyof typeof networks) => {
    const mesh = await open(name);
    const { did } = await mesh.call("pair", { token: await tokenFor(cluster, name) });
    return { mesh, did: did ?? "" };
  };
  const [{ mesh: first, did: alice }, { mesh: bobs, did: bob }, { mesh: carols, did: carol }] = [
    await member("alice"),
    await member("bob"),
    await member("carol"),
  ];
  const has = (mesh: Mesh, peer: string, received: number) =>
    shows(mesh, ({ stream, state }) => stream === `conversation/${peer}` && contextOf(state).received === received);

  const nobody = `did:mesh:${"0".repeat(32)}`;
  await first.call("send", { to: nobody, message: "is anybody there?" });
  await shows(first, ({ stream, state }) => stream === `conversation/${nobody}` && contextOf(state).attempts === 2);
  networks.alice.refuseKnock("policy_denied");
  await send(first, "carol", "hello carol");
  networks.alice.leaveUnanswered("/prekeys");
  networks.alice.refuseKnock("prekey_unknown");
  await send(first, "bob", "hello bob");
  await has(bobs, alice, 1);
  networks.carol.refuseKnock("prekey_unknown", true);
  await send(carols, bob, "hello from carol");
  await has(bobs, carol, 1);
  await send(bobs, alice, "hello alice");
  await send(bobs, alice, "how are you?");
  await has(first, bob, 2);
  networks.bob.reverse(3);
  for (const message of ["one", "two", "three"]) await send(first, bob, message);
  await has(bobs, alice, 4);
  await bobs.call("inbox", { mark_read: true });

  await first.close();
  networks.alice.isDown = true;
  const alone = await open("alice");
  for (const message of ["four", "five"]) await alone.call("send", { to: bob, message });
  await alone.close();
  networks.alice.isDown = false;
  const back = await open("alice");
  await has(bobs, alice, 6);
  await bobs.close();
  await send(back, bob, "six");
  const bobsBack = await open("bob");
  await has(bobsBack, alice, 7);
  await send(bobsBack, alice, "all there");
  await back.call("await", { from: [bob], timeout_ms: WAIT_MS });
  await send(carols, alice, "who is it?");
  await has(back, carol, 1);
  for (const mesh of [back, bobsBack, carols]) await mesh.call("settle", {});
  for (const peer of [carol, nobody]) await back.call("forget", { peer });
  for (const mesh of [back, bobsBack, carols]) await mesh.close();
  await cluster.close();
  return [
    { node: "alice", home: join(directory, "alice") },
    { node: "bob", home: join(directory, "bob") },
    { node: "carol", home: join(directory, "carol") },
  ];
};

/** Strangers who wait to be let in, one who is, and one who is not; receipts, and a number that is compared. */
const strangers: Scenario = async (directory) => {
  const cluster = await openCluster({ directory: join(directory, "cluster"), port: 0 });
  const member = async (name: string) => {
    const mesh = await openMesh({ home: join(directory, name) });
    const { did } = await mesh.call("pair", { token: await tokenFor(cluster, name) });
    return { mesh, did: did ?? "" };
  };
  const [alice, bob, carol] = [await member("alice"), await member("bob"), await member("carol")];
  const waits = (peer: string) =>
    shows(alice.mesh, ({ stream, state }) => stream === `conversation/${peer}` && contextOf(state).unread === 1);
  await alice.mesh.call("knock_policy", { policy: "verified" });
  const asked: string[] = [];
  for (const { mesh, did } of [bob, carol]) {
    asked.push((await mesh.call("send", { to: alice.did, message: "may I?" })).id);
    await waits(did);
  }
  await alice.mesh.call("decline", { peer: carol.did });
  await alice.mesh.call("accept", { peer: bob.did });
  await alice.mesh.call("inbox", { mark_read: true });
  const read = await bob.mesh.call("sent", { to: alice.did, id: asked[0] ?? "", until: "read", wait_ms: WAIT_MS });
  if (read.state !== "read") throw new Error("no receipt came");
  for (const record of ["verified", "unverified"] as const) await alice.mesh.call("verify", { peer: bob.did, record });
  for (const { mesh } of [alice, bob, carol]) await mesh.close();
  await cluster.close();
  return [
    { node: "alice", home: join(directory, "alice") },
    { node: "bob", home: join(directory, "bob") },
  ];
};

/** Prekeys over weeks: a registry that does not answer, one that has enough, and a signed one that is replaced. */
const prekeys: Scenario = async (directory) => {
  const network = new FaultyNetwork();
  const { clock: real } = network.ports;
  let passed = 0;
  const clock = {
    now: () => real.now() + passed,
    at: (time: number, ring: () => void) => real.at(time - passed, ring),
  };
  const server = await startServer({
    host: "127.0.0.1",
    port: 0,
    directory: join(directory, "server"),
    pair: () => Promise.reject(new MeshError("token_invalid")),
    now: clock.now,
  });
  const home = join(directory, "alice");
  /** Opens the node after a while, and closes it when its prekeys are as is waited for. */
  const after = async (duration: number, isIt: (context: PreKeysContext) => boolean) => {
    passed += duration;
    const node = await MeshNode.open({ home, ports: { ...network.ports, clock } });
    const done = until(
      node,
      () =>
        [...node.core.system.streams("prekeys")].some(
          ([, { snapshot }]) => snapshot.value === "fresh" && isIt(snapshot.context),
        ),
      { timeoutMs: WAIT_MS, signal: AbortSignal.timeout(WAIT_MS), concerns: (stream) => stream.startsWith("prekeys/") },
    );
    node.start();
    if (!node.membership.current) {
      const place = { controller: null, cluster: "local", relayUrl: server.relayUrl, registryUrl: server.url };
      await node.membership.join({ ...place, name: "alice", capabilities: [] });
    }
    if (!(await done)) throw new Error("the prekeys were not seen to");
    await node.close();
  };
  await after(0, ({ signed }) => signed === 1);
  network.leaveUnanswered("/prekeys/count");
  await after(PREKEYS_CHECK_MS, ({ left }) => left !== null);
  await after(SIGNED_PREKEY_MS, ({ signed }) => signed === 2);
  await server.close();
  return [{ node: "alice", home }];
};

const ENDLESS = `console.log("10 % waiting"); setInterval(() => undefined, 1000);`;
const COPY = `import { copyFileSync } from "node:fs"; console.log("50 % copying"); copyFileSync("data.bin", "out/back.bin");`;

/**
 * Errands: one with files to its result, which is told, one for a sandbox that stands, one that is cancelled, one whose sandbox dies, one that waits for its turn
 * and ends with its grant, one refused; then all are forgotten.
 */
const offloads: Scenario = async (directory) => {
  const cluster = await openCluster({ directory: join(directory, "cluster"), port: 0 });
  const home = join(directory, "laptop");
  const laptop = await openMesh({ home });
  await laptop.call("pair", { token: await tokenFor(cluster, "laptop") });
  const errand = join(directory, "errand");
  await mkdir(errand);
  const file = async (name: string, content: string | Uint8Array) => {
    await writeFile(join(errand, name), content);
    return join(errand, name);
  };
  const begin = async (task: string, files: string[], target: object = {}) =>
    (await laptop.call("offload", { task, files, origin: task, ...target })).offload_id;
  const ended = async (id: string) => {
    await laptop.call("offload_status", { id, wait_ms: WAIT_MS, until_over: true });
    // The slot is free again.
    await shows(cluster, ({ stream, state }) => stream === `run/${id}` && contextOf(state).settled === true);
  };
  const runs = (id: string) =>
    shows(laptop, ({ stream, state }) => stream === `offload/${id}` && contextOf(state).pct === 10);

  const data = await file("data.bin", new Uint8Array(600_000));
  await ended(await begin("run copy.mjs", [await file("copy.mjs", COPY), data]));
  const { news } = await laptop.call("news", {});
  await laptop.call("told", { told: news.map(({ subject, mark }) => ({ subject, mark })) });
  // One that stands, whose process dies, takes a task all the same.
  const { pid } = await cluster.call("sandbox_start", { name: "box" });
  process.kill(pid ?? 0, "SIGKILL");
  const isBox = (state: "resting" | "ready") =>
    shows(
      cluster,
      ({ stream, state: { value } }) => stream === "standing/box" && JSON.stringify(value).includes(state),
    );
  await isBox("resting");
  await isBox("ready");
  await ended(await begin("an inventory", [], { to: "box" }));
  await cluster.call("sandbox_stop", { name: "box" });
  const endless = await file("endless.mjs", ENDLESS);
  const cancelled = await begin("run endless.mjs", [endless]);
  await runs(cancelled);
  await laptop.call("offload_cancel", { id: cancelled });
  await ended(cancelled);
  const killed = await begin("run endless.mjs", [endless]);
  await runs(killed);
  const queued = await begin("run endless.mjs in its turn", [endless]);
  const { sandboxes } = await cluster.call("sandboxes", {});
  const running = sandboxes.find(({ run }) => run === killed);
  if (running?.pid) process.kill(running.pid, "SIGKILL");
  await ended(killed);
  // Its slot is another's now, whose grant ends.
  await runs(queued);
  await cluster.call("grant_revoke", { name: "laptop" });
  await ended(queued);
  const refused = await begin("run endless.mjs", [endless]);
  await laptop.call("offload_status", { id: refused, wait_ms: WAIT_MS, until_over: true });
  await laptop.call("settle", {});
  const [membership] = (await laptop.call("whoami", {})).clusters;
  await laptop.call("forget", { peer: membership?.controller ?? "" });
  await laptop.close();
  await cluster.close();
  return [
    { node: "laptop", home },
    { node: "controller", home: join(directory, "cluster", "controller") },
  ];
};

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  pairing,
  messages,
  strangers,
  prekeys,
  offloads,
  ...RARE,
};

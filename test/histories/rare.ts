/** Lives that few nodes have: at a deployed cluster, in a home that went back, with prekeys that ran out, elsewhere than here. */
import { cp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { until } from "../../src/actors/inbox.ts";
import { Keyring } from "../../src/actors/keyring.ts";
import { realNetwork } from "../../src/actors/network.ts";
import { MeshNode } from "../../src/actors/node.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { preKeysContext } from "../../src/actors/prekeys.ts";
import { openHousehold } from "../../src/cluster/household.ts";
import { openCluster } from "../../src/cluster/local.ts";
import type { SandboxHooks } from "../../src/cluster/sandboxes.ts";
import { startServer } from "../../src/cluster/server.ts";
import { MeshError } from "../../src/errors.ts";
import { ONE_TIME_PREKEYS, ONE_TIME_PREKEYS_LOW } from "../../src/limits.ts";
import { PROBE_EVERY_MS, PROBE_GRACE_MS } from "../../src/machines/offload/limits.ts";
import { OffloadRequest, type Payload } from "../../src/wire/payload.ts";
import { CalendarClock } from "../actors/systems.ts";
import { call } from "../actors/world.ts";
import { Agent, done } from "../legacy/agents.ts";
import { openPaired } from "../legacy/world.ts";
import type { Scenario } from "./scenarios.ts";

const WAIT_MS = 30_000;

/** Resolves when it is so of a node. */
async function is(node: MeshNode, isSo: () => boolean): Promise<void> {
  const patience = { timeoutMs: WAIT_MS, signal: AbortSignal.timeout(WAIT_MS), concerns: () => true };
  if (!(await until(node, isSo, patience))) throw new Error("it never was so");
}
const contextOf = (node: MeshNode, stream: string) => node.core.system.state(stream)?.snapshot.context;
const didOf = ({ core }: MeshNode) => core.keyring.identity.did;

/** A deployed cluster: an older sandbox, which is pinged and given files and task; then a cluster of this project in its place. */
const deployed: Scenario = async (directory) => {
  const clock = new CalendarClock(Date.now());
  const { laptop, controller, servers } = await openPaired({}, {}, { ...realPorts(realNetwork), clock });
  const file = join(directory, "data.csv");
  await writeFile(file, "1,2,3");
  const id = await laptop.offload("sum it up", [file]);
  const request = await controller.heard.first(({ type }) => type === "offload_request");
  const answers = (word: Payload) => {
    if (word.type === "mesh:ping") return [{ type: "mesh:pong", nonce: word.nonce }];
    return word.type === "offload_task" ? [{ type: "task_received", request_id: id }, done(id)] : [];
  };
  await Agent.open(servers, "box", { answers });
  controller.ready(laptop.did, request.request_id, "box");
  const isIn = (phase: string) => laptop.node.core.system.state(`offload/${id}`)?.snapshot.matches({ active: phase });
  await laptop.until(() => isIn("expecting") === true);
  clock.pass(PROBE_EVERY_MS);
  await laptop.until(() => isIn("ponged") === true);
  clock.pass(PROBE_GRACE_MS);
  await laptop.ended(id);
  await laptop.until(() => contextOf(laptop.node, `offload/${id}`)?.cleanedUp === true);
  const cluster = await openCluster({ directory: join(directory, "cluster"), port: 0 });
  const { token } = await cluster.call("grant_issue", { name: "laptop", expires_ms: WAIT_MS * 100 });
  const outcome = await laptop.pair(token);
  if (outcome !== "paired") throw new Error(outcome);
  await laptop.node.close();
  await cluster.close();
  return [{ node: "laptop", home: laptop.home }];
};

/** Two nodes at a relay. */
async function two(directory: string) {
  const server = await startServer({
    host: "127.0.0.1",
    port: 0,
    directory: join(directory, "server"),
    pair: () => Promise.reject(new MeshError("token_invalid")),
  });
  const open = async (name: string) => {
    const node = await MeshNode.open({ home: join(directory, name) });
    node.start();
    if (!node.membership.current) {
      const place = { controller: null, cluster: "local", relayUrl: server.relayUrl, registryUrl: server.url };
      await node.membership.join({ ...place, name, capabilities: [] });
    }
    return node;
  };
  /** Says something, and waits until it has arrived. */
  const say = async (from: MeshNode, to: MeshNode, message: string) => {
    const { id } = await call(from, "send", { to: didOf(to), message });
    await is(to, () => to.core.messages.incoming(didOf(from), id) !== undefined);
  };
  return { server, open, say };
}

/** A home that is put back to an earlier time: what it seals then nobody can read, and it is sealed anew. */
const restored: Scenario = async (directory) => {
  const { server, open, say } = await two(directory);
  const home = join(directory, "alice");
  const [first, bob] = [await open("alice"), await open("bob")];
  await say(first, bob, "before");
  await say(bob, first, "before, back");
  await first.close();
  await cp(home, `${home}-copy`, { recursive: true });
  const second = await open("alice");
  for (const round of [1, 2]) {
    await say(second, bob, `lost ${round}`);
    await say(bob, second, `lost ${round}, back`);
  }
  await second.close();
  await rm(home, { recursive: true });
  await cp(`${home}-copy`, home, { recursive: true });
  const third = await open("alice");
  await say(third, bob, "from the past");
  await say(bob, third, "welcome back");
  await third.close();
  await bob.close();
  await server.close();
  return [
    { node: "alice", home },
    { node: "bob", home: join(directory, "bob") },
  ];
};

/** One-time prekeys that sessions have used up are replenished at once. */
const drained: Scenario = async (directory) => {
  const { server, open, say } = await two(directory);
  const [alice, bob] = [await open("alice"), await open("bob")];
  const { controller = "" } = bob.membership.current ?? {};
  const nextOf = () => preKeysContext(bob.core.system, controller)?.next ?? 0;
  await is(bob, () => nextOf() > 0);
  const next = nextOf();
  const used = Array.from({ length: ONE_TIME_PREKEYS - ONE_TIME_PREKEYS_LOW }, (_, n) => next - ONE_TIME_PREKEYS + n);
  for (const _ of used) await alice.core.registry().bundle(didOf(bob));
  // As many sessions were opened with them.
  await bob.core.system.commit(
    [{ stream: `conversation/${didOf(alice)}`, event: { type: "NAMED", name: "alice", source: "registry" } }],
    { secrets: Object.assign({}, ...used.map((id) => Keyring.consumedPatch(id))) },
  ).durable;
  await say(alice, bob, "one more");
  await is(bob, () => nextOf() > next && bob.core.system.state(`prekeys/${controller}`)?.snapshot.value === "fresh");
  for (const node of [alice, bob]) await node.close();
  await server.close();
  return [{ node: "bob", home: join(directory, "bob") }];
};

/** Runs whose sandboxes are elsewhere: one that waits, and counts its tokens to its end, and one that cannot be started. */
const runs: Scenario = async (directory) => {
  const urls = { relay_url: "ws://127.0.0.1:1", registry_url: "http://127.0.0.1:1", pair_url: "http://127.0.0.1:1/" };
  const laptop = `did:mesh:${"a".repeat(32)}`;
  const started = new Map<string, SandboxHooks>();
  const { node, household } = await openHousehold({
    directory,
    ports: realPorts(realNetwork),
    backend: {
      async spawn({ run }, hooks) {
        started.set(run, hooks);
        return { pid: null, end: () => setImmediate(() => hooks.exited(0)) };
      },
    },
    cluster: "local",
    runner: null,
    urls: () => urls,
    online: () => [],
    onNote: () => undefined,
  });
  node.start();
  const place = { controller: null, cluster: "local", relayUrl: urls.relay_url, registryUrl: urls.registry_url };
  // There is nobody to join: what counts is that the controller has an identity from here on.
  node.membership.join({ ...place, name: "local-controller", capabilities: [] }).catch(() => undefined);
  await household.grants.issue({
    name: "laptop",
    slots: 2,
    capabilities: ["offload"],
    expiresMs: WAIT_MS * 100,
    tokenBudget: 1000,
  });
  await node.core.system.commit([{ stream: "grant/laptop", event: { type: "BOUND", did: laptop, name: "laptop" } }])
    .durable;
  const word = async (payload: Payload, id: string) => {
    const draft = await household.controller.handle({ peer: laptop, payload, id });
    if (draft) await node.core.system.commit(draft.entries, { secrets: draft.secrets, before: draft.before }).durable;
  };
  const ask = async (run: string): Promise<SandboxHooks> => {
    await word(OffloadRequest.parse({ type: "offload_request", request_id: run, task: "think" }), `ask ${run}`);
    await is(
      node,
      () => started.has(run) && !node.core.system.state(`run/${run}`)?.snapshot.matches({ alive: "spawning" }),
    );
    const hooks = started.get(run);
    if (!hooks) throw new Error(`${run} was not started`);
    return hooks;
  };
  const isSettled = (run: string) => contextOf(node, `run/${run}`)?.settled === true;
  const first = await ask("first");
  first.starting("spawning", "no node has room");
  first.starting("scheduled", "it has a node, which fetches its image");
  first.ready(`did:mesh:${"b".repeat(32)}`);
  first.told({ type: "begun", files: 0, bytes: 0 });
  first.told({ type: "used", tokens: 20 });
  first.told({ type: "used", tokens: 50 });
  first.told({ type: "ended", ok: true, exit: 0, code: null, reason: null });
  await word({ type: "offload_cleanup", request_id: "first", reason: "done" }, "end first");
  await is(node, () => isSettled("first"));
  const second = await ask("second");
  second.starting("scheduled", "the image could not be pulled");
  second.failed("the image could not be pulled: no such image");
  await is(node, () => isSettled("second"));
  await node.close();
  return [{ node: "controller", home: join(directory, "controller") }];
};

export const RARE: Readonly<Record<string, Scenario>> = { deployed, restored, drained, runs };

/** What a plain relay took and nobody has confirmed, when the relay or the peer turns into one of another kind. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { until } from "../../src/actors/inbox.ts";
import { realNetwork } from "../../src/actors/network.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { ReferenceClient } from "../reference/client.ts";
import { openServers, type Places } from "../reference/servers.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { call, openNode, openWorld } from "./world.ts";

async function joinAt(node: MeshNode, { relayUrl, registryUrl }: Places, name: string, seed?: Uint8Array) {
  const place = { controller: null, cluster: "test", relayUrl, registryUrl };
  await node.membership.join({ ...place, name, capabilities: [], seed });
}
async function openAt(places: Places, name: string, seed?: Uint8Array): Promise<MeshNode> {
  const node = await openNode({ home: join(await temporaryDirectory(), name), ports: realPorts(realNetwork) });
  node.start();
  await joinAt(node, places, name, seed);
  return node;
}
const didOf = (node: MeshNode) => node.core.keyring.identity.did;
const say = async (from: MeshNode, to: MeshNode, message: string) =>
  (await call(from, "send", { to: didOf(to), message })).id;
const hears = async (node: MeshNode, from: MeshNode) =>
  (await call(node, "await", { from: [didOf(from)], timeout_ms: 5_000 })).messages.map(({ body }) => body);
const becomes = (node: MeshNode, isSo: () => boolean) =>
  until(node, isSo, { timeoutMs: 5_000, signal: node.signal, concerns: () => true });

it("does not hold back what is sent at a relay of ours", async () => {
  const plain = await openServers();
  const [alice, bob] = [await openAt(plain, "alice"), await openAt(plain, "bob")];
  await say(alice, bob, "one");
  expect(await hears(bob, alice)).toEqual(["one"]);
  bob.core.link.pause();
  await say(alice, bob, "two");
  const { server } = await openWorld();
  const ours = { relayUrl: server.relayUrl, registryUrl: server.url };
  await joinAt(alice, ours, "alice");
  expect(await becomes(alice, () => alice.core.link.online && !alice.core.link.isPlain)).toBe(true);
  const id = await say(alice, bob, "three");
  expect(await call(alice, "sent", { to: didOf(bob), id, wait_ms: 3_000 })).toMatchObject({ state: "sent" });
  const later = await say(alice, bob, "four");
  expect(await call(alice, "sent", { to: didOf(bob), id: later, wait_ms: 3_000 })).toMatchObject({ state: "sent" });
  bob.core.link.proceed();
  await joinAt(bob, ours, "bob");
  expect(await becomes(bob, () => [...bob.core.messages.received()].length === 4)).toBe(true);
  expect(await hears(bob, alice)).toEqual(["two", "three", "four"]);
});

it("does not hold back what is sent to a peer that goes on with a plain client", async () => {
  const plain = await openServers();
  const seed = new Uint8Array(32).fill(7);
  const [alice, bob] = [await openAt(plain, "alice"), await openAt(plain, "bob", seed)];
  await say(alice, bob, "one");
  expect(await hears(bob, alice)).toEqual(["one"]);
  const { did } = bob.core.keyring.identity;
  await bob.close();
  const id = (await call(alice, "send", { to: did, message: "two" })).id;
  expect(await call(alice, "sent", { to: did, id, wait_ms: 3_000 })).toMatchObject({ state: "sent" });
  plain.registry.forget();
  plain.relay.restart();
  await joinAt(alice, plain, "alicia");
  const client = await ReferenceClient.open(plain, { seed, manner: "typescript" });
  await client.knock(didOf(alice));
  const isPlain = () => alice.core.system.state(`conversation/${did}`)?.snapshot.context.extensions.length === 0;
  expect(await becomes(alice, isPlain)).toBe(true);
  const { connection } = alice.core.link;
  plain.relay.cut(didOf(alice));
  expect(await becomes(alice, () => alice.core.link.connection > connection)).toBe(true);
  const later = (await call(alice, "send", { to: did, message: "three" })).id;
  expect(await call(alice, "sent", { to: did, id: later, wait_ms: 3_000 })).toMatchObject({ state: "sent" });
  await client.say(didOf(alice), { type: "message", content: "plain now" });
  expect(await becomes(alice, () => alice.core.messages.hasUnread(did))).toBe(true);
  expect(await call(alice, "sent", { to: did, id })).toMatchObject({ state: "uncertain" });
});

/** Receipts: who sent a message learns what became of it, where the peer says so. */
import { expect, it } from "vitest";
import type { MeshNode } from "../../src/actors/node.ts";
import { ReferenceClient } from "../reference/client.ts";
import { call, openWorld } from "./world.ts";

const PATIENCE_MS = 20_000;
const didOf = ({ core }: MeshNode) => core.keyring.identity.did;

async function send(from: MeshNode, to: MeshNode, message: string): Promise<string> {
  return (await call(from, "send", { to: didOf(to), message })).id;
}
const comesTo = async (from: MeshNode, to: MeshNode, id: string, wanted: "sent" | "delivered" | "read") =>
  (await call(from, "sent", { to: didOf(to), id, until: wanted, wait_ms: PATIENCE_MS })).state;

it("a message is sent, delivered and read, in this order and with one receipt for many", async () => {
  const world = await openWorld();
  const [alice, bob] = [await world.open("alice"), await world.open("bob")];
  const ids: string[] = [];
  for (let n = 0; n < 20; n++) ids.push(await send(alice, bob, `message ${n}`));
  for (const id of ids) expect(await comesTo(alice, bob, id, "delivered")).toBe("delivered");
  await call(bob, "inbox", { mark_read: true });
  for (const id of ids) expect(await comesTo(alice, bob, id, "read")).toBe("read");
  const { messages } = await call(alice, "sent_messages", { limit: 5 });
  expect(messages.map(({ id, state, name }) => ({ id, state, name }))).toEqual(
    ids
      .slice(-5)
      .reverse()
      .map((id) => ({ id, state: "read", name: didOf(bob) })),
  );
  // Receipts are nothing that anybody counts, and nobody owes receipts of receipts.
  await call(bob, "settle", {});
  const { peers } = await call(bob, "peers", {});
  expect(peers).toMatchObject([{ sent: 0, received: 20, queued: 0 }]);
  expect(bob.core.system.state(`session/${peers[0]?.session}`)?.snapshot.context.encrypted).toBeLessThan(ids.length);
});

it("what is owed when a process ends is told by the next", async () => {
  const world = await openWorld();
  const [alice, bob] = [await world.open("alice"), await world.open("bob")];
  const id = await send(alice, bob, "hello");
  expect(await comesTo(alice, bob, id, "delivered")).toBe("delivered");
  await call(bob, "inbox", { mark_read: true });
  await bob.close();
  await world.open("bob");
  expect(await comesTo(alice, bob, id, "read")).toBe("read");
});

it("a plain client is told nothing that it does not know, and what it is sent stays sent", async () => {
  const world = await openWorld();
  const alice = await ReferenceClient.open(world.places);
  const bob = await world.open("bob");
  await alice.say(didOf(bob), { type: "message", content: "hello" });
  await call(bob, "await", { from: [alice.did], timeout_ms: PATIENCE_MS });
  await call(bob, "settle", {});
  expect((await call(bob, "peers", {})).peers).toMatchObject([{ extensions: [], sent: 0, queued: 0 }]);
  const { id } = await call(bob, "send", { to: alice.did, message: "hello yourself" });
  await alice.heard.first(() => true);
  expect((await call(bob, "sent", { to: alice.did, id, wait_ms: PATIENCE_MS })).state).toBe("sent");
  expect(alice.heard.all.map(({ payload }) => payload)).toEqual([{ type: "message", content: "hello yourself" }]);
});

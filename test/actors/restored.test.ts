/** Homes that go back: restored from a copy, they hold ratchets that have moved on elsewhere. */
import { cp, rm } from "node:fs/promises";
import { expect, it } from "vitest";
import { until } from "../../src/actors/inbox.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { base64, identityFromSeed, sign, utf8 } from "../../src/crypto/index.ts";
import { type KnockReject, unreadableText } from "../../src/wire/frame.ts";
import { call, openWorld, type World } from "./world.ts";

const PATIENCE_MS = 20_000;
const didOf = ({ core }: MeshNode) => core.keyring.identity.did;

/** Says something, and waits until it has arrived. */
async function say(from: MeshNode, to: MeshNode, message: string): Promise<void> {
  await call(from, "send", { to: didOf(to), message });
  while (!(await heard(to)).includes(message))
    await call(to, "await", { from: [didOf(from)], timeout_ms: PATIENCE_MS });
}
async function heard(node: MeshNode): Promise<string[]> {
  const { messages } = await call(node, "inbox", { all: true, limit: 200 });
  const bodies = new Map(messages.map(({ id, body }) => [id, body]));
  return [...node.core.messages.received()].map(({ id }) => bodies.get(id) ?? "");
}

/** Two that talk; then alice's home is copied, they talk on, and the copy takes its place. */
async function goneBack(world: World): Promise<{ alice: MeshNode; bob: MeshNode }> {
  const [first, bob] = [await world.open("alice"), await world.open("bob")];
  await say(first, bob, "before");
  await say(bob, first, "before, back");
  await first.close();
  const copy = `${world.home("alice")}-copy`;
  await cp(world.home("alice"), copy, { recursive: true });
  const second = await world.open("alice");
  for (const round of [1, 2, 3]) {
    await say(second, bob, `lost ${round}`);
    await say(bob, second, `lost ${round}, back`);
  }
  await second.close();
  await rm(world.home("alice"), { recursive: true });
  await cp(copy, world.home("alice"), { recursive: true });
  return { alice: await world.open("alice"), bob };
}

it("what a restored home says is heard, though its keys were used: in a session of its own", async () => {
  const world = await openWorld();
  const { alice, bob } = await goneBack(world);
  await call(alice, "send", { to: didOf(bob), message: "from the past" });
  await say(alice, bob, "and on");
  expect((await heard(bob)).slice(-2)).toEqual(["from the past", "and on"]);
  await say(bob, alice, "welcome back");
});

it("what is said to a restored home is heard, in its order", async () => {
  const world = await openWorld();
  const { alice, bob } = await goneBack(world);
  await call(bob, "send", { to: didOf(alice), message: "to the past" });
  await say(bob, alice, "and on");
  expect((await heard(alice)).slice(-2)).toEqual(["to the past", "and on"]);
  await say(alice, bob, "I am back");
});

it("a report that nobody signed, or of what has arrived, moves nothing", async () => {
  const world = await openWorld();
  const [alice, bob] = [await world.open("alice"), await world.open("bob")];
  const { id } = await call(alice, "send", { to: didOf(bob), message: "hello" });
  const stream = `conversation/${didOf(bob)}`;
  await until(alice, () => alice.core.messages.outgoing(didOf(bob), id)?.state === "sent", {
    timeoutMs: PATIENCE_MS,
    signal: AbortSignal.timeout(PATIENCE_MS),
    concerns: (each) => each === stream,
  });
  const report = (by: Parameters<typeof sign>[0]): KnockReject => {
    const ts = new Date().toISOString();
    const addressed = { v: 1, type: "knock_reject", from: didOf(bob), to: didOf(alice), id: "u" } as const;
    const frame = { ...addressed, knock_id: "u", frames: [id], ts };
    return { ...frame, signature: base64.encode(sign(by, utf8.encode(unreadableText(frame)))) };
  };
  const session = () => alice.core.system.state(stream)?.snapshot.context.session;
  const before = session();
  const mallory = identityFromSeed(new Uint8Array(32).fill(7));
  const { signature, ...unsigned } = report(bob.core.keyring.identity);
  for (const frame of [report(mallory), unsigned, { ...unsigned, signature, frames: [id, "another"] }])
    await alice.knocks.onReject(frame);
  expect(session()).toBe(before);
  await call(alice, "sent", { to: didOf(bob), id, until: "delivered", wait_ms: PATIENCE_MS });
  await alice.knocks.onReject(report(bob.core.keyring.identity));
  expect(session()).toBe(before);
  await say(alice, bob, "still the same");
});

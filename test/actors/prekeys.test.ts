/** Prekeys over weeks: replaced, replenished, kept for knocks that are under way, and never used twice. */
import { expect, it } from "vitest";
import { Keyring } from "../../src/actors/keyring.ts";
import { realNetwork } from "../../src/actors/network.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { freshIds, preKeysContext, preKeysOf } from "../../src/actors/prekeys.ts";
import {
  ONE_TIME_PREKEYS,
  ONE_TIME_PREKEYS_LOW,
  PREKEYS_CHECK_MS,
  SIGNED_PREKEY_KEPT_MS,
  SIGNED_PREKEY_MS,
} from "../../src/limits.ts";
import type { SessionContext } from "../../src/machines/session/events.ts";
import { ReferenceClient } from "../reference/client.ts";
import { CalendarClock } from "./systems.ts";
import { call, openWorld } from "./world.ts";

/** Nodes and a relay with its registry, on one clock that the test moves. */
async function openAges() {
  const clock = new CalendarClock(Date.parse("2026-03-01T12:00:00.000Z"));
  const world = await openWorld({ now: () => clock.now(), every: () => () => undefined });
  const open = async (name: string) => {
    // Connects of one identity have different times.
    clock.pass(1);
    const node = await world.open(name, { ...realPorts(realNetwork), clock });
    // What is overdue is due now.
    clock.pass(1);
    return node;
  };
  const openPlain = () => ReferenceClient.open(world.places, { clock });
  return { clock, open, openPlain };
}

const didOf = (node: MeshNode) => node.core.keyring.identity.did;
const controllerOf = (node: MeshNode) => node.membership.current?.controller ?? "";
const prekeysOf = (node: MeshNode) => preKeysContext(node.core.system, controllerOf(node));
const stateOf = (node: MeshNode) => node.core.system.state(preKeysOf(controllerOf(node)))?.snapshot.value;

/** Resolves when a node's prekeys are published, and are what is waited for. */
function published(
  node: MeshNode,
  isIt: (context: NonNullable<ReturnType<typeof prekeysOf>>) => boolean,
): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      const context = prekeysOf(node);
      if (stateOf(node) !== "fresh" || !context || !isIt(context)) return;
      unsubscribe();
      resolve();
    };
    const unsubscribe = node.core.system.subscribe(look);
    look();
  });
}
const hears = async (node: MeshNode, from: MeshNode | ReferenceClient) => {
  const did = from instanceof ReferenceClient ? from.did : didOf(from);
  const { messages } = await call(node, "await", { from: [did], timeout_ms: 10_000 });
  return messages.map(({ body }) => body);
};

it("a signed prekey is replaced when it is old, and a knock that was under way still opens its session", async () => {
  const { clock, open } = await openAges();
  const [alice, carol] = [await open("alice"), await open("carol")];
  let bob = await open("bob");
  await published(bob, ({ signed }) => signed === 1);
  await bob.close();
  clock.pass(SIGNED_PREKEY_MS - 60_000);
  await call(alice, "send", { to: didOf(bob), message: "sealed with the old one" });
  await call(alice, "settle", { wait_ms: 10_000 });
  clock.pass(60_000);

  bob = await open("bob");
  expect(await hears(bob, alice)).toEqual(["sealed with the old one"]);
  await published(bob, ({ signed }) => signed === 2);
  expect(prekeysOf(bob)?.kept).toEqual([{ id: 1, until: clock.now() + SIGNED_PREKEY_KEPT_MS }]);
  expect((await carol.core.registry().bundle(didOf(bob))).signedPreKey.keyId).toBe(2);
  await call(carol, "send", { to: didOf(bob), message: "sealed with the new one" });
  expect(await hears(bob, carol)).toEqual(["sealed with the new one"]);

  clock.pass(SIGNED_PREKEY_KEPT_MS);
  await published(bob, ({ kept }) => !kept.some(({ id }) => id === 1));
  expect(bob.core.keyring.signedPreKey(1)).toBeUndefined();
  expect(bob.core.keyring.signedPreKey(2)).toBeDefined();
});

it("a knock of a plain client opens its session also when the prekey was replaced while it was under way", async () => {
  const { clock, open, openPlain } = await openAges();
  const alice = await openPlain();
  const bob = await open("bob");
  await published(bob, ({ signed }) => signed === 1);
  bob.core.link.pause();
  clock.pass(SIGNED_PREKEY_MS - 60_000);
  await alice.say(didOf(bob), "sealed with the old one");
  clock.pass(60_000);
  await published(bob, ({ signed }) => signed === 2);
  bob.core.link.proceed();
  expect(await hears(bob, alice)).toEqual(["sealed with the old one"]);
});

it("one-time prekeys that somebody drains are replenished, under ids that were never used", async () => {
  const { clock, open } = await openAges();
  const [alice, bob] = [await open("alice"), await open("bob")];
  await published(bob, () => true);
  const first = prekeysOf(bob)?.next ?? 0;
  const drain = async (count: number) => {
    const ids: (number | undefined)[] = [];
    for (let n = 0; n < count; n++) ids.push((await alice.core.registry().bundle(didOf(bob))).oneTimePreKey?.keyId);
    return ids;
  };
  const drained = await drain(ONE_TIME_PREKEYS);
  expect(await drain(1)).toEqual([undefined]);
  // A session opens without one.
  await call(alice, "send", { to: didOf(bob), message: "without" });
  expect(await hears(bob, alice)).toEqual(["without"]);

  clock.pass(PREKEYS_CHECK_MS);
  await published(bob, ({ next }) => next > first);
  const more = await drain(ONE_TIME_PREKEYS);
  expect(new Set([...drained, ...more]).size).toBe(2 * ONE_TIME_PREKEYS);
  expect(more).not.toContain(undefined);
});

it("those that knocks used up are replenished at once", async () => {
  const { open } = await openAges();
  const bob = await open("bob");
  await published(bob, () => true);
  const { next = 0 } = prekeysOf(bob) ?? {};
  const alice = await open("alice");
  const used = Array.from({ length: ONE_TIME_PREKEYS - ONE_TIME_PREKEYS_LOW }, (_, n) => next - ONE_TIME_PREKEYS + n);
  for (const _ of used) await alice.core.registry().bundle(didOf(bob));
  // As many sessions were opened with them.
  await bob.core.system.commit(
    [{ stream: `conversation/${didOf(alice)}`, event: { type: "NAMED", name: "alice", source: "registry" } }],
    { secrets: Object.assign({}, ...used.map((id) => Keyring.consumedPatch(id))) },
  ).durable;
  await call(alice, "send", { to: didOf(bob), message: "one more" });
  expect(await hears(bob, alice)).toEqual(["one more"]);
  await published(bob, (context) => context.next === next + ONE_TIME_PREKEYS);
});

it("an id is used as soon as its key is decided on, before that is on disk", async () => {
  const { open } = await openAges();
  const bob = await open("bob");
  await published(bob, () => true);
  const { system } = bob.core;
  const { signed, oneTime } = freshIds(system);
  const stream = preKeysOf(controllerOf(bob));
  const { durable } = system.commit([{ stream, event: { type: "ADOPTED", signed, next: oneTime + 50 } }]);
  expect(freshIds(system)).toEqual({ signed: signed + 1, oneTime: oneTime + 50 });
  await durable;
});

it("a knock of a plain client that is given again under another id opens no second session", async () => {
  const { open, openPlain } = await openAges();
  const [alice, bob] = [await openPlain(), await open("bob")];
  for (let n = 0; n < ONE_TIME_PREKEYS; n++) await bob.core.registry().bundle(didOf(bob));
  await alice.say(didOf(bob), "once");
  expect(await hears(bob, alice)).toEqual(["once"]);
  const sessions = (): SessionContext[] =>
    [...bob.core.system.streams("session")].map(([, { snapshot }]) => snapshot.context);
  const [first] = sessions();
  if (!first) throw new Error("no session");
  const { ik, ek, knock } = first;
  await bob.knocks.take({
    v: 1,
    type: "knock",
    from: alice.did,
    to: didOf(bob),
    id: `${knock}-again`,
    establishment: { ik, ek },
  });
  expect(sessions()).toHaveLength(1);
});

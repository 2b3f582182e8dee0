/** One-time prekeys at a registry that does not say how many it has left: our own count decides when there are to be others. */
import { expect, it } from "vitest";
import { Keyring } from "../../src/actors/keyring.ts";
import { ONE_TIME_PREKEYS, ONE_TIME_PREKEYS_LOW, PREKEYS_CHECK_MS, SIGNED_PREKEY_MS } from "../../src/limits.ts";
import { HEARTBEAT, type Laptop, openPlainWorld, type PlainWorld } from "./plain-world.ts";

/** The ids of so many one-time prekeys that somebody takes, and uses for nothing. */
async function take({ asker }: PlainWorld, { did }: Laptop, count: number): Promise<(number | undefined)[]> {
  const ids: (number | undefined)[] = [];
  for (let taken = 0; taken < count; taken++) ids.push((await asker.bundle(did)).oneTimePreKey?.keyId);
  return ids;
}
const idsFrom = (first: number, count: number) => Array.from({ length: count }, (_, index) => first + index);

async function openTwo() {
  const world = await openPlainWorld();
  const [alice, bob] = [await world.open("alice"), await world.open("bob")];
  await Promise.all([alice.arrive(), bob.traffic.next(HEARTBEAT)]);
  return { world, alice, bob };
}

/** Resolves when another lot is published. */
const published = (laptop: Laptop, next: number) =>
  laptop.until(
    () =>
      laptop.preKeys.next === next &&
      laptop.node.core.system.state(`prekeys/${laptop.pairing.controller}`)?.snapshot.value === "fresh",
  );

it("knocks that used them up are counted, lot by lot", async () => {
  const { world, alice, bob } = await openTwo();
  const use = async (ids: readonly number[]) => {
    await take(world, alice, ids.length);
    const secrets = Object.assign({}, ...ids.map((id) => Keyring.consumedPatch(id)));
    const event = { type: "NAMED", name: "somebody", source: "registry" };
    await alice.node.core.system.commit([{ stream: `conversation/${bob.did}`, event }], { secrets }).durable;
  };
  await use(idsFrom(1, ONE_TIME_PREKEYS - ONE_TIME_PREKEYS_LOW));
  await bob.say(alice, "one more");
  expect(await alice.hears(bob)).toEqual(["one more"]);
  await published(alice, 2 * ONE_TIME_PREKEYS + 1);
  // Those that are left of the first lot may be in somebody's hands: they serve, and are not counted.
  await use(idsFrom(ONE_TIME_PREKEYS + 1, ONE_TIME_PREKEYS - ONE_TIME_PREKEYS_LOW));
  const carol = await world.open("carol");
  await carol.say(alice, "and one more");
  expect(await alice.hears(carol)).toEqual(["and one more"]);
  await published(alice, 3 * ONE_TIME_PREKEYS + 1);
  expect(await take(world, alice, 1)).toEqual([2 * ONE_TIME_PREKEYS + 1]);
});

it("those that somebody takes for nothing are missed when a knock comes without one, and others follow in their time", async () => {
  const { world, alice, bob } = await openTwo();
  await take(world, alice, ONE_TIME_PREKEYS);
  expect(await take(world, alice, 1)).toEqual([undefined]);
  await bob.say(alice, "without");
  expect(await alice.hears(bob)).toEqual(["without"]);
  await alice.until(() => alice.preKeys.drained);
  expect(alice.preKeys.next, "not at once: anyone could ask for that").toBe(ONE_TIME_PREKEYS + 1);

  world.clock.pass(PREKEYS_CHECK_MS);
  await published(alice, 2 * ONE_TIME_PREKEYS + 1);
  expect(await take(world, alice, ONE_TIME_PREKEYS)).toEqual(idsFrom(ONE_TIME_PREKEYS + 1, ONE_TIME_PREKEYS));
});

it("those that nobody asked for stay, until others go with the next signed prekey", async () => {
  const { world, alice } = await openTwo();
  const checked = alice.happens("CHECKED");
  world.clock.pass(PREKEYS_CHECK_MS);
  await checked;
  expect(await take(world, alice, 1)).toEqual([1]);
  world.clock.pass(SIGNED_PREKEY_MS);
  await published(alice, 2 * ONE_TIME_PREKEYS + 1);
  expect(await take(world, alice, 1)).toEqual([ONE_TIME_PREKEYS + 1]);
});

/** A laptop of this project at the reference servers, with the reference clients as its peers. */
import { expect, it } from "vitest";
import { until } from "../../src/actors/inbox.ts";
import { realClock } from "../../src/actors/ports.ts";
import { CLOSE } from "../../src/wire/frame.ts";
import { call } from "../actors/world.ts";
import { ReferenceClient } from "./client.ts";
import { Laptop } from "./laptops.ts";
import { openServers } from "./servers.ts";

const PATIENCE = { timeoutMs: 15_000, signal: new AbortController().signal, concerns: () => true };
const chat = (content: string) => ({ type: "message", content });

it("two laptops exchange messages over the reference relay, and neither takes a frame of it for a malformed one", async () => {
  const servers = await openServers();
  const [alice, bob] = [await Laptop.open(servers), await Laptop.open(servers)];
  await alice.say(bob.did, "hello");
  expect(await bob.hears(alice.did, 1)).toEqual(["hello"]);
  await bob.say(alice.did, "hello yourself");
  expect(await alice.hears(bob.did, 1)).toEqual(["hello yourself"]);
  for (const { node, notes } of [alice, bob]) expect([node.core.link.malformed, notes]).toEqual([0, []]);
});

it.each(["typescript", "python"] as const)("a %s client and a laptop talk, whoever begins", async (manner) => {
  const servers = await openServers();
  const laptop = await Laptop.open(servers);
  const [first, second] = [
    await ReferenceClient.open(servers, { manner }),
    await ReferenceClient.open(servers, { manner }),
  ];
  await first.say(laptop.did, "a bare text");
  expect(await laptop.hears(first.did, 1)).toEqual(["a bare text"]);
  for (const client of [first, second]) await laptop.say(client.did, "from the laptop");
  for (const client of [first, second]) await client.heard.first(() => true);
  await second.say(laptop.did, "and back");
  expect(await laptop.hears(second.did, 1)).toEqual(["and back"]);
  const said = manner === "python" ? JSON.stringify(chat("from the laptop")) : chat("from the laptop");
  for (const { heard } of [first, second]) expect(heard.all.map(({ payload }) => payload)).toEqual([said]);
  expect([...first.problems.all, ...second.problems.all, ...laptop.notes]).toEqual([]);
  expect(laptop.node.core.link.malformed).toBe(0);
});

it("what a laptop was sent while it was away comes with its next connection, once", async () => {
  const servers = await openServers();
  const laptop = await Laptop.open(servers);
  const client = await ReferenceClient.open(servers);
  await client.say(laptop.did, chat("here"));
  await laptop.hears(client.did, 1);
  laptop.node.core.link.pause();
  await servers.relay.left.first((did) => did === laptop.did);
  for (const word of ["one", "two"]) await client.say(laptop.did, chat(word));
  laptop.node.core.link.proceed();
  expect(await laptop.hears(client.did, 3)).toEqual(["here", "one", "two"]);
  await servers.relay.acked.first(() => servers.relay.waiting(laptop.did).length === 0);
});

it("a laptop whose clock is not the relay's is told so, and is let in by itself once it is right", async () => {
  let skewMs = 0;
  const now = () => realClock.now() + skewMs;
  const servers = await openServers({ clock: { now, at: (time, task) => realClock.at(time - skewMs, task) } });
  const laptop = await Laptop.open(servers);
  const { link } = laptop.node.core;
  skewMs = 3_600_000;
  servers.relay.cut(laptop.did);
  await until(laptop.node, () => link.context?.closed?.code === CLOSE.possessionUnproved, PATIENCE);
  const whoami = await call(laptop.node, "whoami", {});
  expect(whoami.link.closed?.reason).toContain("set it by the network");
  expect(laptop.notes).toEqual([expect.stringContaining("timestamp outside replay window")]);
  const { length } = servers.relay.connected.all;
  skewMs = 0;
  await servers.relay.connected.first((did) => did === laptop.did, length);
});

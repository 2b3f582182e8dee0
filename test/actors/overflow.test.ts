import { join } from "node:path";
import { expect, it } from "vitest";
import { realNetwork } from "../../src/actors/network.ts";
import { INBOUND_FRAMES_MAX } from "../../src/limits.ts";
import { realDisk } from "../../src/store/disk.ts";
import { readJournal } from "../../src/store/journal-reader.ts";
import { call, filtered, openWorld } from "./world.ts";

it("more than may wait for the first knock to be judged arrives all the same, once and in order", async () => {
  const world = await openWorld();
  const first = await world.open("bob");
  const bob = first.core.keyring.identity.did;
  await first.close();
  const alice = await world.open("alice");
  const count = INBOUND_FRAMES_MAX + 200;
  const ids = Array.from({ length: count }, (_, index) => `m${index}`);
  await Promise.all(ids.map((id) => call(alice, "send", { to: bob, message: id, id })));
  await call(alice, "sent", { to: bob, id: ids.at(-1) ?? "", wait_ms: 20_000 });

  // The registry, which says whose knock it is, answers only when all of them have come.
  const came = Promise.withResolvers<void>();
  let frames = 0;
  const ports = filtered((frame, direction) => {
    if (direction === "in" && frame.type === "message" && ++frames === count) came.resolve();
    return true;
  });
  const slow = async (url: string, init?: RequestInit) => {
    if (url.includes(alice.core.keyring.identity.did.slice(-8))) await came.promise;
    return realNetwork.fetch(url, init);
  };
  const again = await world.open("bob", { ...ports, network: { ...ports.network, fetch: slow } });
  const received: string[] = [];
  while (received.length < count) {
    const page = await call(again, "await", { from: [alice.core.keyring.identity.did], timeout_ms: 20_000 });
    expect(page.status).toBe("received");
    received.push(...page.messages.map(({ body }) => body));
  }
  expect(received).toEqual(ids);
  const journaled: unknown[] = [];
  for await (const { entries } of readJournal(realDisk, join(world.home("bob"), "journal")))
    for (const { event } of entries) if (event.type === "RECEIVED") journaled.push(event.id);
  expect(journaled).toEqual(ids);
});

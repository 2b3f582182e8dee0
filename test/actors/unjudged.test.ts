/** A knock that cannot be judged, since the registry is away, at a relay that gives nothing twice. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { until } from "../../src/actors/inbox.ts";
import { realNetwork } from "../../src/actors/network.ts";
import { type Network, realPorts } from "../../src/actors/ports.ts";
import { ReferenceClient } from "../reference/client.ts";
import { Happenings } from "../reference/happenings.ts";
import { openServers } from "../reference/servers.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { openNode } from "./world.ts";

it("is judged when the registry is back, though the link fell meanwhile", async () => {
  const servers = await openServers();
  const { relayUrl, registryUrl } = servers;
  const asked = new Happenings<number>();
  let isAway = false;
  const network: Network = {
    dial: (url, events) => {
      if (!isAway) return realNetwork.dial(url, events);
      queueMicrotask(() => events.closed(1006, "no network"));
      return { send: () => undefined, ping: () => undefined, buffered: 0, close: () => undefined };
    },
    fetch: (url, init) => {
      if (!isAway) return realNetwork.fetch(url, init);
      asked.add(asked.all.length);
      return Promise.reject(new TypeError("fetch failed"));
    },
  };
  const laptop = await openNode({ home: join(await temporaryDirectory(), "laptop"), ports: realPorts(network) });
  laptop.start();
  const place = { controller: null, cluster: "test", relayUrl, registryUrl, name: "laptop", capabilities: [] };
  const { did = "" } = await laptop.membership.join(place).then(() => laptop.core.keyring.identity);
  const client = await ReferenceClient.open(servers, { manner: "typescript" });
  isAway = true;
  await client.say(did, { type: "message", content: "one" });
  await asked.first(() => true);
  servers.relay.cut(did);
  const patience = { timeoutMs: 10_000, signal: laptop.signal, concerns: () => true };
  expect(await until(laptop, () => !laptop.core.link.online, patience)).toBe(true);
  const so = asked.all.length;
  await asked.first((count) => count >= so);
  isAway = false;
  const isHeard = () => [...laptop.core.messages.received()].length === 2;
  await until(laptop, () => laptop.core.link.online, patience);
  await client.say(did, { type: "message", content: "two" });
  expect(await until(laptop, isHeard, patience)).toBe(true);
});

/** Who is found at registries of either kind, and what is said of them. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { DISCOVER_DETAILS_MAX, DISCOVER_QUESTIONS_MAX } from "../../src/actors/limits.ts";
import { realNetwork } from "../../src/actors/network.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { ReferenceClient } from "../reference/client.ts";
import { openServers, type Servers } from "../reference/servers.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { call, openNode, openWorld } from "./world.ts";

async function openLaptop({ relayUrl, registryUrl }: Servers, capabilities = ["offload"]): Promise<MeshNode> {
  const node = await openNode({ home: join(await temporaryDirectory(), "laptop"), ports: realPorts(realNetwork) });
  node.start();
  await node.membership.join({
    controller: null,
    cluster: "kars",
    relayUrl,
    registryUrl,
    name: "laptop",
    capabilities,
  });
  return node;
}

const HOURS_AGO = new Date(Date.now() - 3_600_000).toISOString().replace("Z", "000+00:00");
const didOf = (number: number) => `did:mesh:${number.toString(16).padStart(32, "0")}`;
const questions = ({ registry }: Servers, from = 0) =>
  registry.asked.all.slice(from).map(({ http }) => decodeURIComponent(http));

it("at a registry that lists by capability only, all that can be found by what is known here, and it is said so", async () => {
  const servers = await openServers();
  const laptop = await openLaptop(servers);
  // By a capability of our own, by those of deployed agents, by what such an agent has besides; and one that nothing leads to.
  servers.registry.plant({ did: didOf(1), capabilities: ["offload", "one"], lastSeen: HOURS_AGO });
  servers.registry.plant({ did: didOf(2), capabilities: ["kars-agent", "task-execution", "two"], lastSeen: HOURS_AGO });
  servers.registry.plant({ did: didOf(3), capabilities: ["kars-agent", "gpu"], lastSeen: HOURS_AGO });
  servers.registry.plant({ did: didOf(4), capabilities: ["gpu", "four"], lastSeen: HOURS_AGO });
  servers.registry.plant({ did: didOf(5), capabilities: ["hidden"], lastSeen: HOURS_AGO });
  const client = await ReferenceClient.open(servers, {
    name: "py-worker",
    manner: "python",
    capabilities: ["kars-agent"],
  });
  const found = await call(laptop, "discover", {});
  expect(found).toMatchObject({ complete: false, note: expect.stringContaining("only by capability or name") });
  expect(found.asked).toEqual(expect.arrayContaining(["offload", "kars-agent", "task-execution", "gpu", "two"]));
  expect(found.agents.map(({ did }) => did)).toEqual([client.did, ...[1, 2, 3, 4].map(didOf)]);
  // Who is online is asked of each, since the lists do not say it; a record says what an agent calls itself.
  expect(found.agents[0]).toMatchObject({ name: "py-worker", online: true, capabilities: ["kars-agent"] });
  expect(found.agents[1]).toEqual({
    did: didOf(1),
    name: null,
    capabilities: ["offload", "one"],
    online: false,
    last_seen: HOURS_AGO,
  });
  // A name that is known here leads to whoever bears it.
  servers.registry.plant({ did: didOf(6), capabilities: ["friend"], lastSeen: HOURS_AGO });
  const named = await call(laptop, "discover", { name: "friend" });
  expect(named).toEqual({
    agents: [{ did: didOf(6), name: "friend", capabilities: [], online: false, last_seen: HOURS_AGO }],
  });
  expect(await call(laptop, "discover", { name: "four", capability: "gpu" })).toMatchObject({
    agents: [{ did: didOf(4), name: "four" }],
  });
  expect(await call(laptop, "discover", { name: "four", capability: "offload" })).toEqual({ agents: [] });
});

it("within bounds, however many agents there are", async () => {
  const servers = await openServers();
  const laptop = await openLaptop(servers, []);
  for (let number = 1; number <= 150; number++)
    servers.registry.plant({
      did: didOf(number),
      capabilities: ["kars-agent", `agent-${number}`],
      lastSeen: HOURS_AGO,
    });
  const before = questions(servers).length;
  const { agents } = await call(laptop, "discover", {});
  expect(agents).toHaveLength(150);
  const asked = questions(servers, before);
  // The first was refused.
  expect(asked.filter((each) => each.includes("/v1/discover"))).toHaveLength(DISCOVER_QUESTIONS_MAX + 1);
  expect(asked.filter((each) => each.endsWith("/presence"))).toHaveLength(DISCOVER_DETAILS_MAX);
  expect(agents.filter(({ online }) => online === null)).toHaveLength(150 - DISCOVER_DETAILS_MAX);
});

it("at a registry that lists everybody, all, and nobody is asked about one by one", async () => {
  const world = await openWorld();
  const alice = await world.open("alice");
  await world.open("bob");
  const found = await call(alice, "discover", {});
  expect(found).toEqual({ agents: [expect.objectContaining({ name: "bob", online: expect.any(Boolean) })] });
});

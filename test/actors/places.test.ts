import { join } from "node:path";
import { expect, it } from "vitest";
import { realNetwork } from "../../src/actors/network.ts";
import { placesOf } from "../../src/actors/places.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { call, openNode, openWorld } from "./world.ts";

it("a relay and a registry that are reached another way than their cluster says are reached that way", async () => {
  const { server, directory, open } = await openWorld();
  const node = await openNode({
    home: join(directory, "behind"),
    ports: realPorts(realNetwork),
    places: { relayUrl: `${server.relayUrl}/`, registryUrl: server.url },
  });
  node.start();
  await node.membership.join({
    controller: null,
    cluster: "test",
    relayUrl: "wss://relay.invalid",
    registryUrl: "https://registry.invalid",
    name: "behind",
    capabilities: [],
  });
  const other = await open("other");
  const { did } = await call(other, "whoami", {});
  await call(node, "send", { to: String(did), message: "through the tunnel" });
  const { messages } = await call(other, "await", { from: ["behind"] });
  expect(messages).toMatchObject([{ body: "through the tunnel" }]);
  expect(await call(node, "whoami", {})).toMatchObject({ clusters: [{ relay_url: "wss://relay.invalid" }] });
});

it("an address of the wrong kind is refused by its name, and an empty one is none", () => {
  const names = { relay: "KARS_MESH_RELAY_URL", registry: "--registry" };
  expect(placesOf({ relayUrl: "", registryUrl: undefined }, names)).toEqual({});
  expect(() => placesOf({ relayUrl: "http://x" }, names)).toThrow(/KARS_MESH_RELAY_URL must be a ws:/);
  expect(() => placesOf({ registryUrl: "x" }, names)).toThrow(/--registry must be an http:/);
});

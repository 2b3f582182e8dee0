/** A relay may change what is not sealed of a frame. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { realNetwork } from "../../src/actors/network.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { openServers } from "../reference/servers.ts";
import { HeldDisk, temporaryDirectory } from "../store/disks.ts";
import { call, openNode } from "./world.ts";

it("a message that is on its way to the disk is not confirmed, whatever the relay says that it was sent after", async () => {
  const { relay, relayUrl, registryUrl } = await openServers();
  const held = new HeldDisk();
  const open = async (name: string, ports = realPorts(realNetwork)) => {
    const node = await openNode({ home: join(await temporaryDirectory(), name), ports });
    node.start();
    const place = { controller: null, cluster: "test", relayUrl, registryUrl };
    await node.membership.join({ ...place, name, capabilities: [] });
    return { node, did: node.core.keyring.identity.did };
  };
  const alice = await open("alice");
  const bob = await open("bob", { ...realPorts(realNetwork), disk: held.disk });
  await call(alice.node, "send", { to: bob.did, message: "one" });
  await call(bob.node, "await", { from: [alice.did], timeout_ms: 5_000 });
  const syncing = held.hold();
  const { id } = await call(alice.node, "send", { to: bob.did, message: "two" });
  const frame = await relay.passed.first((passed) => passed.id === id);
  await syncing;
  relay.deliver({ ...frame, after: "never-sent" });
  await relay.acked.first((ack) => ack.id === id);
  bob.node.arrivals.flush();
  // Frames of one connection keep their order.
  relay.deliver({ ...frame, id: "later", after: "never-sent" });
  await relay.acked.first((ack) => ack.id === "later");
  const arrived = () => relay.passed.all.flatMap((each) => (Array.isArray(each.arrived) ? each.arrived : []));
  expect(arrived()).not.toContain(id);
  held.release();
  await relay.passed.first((each) => Array.isArray(each.arrived) && each.arrived.includes(id));
});

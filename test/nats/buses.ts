import { randomUUID } from "node:crypto";
import { onTestFinished } from "vitest";
import { type Bus, connectBus } from "../../src/cluster/jetstream/bus.ts";
import { asMeshError } from "../../src/errors.ts";
import type { NatsNode } from "./nodes.ts";

/** How long a fresh cluster of NATS may take to elect its leaders. */
const ELECTION_WAIT_MS = 30_000;

/** One connection of a cluster, once NATS has elected who answers it. */
async function connected(node: NatsNode, cluster: string): Promise<Bus> {
  const deadline = Date.now() + ELECTION_WAIT_MS;
  for (;;) {
    try {
      return await connectBus({ servers: node.url, cluster, shards: 1 });
    } catch (error) {
      if (asMeshError(error).code !== "nats_unavailable" || Date.now() > deadline) throw error;
    }
  }
}

/** Three replicas' connections to one cluster of their own, spread over the nodes; gone when the test ends. */
export async function threeBuses(nodes: readonly NatsNode[]): Promise<readonly [Bus, Bus, Bus]> {
  const cluster = randomUUID();
  const open = async (n: number) => {
    const node = nodes[n % nodes.length];
    if (!node) throw new Error("no node");
    const bus = await connected(node, cluster);
    onTestFinished(() => bus.close());
    return bus;
  };
  return [await open(0), await open(1), await open(2)];
}

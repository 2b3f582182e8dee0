import { onTestFinished } from "vitest";
import { freePort, type NatsNode, natsNode, natsNodes } from "./nodes.ts";

/** Servers of NATS that are gone when the test ends. */
export async function withNats(count: 1 | 3 = 1): Promise<NatsNode[]> {
  const { nodes, close } = await natsNodes(count);
  onTestFinished(close);
  return nodes;
}

/** A server that is started otherwise, gone when the test ends. */
export async function withNatsOf(...args: string[]): Promise<NatsNode> {
  const node = natsNode(await freePort(), args);
  onTestFinished(() => node.kill());
  await node.start();
  return node;
}

import { onTestFinished } from "vitest";
import { type NatsNode, natsNodes } from "./nodes.ts";

/** Servers of NATS that are gone when the test ends. */
export async function withNats(count: 1 | 3 = 1): Promise<NatsNode[]> {
  const { nodes, close } = await natsNodes(count);
  onTestFinished(close);
  return nodes;
}

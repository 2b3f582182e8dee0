import { onTestFinished } from "vitest";
import { type NatsNode, natsNodes } from "./nodes.ts";

export * from "./nodes.ts";

/** Real servers of NATS, gone when the test ends. */
export async function withNats(count: 1 | 3 = 1): Promise<NatsNode[]> {
  const { nodes, close } = await natsNodes(count);
  onTestFinished(close);
  return nodes;
}

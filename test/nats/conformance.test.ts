import { afterAll, beforeAll, describe, onTestFinished } from "vitest";
import { type Bus, connectBus } from "../../src/cluster/jetstream/bus.ts";
import { openJetStreamMailboxes } from "../../src/cluster/jetstream/mailboxes.ts";
import { mailboxesConformance } from "../cluster/conformance/mailboxes.ts";
import { natsNodes } from "./nodes.ts";

// JetStream is held to what the embedded store is held to. Each replica has a connection of its own.

describe.each([1, 3] as const)("a NATS of %i", (count) => {
  let servers = "";
  let close: () => Promise<void> = async () => undefined;
  beforeAll(async () => {
    const { nodes, ...rest } = await natsNodes(count);
    servers = nodes.map(({ url }) => url).join(",");
    close = rest.close;
  });
  afterAll(() => close());

  const buses = (replicas: number): Promise<Bus[]> =>
    Promise.all(
      Array.from({ length: replicas }, async () => {
        const bus = await connectBus({ servers, cluster: "conformance" });
        onTestFinished(() => bus.close());
        return bus;
      }),
    );

  mailboxesConformance(async (replicas) => Promise.all((await buses(replicas)).map(openJetStreamMailboxes)));
});

import { openAgents } from "../src/cluster/embedded/agents.ts";
import { embeddedPresence } from "../src/cluster/embedded/presence.ts";
import { connectBus, type NatsOptions } from "../src/cluster/jetstream/bus.ts";
import { openJetStreamMailboxes } from "../src/cluster/jetstream/mailboxes.ts";
import type { ClusterState } from "../src/cluster/state.ts";
import { realDisk } from "../src/store/disk.ts";

// A cluster's state in NATS. Until presence and registry are there too, they are this process's own.

export interface JetStreamStateOptions extends NatsOptions {
  readonly now: () => number;
  /** Where the registry's records lie. */
  readonly directory: string;
}

export async function openJetStreamState(options: JetStreamStateOptions): Promise<ClusterState> {
  const { now, directory, log } = options;
  const bus = await connectBus(options);
  const agents = await openAgents({ disk: realDisk, directory, now, log });
  const mailboxes = await openJetStreamMailboxes(bus);
  return {
    mailboxes: {
      put: mailboxes.put,
      async open(to, onMail) {
        const feed = await mailboxes.open(to, onMail);
        // The relay hands `close` on as it is.
        return {
          pending: feed.pending,
          next: () => feed.next(),
          ack: (id, from) => feed.ack(id, from),
          close: () => feed.close(),
        };
      },
    },
    agents,
    presence: embeddedPresence(now),
    tidy: () => void agents.tidy(),
    async close() {
      await agents.close();
      await bus.close();
    },
  };
}

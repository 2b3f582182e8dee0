import type { ClusterState } from "../state.ts";
import { openJetStreamAgents } from "./agents.ts";
import type { Bus } from "./bus.ts";
import { AWAY_MS } from "./limits.ts";
import { openJetStreamMailboxes } from "./mailboxes.ts";
import { openJetStreamPresence } from "./presence.ts";

// A cluster's state in NATS, for as many processes as one likes.

export interface JetStreamStateOptions {
  readonly now: () => number;
  /** Agents that proved nothing are there too; otherwise nobody sees them. */
  readonly allowUnproven?: boolean | undefined;
  readonly log?: ((line: string) => void) | undefined;
}

/** @throws MeshError `nats_unavailable` */
export async function openJetStreamState(bus: Bus, options: JetStreamStateOptions): Promise<ClusterState> {
  const [mailboxes, presence, agents] = await Promise.all([
    openJetStreamMailboxes(bus),
    openJetStreamPresence(bus, options.now),
    openJetStreamAgents(bus, options),
  ]);
  return {
    mailboxes,
    presence,
    agents,
    trouble: () => (bus.awayMs > AWAY_MS ? "NATS is away" : undefined),
    // NATS removes by itself what is too old.
    tidy: () => undefined,
    async close() {
      await presence.close();
      await agents.close();
    },
  };
}

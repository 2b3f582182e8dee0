import type { Disk } from "../../store/disk.ts";
import type { ClusterState } from "../state.ts";
import { type EmbeddedAgents, openAgents } from "./agents.ts";
import { type EmbeddedMailboxes, openMailboxes } from "./mailboxes.ts";
import { embeddedPresence } from "./presence.ts";

// A cluster's state in the files and the memory of one process.

export interface EmbeddedOptions {
  readonly disk: Disk;
  /** Mail lies in its folder `mail`, the registry's records in `registry`. */
  readonly directory: string;
  readonly now: () => number;
  /** Agents that proved nothing are there too; otherwise nobody sees them. */
  readonly allowUnproven?: boolean | undefined;
  /** Bytes of journal below which mail and records are never rewritten. */
  readonly rewriteSizeMin?: number | undefined;
  readonly log?: ((line: string) => void) | undefined;
}

/** Opens the state of a directory, beginning it when there is none. @throws MeshError `store_damaged` */
export async function openEmbeddedState(options: EmbeddedOptions): Promise<ClusterState> {
  const agents: EmbeddedAgents = await openAgents(options);
  let mailboxes: EmbeddedMailboxes;
  try {
    mailboxes = await openMailboxes(options);
  } catch (error) {
    await agents.close();
    throw error;
  }
  return {
    mailboxes,
    agents,
    presence: embeddedPresence(options.now),
    tidy(now) {
      mailboxes.expire(now);
      void mailboxes.tidy();
      void agents.tidy();
    },
    async close() {
      await mailboxes.close();
      await agents.close();
    },
  };
}

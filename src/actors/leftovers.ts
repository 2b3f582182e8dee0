import type { ConversationContext } from "../machines/conversation/events.ts";
import { type Disk, joinPath } from "../store/disk.ts";
import type { ActorSystem } from "./system.ts";

// What a crash leaves in a state directory that nothing refers to.

/** What a crash left of files that were to replace others: secrets of ended epochs among it. */
export async function removeLeftovers(disk: Disk, home: string): Promise<void> {
  for (const directory of [home, joinPath(home, "snapshots")]) {
    for (const name of await disk.list(directory)) {
      if (name.endsWith(".tmp")) await disk.remove(joinPath(directory, name));
    }
  }
}

/** Only bodies that may have to be sent, or handed over, lie in blobs. */
export function blobsInUse(system: ActorSystem): Set<string> {
  const used = new Set<string>();
  for (const [, state] of system.streams("conversation")) {
    const { outbox, unconfirmed, handling }: ConversationContext = state.snapshot.context;
    for (const { body } of [...outbox, ...unconfirmed, ...handling]) if ("blob" in body) used.add(body.blob);
  }
  return used;
}

/** Only frames that may have to be sent need their message keys, by peer and id of the message. */
export function framesInUse(system: ActorSystem): Map<string, Set<string>> {
  const used = new Map<string, Set<string>>();
  for (const [, state] of system.streams("conversation")) {
    const { peer, outbox, unconfirmed }: ConversationContext = state.snapshot.context;
    const kept = [...unconfirmed.filter(({ resend }) => resend), ...outbox];
    if (kept.length > 0) used.set(peer, new Set(kept.map(({ id }) => id)));
  }
  return used;
}

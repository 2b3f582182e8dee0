import type { ConversationContext } from "../../machines/conversation/events.ts";
import { parsePayload } from "../../wire/payload.ts";
import { type Core, conversationOf } from "../core.ts";
import { compose, type Draft, join } from "../drafts.ts";

// Chunks that never came. A reference relay keeps nothing that it gives to a live connection, so what was on its way when the
// laptop died is lost; the sandbox still has it.

/** What of one transfer came. */
interface Transfer {
  total: number;
  readonly chunks: Set<number>;
}

/** Asks a peer for all chunks of its transfers that have begun and are not whole. One of which no part came is not known of. */
export async function askForMissing(core: Core, peer: string): Promise<Draft> {
  const context: ConversationContext | undefined = core.system.decided(conversationOf(peer))?.snapshot.context;
  const transfers = new Map<string, Transfer>();
  for (const { kind, body } of context?.handling ?? []) {
    const part = kind === "part" ? parsePayload(await core.bodies.open(peer, body)) : undefined;
    if (part?.type !== "mesh:transfer_manifest" && part?.type !== "mesh:transfer_chunk") continue;
    const transfer = transfers.get(part.transfer_id) ?? { total: part.total_chunks, chunks: new Set() };
    transfers.set(part.transfer_id, transfer);
    if (part.type === "mesh:transfer_chunk") transfer.chunks.add(part.chunk_index);
  }
  return join(
    ...[...transfers].map(([transfer_id, { total, chunks }]) => {
      const missing = Array.from({ length: total }, (_, index) => index).filter((index) => !chunks.has(index));
      const words = { type: "mesh:transfer_chunk_request" as const, transfer_id, missing };
      return compose(core, peer, words, `${transfer_id}.missing`);
    }),
  );
}

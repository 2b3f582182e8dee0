import { FILE_CHUNK_SIZE } from "../limits.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import { release } from "../memory.ts";
import { encodeFileChunk } from "../wire/file-chunk.ts";
import type { PayloadOf } from "../wire/payload.ts";
import { type Core, conversationOf } from "./core.ts";
import { compose, type Draft, join, sending } from "./drafts.ts";
import { type FileToSend, readPieces } from "./files.ts";

// Files that we offer and a peer pulls. Nothing of them is kept but what was pulled and is not at the relay yet.

export type Pull = PayloadOf<"mesh:file_pull">;

/** Whether a peer has announced that it pulls files. */
export function pullsFiles({ system }: Core, peer: string): boolean {
  const context: ConversationContext | undefined = system.decided(conversationOf(peer))?.snapshot.context;
  return context?.extensions.includes("files") ?? false;
}

/** Offers a file. @param transfer the id of the transfer, and of the offer's message */
export const offer = (
  core: Core,
  peer: string,
  request: string,
  transfer: string,
  file: FileToSend,
  role?: "log",
): Draft =>
  compose(
    core,
    peer,
    {
      type: "mesh:file_offer",
      transfer_id: transfer,
      request_id: request,
      file_name: file.name,
      size_bytes: file.size,
      chunk_size: FILE_CHUNK_SIZE,
      sha256: file.sha256,
      ...(role && { role }),
    },
    transfer,
  );

/** The SEND events of the pieces that a peer pulls. @throws MeshError `file_unreadable` when the file is not what was offered */
export async function pieces(core: Core, peer: string, file: FileToSend, pull: Pull): Promise<Draft> {
  const { transfer_id: transferId, first, count } = pull;
  const read = await readPieces(core.ports.disk, file, first, count);
  return join(
    ...read.map((piece) => {
      const plaintext = encodeFileChunk({ transferId, ...piece });
      release(piece.bytes);
      return sending(core, peer, `${transferId}.${piece.index}`, "part", plaintext);
    }),
  );
}

/** How much of a file a peer has that pulls this: all before it. */
export const sentBefore = ({ first }: Pull, { size }: FileToSend): number => Math.min(size, first * FILE_CHUNK_SIZE);

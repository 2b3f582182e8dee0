import { z } from "zod";
import { FILE_CHUNK_SIZE, FILE_CHUNKS_MAX, FILE_HEADER_SIZE_MAX } from "../limits.ts";
import { safeParse } from "../parse.ts";
import { Id, Sha256 } from "./text.ts";

// A piece of a file as the plaintext of a message, for peers that announce `files`: 0xfe ‖ length of the header (u16,
// big-endian) ‖ header (JSON, UTF-8) ‖ the piece's bytes. No UTF-8 begins with 0xfe, so it is never taken for JSON, and the bytes
// travel as they are: in JSON they would be a third longer.

const MARK = 0xfe;
const PREFIX_SIZE = 3;

const Header = z.looseObject({
  transfer_id: Id,
  /** Which piece it is, from 0. */
  index: z
    .int()
    .min(0)
    .max(FILE_CHUNKS_MAX - 1),
  /** Of the piece's bytes, in hex. */
  sha256: Sha256,
});

export interface FileChunk {
  readonly transferId: string;
  readonly index: number;
  readonly sha256: string;
  readonly bytes: Uint8Array;
}

/** Whether a plaintext is a piece of a file, whole or broken. */
export const isFileChunk = (plaintext: Uint8Array): boolean => plaintext[0] === MARK;

export function encodeFileChunk({ transferId, index, sha256, bytes }: FileChunk): Uint8Array {
  const header = Buffer.from(JSON.stringify({ transfer_id: transferId, index, sha256 }), "utf8");
  const plaintext = Buffer.allocUnsafe(PREFIX_SIZE + header.length + bytes.length);
  plaintext[0] = MARK;
  plaintext.writeUInt16BE(header.length, 1);
  plaintext.set(header, PREFIX_SIZE);
  plaintext.set(bytes, PREFIX_SIZE + header.length);
  return plaintext;
}

/** The piece in a plaintext, its bytes not copied and its hash not checked; undefined when it is in no form that is understood. */
export function parseFileChunk(plaintext: Uint8Array): FileChunk | undefined {
  const buffer = Buffer.from(plaintext.buffer, plaintext.byteOffset, plaintext.byteLength);
  if (!isFileChunk(plaintext) || buffer.length < PREFIX_SIZE) return undefined;
  const begin = PREFIX_SIZE + buffer.readUInt16BE(1);
  if (begin > PREFIX_SIZE + FILE_HEADER_SIZE_MAX || begin > buffer.length || buffer.length - begin > FILE_CHUNK_SIZE)
    return undefined;
  let header: unknown;
  try {
    header = JSON.parse(buffer.toString("utf8", PREFIX_SIZE, begin));
  } catch {
    // Like any other header that cannot be read.
    return undefined;
  }
  const parsed = safeParse(Header, header);
  if (!parsed.success) return undefined;
  const { transfer_id: transferId, index, sha256 } = parsed.data;
  return { transferId, index, sha256, bytes: buffer.subarray(begin) };
}

import { hash } from "node:crypto";
import { MeshError } from "../errors.ts";
import { TRANSFER_CHUNK_SIZE, TRANSFER_CHUNKS_MAX } from "../limits.ts";
import type { PayloadOf } from "../wire/payload.ts";

// A payload that is too long for one message travels as a manifest and chunks.
//
// Deployed agents cut the JSON text itself, by characters (UTF-16 code units), and count characters in `total_bytes`. For
// peers that announce our extensions, chunks hold base64 of slices of its UTF-8, and `total_bytes` counts bytes. This code reads both.

export type Manifest = PayloadOf<"mesh:transfer_manifest">;
export type Chunk = PayloadOf<"mesh:transfer_chunk">;
export type ChunkForm = "text" | "base64";

const sha256 = (content: Uint8Array | string) => hash("sha256", content, "hex");

interface Slices {
  /** The content of each chunk, with its hash. */
  readonly slices: readonly { readonly data: string; readonly hash: string }[];
  readonly length: number;
}

function slicesOfText(text: string): Slices {
  const slices = Array.from({ length: Math.ceil(text.length / TRANSFER_CHUNK_SIZE) }, (_, index) => {
    const data = text.slice(index * TRANSFER_CHUNK_SIZE, (index + 1) * TRANSFER_CHUNK_SIZE);
    return { data, hash: sha256(data) };
  });
  return { slices, length: text.length };
}

function slicesOfBytes(bytes: Buffer): Slices {
  const slices = Array.from({ length: Math.ceil(bytes.length / TRANSFER_CHUNK_SIZE) }, (_, index) => {
    const slice = bytes.subarray(index * TRANSFER_CHUNK_SIZE, (index + 1) * TRANSFER_CHUNK_SIZE);
    return { data: slice.toString("base64"), hash: sha256(slice) };
  });
  return { slices, length: bytes.length };
}

/**
 * Cuts the JSON text of a payload into chunks. The same text gives the same chunks.
 * @throws MeshError `file_too_large` when the text needs more than TRANSFER_CHUNKS_MAX chunks
 */
export function cutIntoChunks(
  text: string,
  { id, type, form }: { readonly id: string; readonly type: string; readonly form: ChunkForm },
): { readonly manifest: Manifest; readonly chunks: readonly Chunk[] } {
  const { slices, length } = form === "text" ? slicesOfText(text) : slicesOfBytes(Buffer.from(text, "utf8"));
  if (slices.length > TRANSFER_CHUNKS_MAX) throw new MeshError("file_too_large");
  const hashes = slices.map((slice) => slice.hash);
  const common = { transfer_id: id, total_chunks: slices.length };
  return {
    manifest: {
      type: "mesh:transfer_manifest",
      ...common,
      original_type: type,
      total_bytes: length,
      chunk_hashes: hashes,
      manifest_hash: sha256(hashes.join(":")),
    },
    chunks: slices.map((slice, chunk_index) => ({ type: "mesh:transfer_chunk", ...common, chunk_index, ...slice })),
  };
}

/** The slice in a chunk: its text, or the bytes that its base64 stands for; undefined when neither has the expected hash. */
function sliceOf({ data }: Chunk, expected: string): string | Buffer | undefined {
  if (sha256(data) === expected) return data;
  const bytes = Buffer.from(data, "base64");
  return sha256(bytes) === expected ? bytes : undefined;
}

/**
 * Joins the chunks of a transfer to the text that it carries.
 * @param chunkAt reads one chunk
 * @returns undefined when a chunk is missing, or does not match the manifest
 */
export async function joinChunks(
  manifest: Manifest,
  chunkAt: (index: number) => Promise<Chunk | undefined>,
): Promise<string | undefined> {
  if (manifest.chunk_hashes.length !== manifest.total_chunks) return undefined;
  if (sha256(manifest.chunk_hashes.join(":")) !== manifest.manifest_hash) return undefined;
  const texts: string[] = [];
  const bytes: Buffer[] = [];
  for (const [index, expected] of manifest.chunk_hashes.entries()) {
    const chunk = await chunkAt(index);
    const slice = chunk && sliceOf(chunk, expected);
    if (slice === undefined) return undefined;
    if (typeof slice === "string") texts.push(slice);
    else bytes.push(slice);
  }
  if (texts.length > 0 && bytes.length > 0) return undefined;
  const text = texts.length > 0 ? texts.join("") : Buffer.concat(bytes).toString("utf8");
  const lengths = [text.length, Buffer.byteLength(text)];
  return lengths.includes(manifest.total_bytes) ? text : undefined;
}

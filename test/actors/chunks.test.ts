/** A payload in chunks, in both forms that there are. */
import { hash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { type Chunk, cutIntoChunks, joinChunks, type Manifest } from "../../src/actors/chunks.ts";
import { TRANSFER_CHUNK_SIZE, TRANSFER_CHUNKS_MAX } from "../../src/limits.ts";
import { parsePayload } from "../../src/wire/payload.ts";

/** As they come out of messages. */
const sent = (chunk: Chunk): Chunk => {
  const payload = parsePayload(JSON.stringify(chunk));
  if (payload.type !== "mesh:transfer_chunk") throw new Error("not understood");
  return payload;
};
const join = (manifest: Manifest, chunks: readonly Chunk[]) =>
  joinChunks(manifest, async (index) => chunks[index] && sent(chunks[index]));

// A pair of surrogates stands across the end of the first chunk.
const prefix = '{"type":"task_response","content":"';
const text = `${prefix}${"x".repeat(TRANSFER_CHUNK_SIZE - prefix.length - 1)}😀${"ü".repeat(TRANSFER_CHUNK_SIZE)}"}`;

describe.each(["text", "base64"] as const)("a payload in chunks of %s", (form) => {
  const { manifest, chunks } = cutIntoChunks(text, { id: "t", type: "task_response", form });

  it("comes together again", async () => {
    expect(chunks.length).toBeGreaterThan(2);
    expect(manifest).toMatchObject({ total_chunks: chunks.length, original_type: "task_response" });
    expect(await join(manifest, chunks)).toBe(text);
  });

  it("does not when one is missing, or is another", async () => {
    expect(await join(manifest, chunks.slice(0, -1))).toBeUndefined();
    expect(await join(manifest, [...chunks].reverse())).toBeUndefined();
    expect(await join({ ...manifest, total_bytes: manifest.total_bytes + 1 }, chunks)).toBeUndefined();
    expect(await join({ ...manifest, total_chunks: 1 }, chunks)).toBeUndefined();
    expect(await join({ ...manifest, manifest_hash: "0".repeat(64) }, chunks)).toBeUndefined();
  });
});

it("is written as deployed agents write it: slices of the text, counted in UTF-16 code units", () => {
  const { manifest, chunks } = cutIntoChunks(text, { id: "t", type: "task_response", form: "text" });
  expect(manifest.total_bytes).toBe(text.length);
  expect(chunks.map(({ data }) => data).join("")).toBe(text);
  for (const [index, { data, hash: announced }] of chunks.entries()) {
    expect(announced).toBe(hash("sha256", data, "hex"));
    expect(manifest.chunk_hashes[index]).toBe(announced);
  }
});

it("has a bound", () => {
  const most = "x".repeat(TRANSFER_CHUNKS_MAX * TRANSFER_CHUNK_SIZE);
  const cut = (content: string) => cutIntoChunks(content, { id: "t", type: "message", form: "text" });
  expect(cut(most).chunks).toHaveLength(TRANSFER_CHUNKS_MAX);
  expect(() => cut(`${most}x`)).toThrow(expect.objectContaining({ code: "file_too_large" }));
});

/** Whatever a peer says, sealed, is acted on or can be read: all of it. */
import { hash, randomBytes, randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { until } from "../../src/actors/inbox.ts";
import { INBOX_CHARACTERS_MAX, WORDS_PAGE_MAX } from "../../src/actors/limits.ts";
import { realNetwork } from "../../src/actors/network.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { FILE_CHUNK_SIZE, MESSAGE_SIZE_MAX } from "../../src/limits.ts";
import { chunksOf, fileTransfer, sayRaw } from "../legacy/agents.ts";
import { ReferenceClient } from "../reference/client.ts";
import { call, openWorld, type World } from "./world.ts";

const didOf = (node: MeshNode) => node.core.keyring.identity.did;

/** Resolves when the node has so many unread messages of a peer. */
async function unread(node: MeshNode, from: string, count: number) {
  const now = () =>
    node.core.messages
      .unread()
      .filter(({ peer }) => peer === from)
      .toArray().length >= count;
  const patience = { timeoutMs: 15_000, signal: AbortSignal.timeout(15_000), concerns: () => true };
  expect(await until(node, now, patience)).toBe(true);
  return (await call(node, "inbox", { from })).messages;
}

/** A peer that says things to bob. */
async function openTwo(): Promise<{ world: World; peer: MeshNode; bob: MeshNode; notes: string[] }> {
  const world = await openWorld();
  const notes: string[] = [];
  const bob = await world.open("bob", realPorts(realNetwork), (note) => notes.push(note));
  const peer = await world.open("peer");
  return { world, peer, bob, notes };
}

/** Bytes are said sealed, as they stand. */
async function sayBytes(node: MeshNode, to: string, bytes: Uint8Array): Promise<void> {
  const { body, size, secrets, before } = node.core.bodies.seal(to, bytes);
  const event = { type: "SEND", id: randomUUID(), kind: "work", body, size };
  await node.core.system.commit([{ stream: `conversation/${to}`, event }], { secrets, before }).durable;
}

describe("what is no vocabulary of ours", () => {
  it("comes to the inbox whole, in its order, and stays there across a restart", async () => {
    const { world, peer, bob } = await openTwo();
    const said: readonly unknown[] = [
      "a bare string",
      "",
      { type: "message", content: "a message" },
      { type: "message", content: { deep: [1, { er: null }] } },
      { type: "message", content: null },
      { type: "message", text: "no content" },
      { type: "message", content: "see", attachments: ["a.png"] },
      { type: "task_request", content: "look", from_agent: "hermes", timestamp: "2026-11-30T00:00:00Z" },
      { message: "hi", task: "no type" },
      { type: "mesh:typing", who: "bob" },
      { type: "offload_status", phase: "ready" },
      { type: "offload_progress", request_id: "r", pct: "many" },
      { type: "file_transfer", file_name: "a.png", file_data: "<base64>", size_bytes: 3 },
      ["a", "list"],
      42,
      null,
      false,
    ];
    for (const value of said) await sayRaw(peer, didOf(bob), value);
    const expected = said.map((value, index) =>
      index < 3 || index === 7 ? ["a bare string", "", "a message", "look"][Math.min(index, 3)] : JSON.stringify(value),
    );
    const bodies = (await unread(bob, didOf(peer), said.length)).map(({ body }) => body);
    expect(bodies).toEqual(expected);
    await bob.close();
    const again = await world.open("bob");
    expect((await call(again, "inbox", {})).messages.map(({ body }) => body)).toEqual(expected);
  });

  it("may be bytes, which are kept and can be had", async () => {
    const { peer, bob } = await openTwo();
    const png = Buffer.from("89504e470d0a1a0a00ff", "hex");
    const broken = Buffer.concat([Buffer.from([0xfe, 0x00, 0x05]), randomBytes(40)]);
    await sayRaw(peer, didOf(bob), { raw_b64: png.toString("base64") });
    await sayBytes(peer, didOf(bob), png);
    // Bytes that begin like a piece of a file, and are none.
    await sayBytes(peer, didOf(bob), broken);
    const messages = await unread(bob, didOf(peer), 3);
    expect(messages).toMatchObject([
      { body: "(binary, 10 bytes)", bytes: 10, raw_b64: png.toString("base64") },
      { body: "(binary, 10 bytes)", bytes: 10, raw_b64: png.toString("base64") },
      { body: "(binary, 43 bytes)", bytes: 43, raw_b64: broken.toString("base64") },
    ]);
  });

  it("may be longer than an answer: then it is read in parts, and no character is cut in two", async () => {
    const { peer, bob } = await openTwo();
    const long = `${"x".repeat(INBOX_CHARACTERS_MAX - 1)}😀${"y".repeat(1_500_000)}`;
    await sayRaw(peer, didOf(bob), long);
    await sayRaw(peer, didOf(bob), "short");
    const [first, ...others] = await unread(bob, didOf(peer), 2);
    expect(others).toEqual([]);
    expect(first).toMatchObject({ offset: 0, length: long.length, body: "x".repeat(INBOX_CHARACTERS_MAX - 1) });
    const id = first?.id ?? "";
    let read = first?.body ?? "";
    for (let parts = 1; read.length < long.length; parts++) {
      const { messages, unread } = await call(bob, "inbox", { id, offset: read.length });
      expect(unread).toBe(2);
      expect(parts).toBeLessThan(20);
      read += messages[0]?.body;
    }
    expect(read).toBe(long);
    const [whole] = (await call(bob, "inbox", { id, characters: WORDS_PAGE_MAX, mark_read: true })).messages;
    expect(whole?.body).toBe(long);
    expect(whole).not.toHaveProperty("length");
    expect((await call(bob, "inbox", {})).messages.map(({ body }) => body)).toEqual(["short"]);
    await expect(call(bob, "inbox", { id: "nobody-sent-this" })).rejects.toMatchObject({ code: "message_unknown" });
  });

  it("may come in chunks, as deployed agents cut what has more than 512 KiB", async () => {
    const { peer, bob } = await openTwo();
    const content = '"ü😀\n'.repeat(200_000);
    const { manifest, chunks } = chunksOf({ type: "task_response", content, from_agent: "analyst" });
    expect(chunks.length).toBeGreaterThan(1);
    for (const part of [...chunks, manifest]) await sayRaw(peer, didOf(bob), part);
    const [message] = await unread(bob, didOf(peer), 1);
    expect(message?.length).toBe(content.length);
    const [whole] = (await call(bob, "inbox", { id: message?.id ?? "", characters: WORDS_PAGE_MAX })).messages;
    expect(whole?.body).toBe(content);
    // A chunk that is sent again begins nothing.
    await sayRaw(peer, didOf(bob), chunks[0]);
    await sayRaw(peer, didOf(bob), "the end");
    await unread(bob, didOf(peer), 2);
    await bob.core.lanes.idle();
    const { handling } = bob.core.system.state(`conversation/${didOf(peer)}`)?.snapshot.context ?? {};
    expect(handling).toEqual([]);
  });

  it("may be a chunk that is given again and again: it is kept once", async () => {
    const { peer, bob } = await openTwo();
    const { manifest, chunks } = chunksOf({ type: "task_response", content: "x".repeat(600_000) });
    for (const part of [chunks[0], chunks[0], manifest, chunks[0], manifest]) await sayRaw(peer, didOf(bob), part);
    await sayRaw(peer, didOf(bob), "the end");
    await unread(bob, didOf(peer), 1);
    await bob.core.lanes.idle();
    const { handling } = bob.core.system.state(`conversation/${didOf(peer)}`)?.snapshot.context ?? {};
    expect(handling).toHaveLength(2);
    await sayRaw(peer, didOf(bob), chunks[1]);
    await unread(bob, didOf(peer), 2);
  });

  it("may be chunks that do not fit: then it is said that a message is lost, and which", async () => {
    const { peer, bob } = await openTwo();
    const { manifest, chunks } = chunksOf({ type: "task_response", content: "x".repeat(600_000) });
    const [first, second] = chunks;
    for (const part of [manifest, first, { ...second, data: "changed" }]) await sayRaw(peer, didOf(bob), part);
    const [message] = await unread(bob, didOf(peer), 1);
    expect(message?.note).toMatch(/parts are missing or damaged/i);
    expect(JSON.parse(message?.body ?? "")).toMatchObject({
      original_type: "task_response",
      total_bytes: manifest.total_bytes,
      total_chunks: 2,
      chunks_received: 2,
    });
  });
});

describe("work that nobody here takes over", () => {
  it("is a message that says so", async () => {
    const { peer, bob } = await openTwo();
    const said = [
      { type: "offload_request", request_id: "r1", task: "do this for me", files: [] },
      { type: "offload_done", request_id: "r2", summary: "it is done" },
      { type: "offload_task", request_id: "r3", task: "or this" },
    ];
    for (const payload of said) await sayRaw(peer, didOf(bob), payload);
    // Words of the protocol itself say nothing to anybody.
    await sayRaw(peer, didOf(bob), { type: "mesh:pong", nonce: "1" });
    await sayRaw(peer, didOf(bob), "the end");
    const messages = await unread(bob, didOf(peer), 4);
    expect(messages.map(({ body }) => body).sort()).toEqual(
      ["the end", ...said.map((each) => JSON.stringify(each))].sort(),
    );
    for (const { body, note } of messages)
      if (body === "the end") expect(note).toBeUndefined();
      else expect(note).toMatch(/Nothing was done with it/);
  });

  it("may be a file: its name and size are told, once, and its sender that it was not taken", async () => {
    const { peer, bob } = await openTwo();
    const file = fileTransfer("report.pdf", Buffer.from("the report"));
    // A deployed agent sends a file again that was refused.
    for (let times = 0; times < 3; times++) await sayRaw(peer, didOf(bob), file);
    const offer = {
      type: "mesh:file_offer",
      transfer_id: "t1",
      request_id: "r1",
      file_name: "other.bin",
      size_bytes: 9,
      chunk_size: FILE_CHUNK_SIZE,
      sha256: hash("sha256", "x", "hex"),
    };
    await sayRaw(peer, didOf(bob), offer);
    // The Python client puts what its application says into a JSON string.
    await sayRaw(peer, didOf(bob), JSON.stringify(fileTransfer("notes.md", Buffer.from("# notes"))));
    await sayRaw(peer, didOf(bob), "the end");
    const messages = await unread(bob, didOf(peer), 4);
    await bob.core.lanes.idle();
    const files = messages.filter(({ body }) => body !== "the end");
    expect(files.map(({ body }) => JSON.parse(body))).toMatchObject([
      { type: "file_transfer", file_name: "report.pdf", size_bytes: 10, description: "a result" },
      { type: "mesh:file_offer", file_name: "other.bin", size_bytes: 9 },
      { type: "file_transfer", file_name: "notes.md", size_bytes: 7 },
    ]);
    for (const { body, note } of files) {
      expect(body).not.toContain("file_data");
      expect(note).toMatch(/not taken, and its sender was told so/);
    }
  });

  it("and what cannot be answered holds back nothing that comes after it", async () => {
    const { peer, bob } = await openTwo();
    const file = fileTransfer("report.pdf", Buffer.from("the report"));
    const nested = `${"[".repeat(9_000)}${"]".repeat(9_000)}`;
    const deep = `{"type":"file_transfer","file_name":"deep","file_data":"","size_bytes":0,"more":${nested}}`;
    // An id so long that nothing can be added to it, and a form that cannot be written again.
    await sayRaw(peer, didOf(bob), file, "i".repeat(128));
    await sayBytes(peer, didOf(bob), Buffer.from(deep));
    await sayRaw(peer, didOf(bob), { ...file, file_name: "last.pdf" });
    const bodies = (await unread(bob, didOf(peer), 3)).map(({ body }) => body);
    // JSON that is too deep is text like any other, and is shown at once.
    expect(bodies).toContain(deep);
    expect(bodies.filter((body) => body !== deep)).toEqual([
      expect.stringContaining("report.pdf"),
      expect.stringContaining("last.pdf"),
    ]);
  });

  it("and its sender hears why a file was not taken", async () => {
    const world = await openWorld();
    const [alice, bob] = [await world.open("alice"), await world.open("bob")];
    await sayRaw(alice, didOf(bob), { ...fileTransfer("report.pdf", Buffer.from("the report")), request_id: "r9" });
    const heard = new Promise((resolve) => {
      alice.core.system.subscribe(({ stream, event }) => {
        if (stream === `conversation/${didOf(bob)}` && event.type === "RECEIVED") resolve(event);
      });
    });
    await unread(bob, didOf(alice), 1);
    const { body } = (await heard) as { body: { sealed: string } };
    expect(JSON.parse(alice.core.bodies.openInline(didOf(bob), body.sealed))).toEqual({
      type: "file_transfer_ack",
      file_name: "report.pdf",
      success: false,
      error: "no offload here awaits this file",
      request_id: "r9",
    });
    // An acknowledgement is not answered.
    await bob.core.lanes.idle();
    expect((await call(alice, "inbox", {})).messages).toEqual([]);
  });
});

describe("the longest message that may be sent", () => {
  const texts = {
    letters: "x".repeat(MESSAGE_SIZE_MAX),
    "quotation marks, which JSON doubles": '"'.repeat(MESSAGE_SIZE_MAX),
    "other scripts": "語".repeat(Math.floor(MESSAGE_SIZE_MAX / 3)),
  };
  it.each(Object.entries(texts))("arrives whole at a peer of ours: %s", async (_, message) => {
    const world = await openWorld();
    const [alice, bob] = [await world.open("alice"), await world.open("bob")];
    const { id, to } = await call(alice, "send", { to: didOf(bob), message });
    expect(await call(alice, "sent", { to, id, wait_ms: 10_000, until: "delivered" })).toMatchObject({
      state: "delivered",
    });
    const [{ id: seen } = { id: "" }] = await unread(bob, didOf(alice), 1);
    const { messages } = await call(bob, "inbox", { id: seen, characters: WORDS_PAGE_MAX });
    expect(messages[0]?.body).toBe(message);
  });

  it("goes to a plain peer in a frame that it takes; what has no room in one is refused", async () => {
    const { world, bob } = await openTwo();
    const { did: to } = await ReferenceClient.open(world.places);
    const { id } = await call(bob, "send", { to, message: texts.letters });
    expect(await call(bob, "sent", { to, id, wait_ms: 10_000 })).toMatchObject({ state: "sent" });
    // JSON makes six bytes of each.
    await expect(call(bob, "send", { to, message: "\u0001".repeat(MESSAGE_SIZE_MAX) })).rejects.toMatchObject({
      code: "limit_reached",
      message: expect.stringContaining("smaller parts"),
    });
  });
});

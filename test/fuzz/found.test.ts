/** What the fuzzer found, each with its smallest input. */
import { crc32 } from "node:zlib";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { base64, base64url } from "../../src/crypto/index.ts";
import { safeParse } from "../../src/parse.ts";
import { parseLine } from "../../src/store/journal-line.ts";
import { readSnapshots, writeSnapshots } from "../../src/store/snapshots.ts";
import { ClientFrame } from "../../src/wire/frame.ts";
import { parsePayload } from "../../src/wire/payload.ts";
import { base64Exact, base64urlExact } from "../../src/wire/text.ts";
import { MeshSendParameters } from "../../src/wire/tool.ts";
import { MemoryDisk } from "../store/memory-disk.ts";

const deep = (depth = 20_000): unknown => JSON.parse("[".repeat(depth) + "]".repeat(depth));

describe("what cannot be measured", () => {
  const unmeasurable = [{ length: { toString: null } }, { length: deep() }];
  const schemas = { text: z.string().max(5), list: z.array(z.string()).max(5), url: z.url().max(500) };

  test.each(Object.entries(schemas))("is no %s, and is refused like anything else", (_, schema) => {
    for (const value of unmeasurable) {
      expect(safeParse(schema, value)).toMatchObject({ success: false });
      expect(safeParse(z.object({ value: schema.optional() }), { value })).toMatchObject({ success: false });
    }
  });

  test("is no frame that any peer could end a process with", () => {
    const routed = {
      v: 1,
      from: `did:mesh:${"0".repeat(32)}`,
      to: `did:mesh:${"1".repeat(32)}`,
      id: "a",
      knock_id: "b",
    };
    for (const reason of unmeasurable)
      expect(safeParse(ClientFrame, { ...routed, type: "knock_reject", reason }).success).toBe(false);
  });
});

describe("a payload", () => {
  test.each([
    ["a list nested deeply", `{"type":${"[".repeat(20_000)}${"]".repeat(20_000)}}`],
    ["what has no text", '{"type":{"toString":null}}'],
  ])("whose type is %s is shown as it came", (_, text) => {
    expect(parsePayload(text)).toEqual({ type: "message", content: text });
  });
});

test("a tool takes a text out of the lists around it, however many they are", () => {
  const wrapped = JSON.parse(`${"[".repeat(20_000)}"bob"${"]".repeat(20_000)}`);
  expect(MeshSendParameters.parse({ to: wrapped, message: "hello" })).toMatchObject({ to: "bob" });
  expect(() => MeshSendParameters.parse({ to: deep(), message: "hello" })).toThrow(/to/);
});

describe("a journal line whose checksum is right", () => {
  const line = (content: object) => {
    const open = JSON.stringify({ n: 1, t: 5, g: 1, p: "", e: [], ...content }).slice(0, -1);
    return Buffer.from(`${open},"c":"${crc32(open).toString(16).padStart(8, "0")}"}`);
  };

  test("and whose content is too is a commit", () => {
    expect(parseLine(line({ e: [{ s: "a/b", type: "T", v: 2 }], k: "1.AA" }))).toMatchObject({ n: 1 });
  });

  test.each([
    ["an event that is nothing", { e: [null] }],
    ["an event without a stream", { e: [{ type: "T" }] }],
    ["an event whose type is no text", { e: [{ s: "a/b", type: null }] }],
    ["a version that is no number", { e: [{ s: "a/b", type: "T", v: "2" }] }],
    ["secrets that are no text", { k: 5 }],
    ["half a number", { n: 1.5 }],
    ["a group below zero", { g: -1 }],
  ])("is no commit with %s", (_, content) => {
    expect(parseLine(line(content))).toBe("not a commit line");
  });
});

test.each([{ position: "5" }, { position: -1 }, { versions: 1 }])(
  "snapshots with %j are no snapshots",
  async (change) => {
    const disk = new MemoryDisk();
    const file = { versions: "v1", position: 5, state: {} };
    await writeSnapshots(disk, "h", file);
    expect(await readSnapshots(disk, "h", "v1")).toEqual(file);
    await writeSnapshots(disk, "h", Object.assign(file, change));
    expect(await readSnapshots(disk, "h", "v1")).toBeUndefined();
  },
);

test.each([1, 2, 3, 32, 64])("%d bytes have one text in each encoding", (size) => {
  const bytes = new Uint8Array(size).fill(0xff);
  const last = (text: string) => text.replace(/.(=*)$/, "$1").replace(/[^=](?==*$)/, "");
  for (const [schema, encoding] of [
    [base64Exact(size), base64],
    [base64urlExact(size), base64url],
  ] as const) {
    const text = encoding.encode(bytes);
    expect(schema.safeParse(text).success).toBe(true);
    expect(schema.safeParse(encoding.encode(bytes.subarray(1))).success).toBe(false);
    expect(schema.safeParse(last(text)).success).toBe(false);
    // Every other last letter stands for the same bytes, with stray bits; or for others, when there are none.
    const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    for (const letter of letters) {
      const other = text.replace(/[^=](?==*$)/, letter);
      const canonical = (() => {
        try {
          return encoding.decode(other).length === size;
        } catch {
          return false;
        }
      })();
      expect(schema.safeParse(other).success).toBe(canonical);
    }
  }
});

import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { expect, test } from "vitest";
import { escaped, isWithin, skim } from "../../src/json.ts";

/** Text of the kinds that frames hold: plain runs of any length, escapes, control characters, and what is not ASCII. */
const text = fc
  .array(
    fc.oneof(
      fc.nat(20_000).map((length) => "A".repeat(length)),
      fc.string({ unit: "binary" }),
      fc.constantFrom('"', "\\", '\\"', "\n", "\u0000", "\u007f", "\u2028", "é", "😀", "{", "}"),
    ),
    { maxLength: 8 },
  )
  .map((parts) => parts.join("").toWellFormed());

const json = fc
  .record({ type: fc.string(), id: fc.string(), body: text, more: fc.jsonValue() }, { requiredKeys: [] })
  .chain((value) => fc.constantFrom(JSON.stringify(value), JSON.stringify(value, null, 2)));

/** The same with a part of it replaced, left out or given twice. */
const broken = fc.tuple(json, fc.nat(), fc.nat(40), fc.oneof(text, fc.constant(""))).map(([whole, at, length, put]) => {
  const begin = at % (whole.length + 1);
  return (whole.slice(0, begin) + put + whole.slice(begin + length)).toWellFormed();
});

function parsed(from: string): unknown {
  try {
    return JSON.parse(from);
  } catch {
    return undefined;
  }
}

const cut = (long: string) => long.slice(0, 8 * 1024);

/** With every string cut as `skim` may cut it, also the names of fields. */
function shortened(value: unknown): unknown {
  if (typeof value === "string") return cut(value);
  if (Array.isArray(value)) return value.map(shortened);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [cut(name), shortened(each)]));
}

test("what is skimmed is refused when it is no JSON, and else says the same but for its long strings", () => {
  fc.assert(
    fc.property(fc.oneof(json, broken), (from) => {
      const expected = parsed(from);
      const read = skim(Buffer.from(from));
      expect(isDeepStrictEqual(shortened(read), shortened(expected))).toBe(true);
    }),
    { numRuns: 2_000 },
  );
});

/** How deep a value is, and of how many strings, commas and opening brackets its JSON consists. */
function structureOf(value: unknown): { readonly depth: number; readonly parts: number } {
  if (typeof value === "string") return { depth: 0, parts: 1 };
  if (typeof value !== "object" || value === null) return { depth: 0, parts: 0 };
  const names = Array.isArray(value) ? 0 : Object.keys(value).length;
  const inside = Object.values(value).map(structureOf);
  const commas = Math.max(0, inside.length - 1);
  return {
    depth: 1 + Math.max(0, ...inside.map(({ depth }) => depth)),
    parts: 1 + names + commas + inside.reduce((sum, { parts }) => sum + parts, 0),
  };
}

test("a text has the depth and the parts of its value, as a string and as bytes, whatever its strings hold", () => {
  fc.assert(
    fc.property(json, (from) => {
      const bounds = structureOf(JSON.parse(from));
      for (const each of [from, Buffer.from(from)]) {
        expect(isWithin(each, bounds)).toBe(true);
        expect(isWithin(each, { ...bounds, depth: bounds.depth - 1 })).toBe(false);
        expect(isWithin(each, { ...bounds, parts: bounds.parts - 1 })).toBe(false);
      }
    }),
    { numRuns: 1_000 },
  );
});

test("a long string is cut, and stays too long for any field", () => {
  const long = "x".repeat(300_000);
  expect(skim(Buffer.from(JSON.stringify({ long, id: "1" })))).toEqual({ long: "x".repeat(8 * 1024), id: "1" });
});

test("control characters in a long string are refused, wherever they stand", () => {
  for (const at of [0, 8_191, 8_192, 8_193, 20_000, 29_999]) {
    const long = `${"x".repeat(at)}\u0001${"x".repeat(30_000 - at)}`;
    expect(skim(Buffer.from(`{"long":"${long}"}`))).toBeUndefined();
  }
});

test("escaped parts make the JSON string of the text", () => {
  fc.assert(
    fc.property(fc.oneof(text, json), (from) => {
      const parts = escaped(Buffer.from(from)).map((part) => Buffer.from(part));
      expect(JSON.parse(`"${Buffer.concat(parts)}"`)).toBe(from);
    }),
    { numRuns: 2_000 },
  );
});

test("a long run is not copied", () => {
  const bytes = Buffer.from(`{"a":"${"x".repeat(100_000)}"}`);
  const [, run] = escaped(bytes);
  expect(Buffer.isBuffer(run) && run.length === 100_000 && run.buffer === bytes.buffer).toBe(true);
});

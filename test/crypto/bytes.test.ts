import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { base64, base64url, concat, equalBytes, hex, utf8 } from "../../src/crypto/index.ts";
import { codeOf } from "./world.ts";

const bytes = (length = 200) => fc.uint8Array({ maxLength: length });

describe("base64 and base64url", () => {
  test("equal Node's own encodings, and come back", () => {
    fc.assert(
      fc.property(bytes(), (value) => {
        expect(base64.encode(value)).toBe(Buffer.from(value).toString("base64"));
        expect(base64url.encode(value)).toBe(Buffer.from(value).toString("base64url"));
        expect(base64.decode(base64.encode(value))).toEqual(value);
        expect(base64url.decode(base64url.encode(value))).toEqual(value);
      }),
    );
  });

  test("a text that decodes is the one text of its bytes", () => {
    const texts = fc.string({ unit: fc.constantFrom(..."AQgwZz09+/-_= \n") });
    fc.assert(
      fc.property(texts, fc.constantFrom(base64, base64url), (text, encoding) => {
        let decoded: Uint8Array;
        try {
          decoded = encoding.decode(text);
        } catch (error) {
          expect(error).toMatchObject({ name: "CryptoError", code: "encoding" });
          return;
        }
        expect(encoding.encode(decoded)).toBe(text);
      }),
      { numRuns: 1000 },
    );
  });

  test.each([
    ["no padding", "Zg"],
    ["half the padding", "Zg="],
    ["too much padding", "Zm9v===="],
    ["padding alone", "===="],
    ["padding inside", "Zg==Zg=="],
    ["a blank", "Zm 9"],
    ["a line end", "Zm9v\n"],
    ["the other alphabet", "-_-_"],
    ["a letter outside ASCII", "Zm9é"],
    ["stray bits after one byte", "Zh=="],
    ["stray bits after two bytes", "Zm9="],
    ["a lone last letter", "Zm9vZ==="],
  ])("base64 refuses %s", (_, text) => {
    expect(codeOf(() => base64.decode(text))).toBe("encoding");
  });

  test.each([
    ["padding", "Zg=="],
    ["the other alphabet", "+/+/"],
    ["a lone last letter", "Zm9vZ"],
    ["stray bits after one byte", "Zh"],
    ["stray bits after two bytes", "Zm9"],
    ["a NUL", "Zm9\0"],
  ])("base64url refuses %s", (_, text) => {
    expect(codeOf(() => base64url.decode(text))).toBe("encoding");
  });

  test("carry 8 MiB", () => {
    const value = new Uint8Array(8 * 1024 * 1024).map((_, at) => at * 31);
    expect(equalBytes(base64.decode(base64.encode(value)), value)).toBe(true);
    expect(equalBytes(base64url.decode(base64url.encode(value)), value)).toBe(true);
  });

  test("read a view of a larger buffer", () => {
    const view = new Uint8Array(Uint8Array.from([9, 9, 102, 111, 111, 9]).buffer, 2, 3);
    expect(base64.encode(view)).toBe("Zm9v");
  });
});

describe("hex", () => {
  test("comes back, in lower case", () => {
    expect(hex.encode(Uint8Array.of(0, 0xab, 0xff))).toBe("00abff");
    expect(hex.decode("00ABff")).toEqual(Uint8Array.of(0, 0xab, 0xff));
    fc.assert(
      fc.property(bytes(), (value) => {
        expect(hex.decode(hex.encode(value))).toEqual(value);
      }),
    );
  });

  test.each(["0", "0g", "0x00", " 00", "é0"])("refuses %j", (text) => {
    expect(codeOf(() => hex.decode(text))).toBe("encoding");
  });
});

describe("utf8", () => {
  test("brings every well formed text back, a byte order mark too", () => {
    expect(utf8.decode(utf8.encode("\ufeffmesh"))).toBe("\ufeffmesh");
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        expect(utf8.decode(utf8.encode(text))).toBe(text);
      }),
    );
  });

  test.each([
    ["a lone continuation", [0x80]],
    ["an overlong form", [0xc0, 0x80]],
    ["a surrogate", [0xed, 0xa0, 0x80]],
    ["a cut sequence", [0xe2, 0x82]],
  ])("refuses %s", (_, value) => {
    expect(codeOf(() => utf8.decode(Uint8Array.from(value)))).toBe("encoding");
  });
});

describe("concat and equalBytes", () => {
  test("concat keeps order and gives a new array", () => {
    const part = Uint8Array.of(1, 2);
    const whole = concat(part, new Uint8Array(), Uint8Array.of(3));
    part[0] = 9;
    expect(whole).toEqual(Uint8Array.of(1, 2, 3));
    expect(concat()).toEqual(new Uint8Array());
  });

  test("equalBytes says what a plain comparison says", () => {
    fc.assert(
      fc.property(bytes(3), bytes(3), (a, b) => {
        expect(equalBytes(a, b)).toBe(Buffer.compare(a, b) === 0);
        expect(equalBytes(a, a.slice())).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});

import { InvalidArgumentError } from "commander";
import { describe, expect, test } from "vitest";
import { duration, integer, list } from "../../src/cli/arguments.ts";
import { age, block, count, cut, facts, json, line, size, styled, table, time } from "../../src/cli/output.ts";

describe("foreign text is shown and not obeyed", () => {
  test.each([
    ["\x1b[31mred", "\\x1b[31mred"],
    ["\x1b]0;title\x07", "\\x1b]0;title\\x07"],
    ["\u009b2J", "\\x9b2J"],
    ["a\rb\nc\td\0", "a\\rb\\nc\\td\\x00"],
    ["\x7f", "\\x7f"],
    ["user\u202egnp.exe", "user\\u{202e}gnp.exe"],
    ["\u2028\u2066", "\\u{2028}\\u{2066}"],
    ["\u{e0041}", "\\u{e0041}"],
    ["Grüße, שלום, 漢字, 👩", "Grüße, שלום, 漢字, 👩"],
    ["👩\u200d👧 a\u00a0b c\ufe0f", "👩\\u{200d}👧 a\\xa0b c\\u{fe0f}"],
    ["MEDIA:/x", "MEDIA\\x3a/x"],
  ])("%j on one line is %s", (foreign, shown) => {
    expect(line(foreign)).toBe(shown);
    expect(line(shown)).toBe(shown);
  });

  test("a message keeps its line breaks and tabs, and nothing else", () => {
    expect(block("one\r\ntwo\tx\n\x1b[2Jthree\rfour\n\n")).toBe("  one\n  two\tx\n  \\x1b[2Jthree\\rfour");
  });

  test("a JSON document is the same document, without anything a terminal obeys", () => {
    const value = { name: "\x1b[31m\u009b2J\x7f\u202e\u2028", words: "漢字 \u{1f600}" };
    const text = json(value);
    expect(JSON.parse(text)).toEqual(value);
    expect(text).not.toMatch(/[\p{Cc}\u2028\u202e]/u);
  });

  test("cells and facts are on one line each", () => {
    expect(table(["NAME", "DID"], [["a\nb\x1b", "d"]])).toBe("NAME      DID\na\\nb\\x1b  d");
    expect(
      facts([
        ["name", "a\x07"],
        ["nothing", null],
        ["empty", ""],
      ]),
    ).toBe("name  a\\x07");
  });
});

describe("for people", () => {
  test("columns are aligned by what a terminal shows", () => {
    expect(
      table(
        ["NAME", "N"],
        [
          ["漢字", "1"],
          ["ab", "2"],
          ["👍", "3"],
        ],
      ),
    ).toBe("NAME  N\n漢字  1\nab    2\n👍    3");
  });

  test("long text is cut to its columns", () => {
    expect(cut("abcdef", 6)).toBe("abcdef");
    expect(cut("abcdefg", 6)).toBe("abcde…");
    expect(cut("漢字漢字", 6)).toBe("漢字…");
  });

  test("colour is for a terminal, unless it is not wanted", () => {
    const stream = (isTTY: boolean) => Object.assign(Object.create(process.stdout), { isTTY }) as NodeJS.WriteStream;
    const before = { NO_COLOR: process.env.NO_COLOR, TERM: process.env.TERM };
    try {
      delete process.env.NO_COLOR;
      process.env.TERM = "xterm";
      expect(styled("red", "x", stream(true))).toBe("\x1b[31mx\x1b[39m");
      expect(styled("red", "x", stream(false))).toBe("x");
      process.env.NO_COLOR = "1";
      expect(styled("red", "x", stream(true))).toBe("x");
    } finally {
      for (const [name, value] of Object.entries(before)) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    }
  });

  test("times are short and local", () => {
    const now = new Date(2026, 4, 20, 12, 0);
    expect(time(new Date(2026, 4, 20, 9, 5).toISOString(), now)).toBe("09:05");
    expect(time(new Date(2026, 2, 3, 9, 5).toISOString(), now)).toBe("3 Mar 09:05");
    expect(time(new Date(2024, 2, 3, 9, 5).toISOString(), now)).toBe("3 Mar 2024");
    expect(time("not a time", now)).toBe("not a time");
  });

  test("ages are relative", () => {
    const now = Date.UTC(2026, 0, 2);
    const at = (seconds: number) => age(new Date(now + seconds * 1000).toISOString(), now);
    expect([at(-5), at(-90), at(-7200), at(-200_000)]).toEqual(["just now", "1 min ago", "2 h ago", "2 d ago"]);
    expect([at(5), at(30 * 86_400 - 1)]).toEqual(["in a moment", "in 30 d"]);
    expect(age("never", now)).toBe("never");
  });

  test("sizes and counts", () => {
    expect([0, 999, 1000, 12_345, 30_000_000].map(size)).toEqual(["0 B", "999 B", "1.0 kB", "12 kB", "30 MB"]);
    expect([count(1, "slot"), count(0, "slot")]).toEqual(["1 slot", "0 slots"]);
  });
});

describe("what people type", () => {
  const expires = duration({ max: "365d" });
  test.each([
    ["90s", 90_000],
    ["45m", 2_700_000],
    ["12h", 43_200_000],
    ["30d", 2_592_000_000],
    ["1.5H", 5_400_000],
  ])("%s is a duration", (text, milliseconds) => expect(expires(text)).toBe(milliseconds));

  test.each(["", "30", "d", "-1d", "3w", "1d2h", "1e3s", "0s", "366d", "infinity"])("%j is none", (text) => {
    expect(() => expires(text)).toThrow(InvalidArgumentError);
  });

  test("a bare number counts the option's own unit", () => {
    const timeout = duration({ unit: "s", max: "600s", zero: true });
    expect([timeout("5"), timeout("2m"), timeout("0")]).toEqual([5000, 120_000, 0]);
    expect(() => timeout("601")).toThrow("At most 600s");
  });

  test("whole numbers within bounds", () => {
    expect(integer(0, 10)("7")).toBe(7);
    for (const text of ["", "-1", "11", "1.5", "0x3", "1e1", "seven"]) expect(() => integer(0, 10)(text)).toThrow();
  });

  test("lists with commas", () => {
    expect(list(" offload, gpu,offload,")).toEqual(["offload", "gpu"]);
    expect(() => list(" , ")).toThrow(InvalidArgumentError);
  });
});

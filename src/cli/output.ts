import { styleText } from "node:util";
import { oneLine, visible, visibleJson } from "../foreign.ts";

// How things look to people: plain aligned text. Foreign text (names, messages, summaries) is shown, never obeyed: what a
// terminal would take for a command, or what cannot be seen, is written as an escape (src/foreign.ts).

type Style = Parameters<typeof styleText>[0];

/** Styled text where a person looks at that stream and did not ask for plain text (https://no-color.org). */
export function styled(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  const plain = !stream.isTTY || Boolean(process.env.NO_COLOR) || process.env.TERM === "dumb";
  return plain ? text : styleText(style, text, { validateStream: false });
}

/** Foreign text on one line. */
export const line = oneLine;

/** Foreign text with its own line breaks and tabs, each line behind `indent`. */
export const block = (text: string, indent = "  "): string =>
  visible(text)
    .replace(/\n+$/, "")
    .split("\n")
    .map((each) => indent + each)
    .join("\n");

/** A JSON document on one line. What cannot be seen or might be obeyed is written as an escape, which is the same document. */
export const json = (value: unknown): string => visibleJson(JSON.stringify(value));

const WIDE = /\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60]/u;
/** Text of which each character is a column. */
const PLAIN = /^[\x20-\x7e]*$/;

let segmenter: Intl.Segmenter | undefined;
/** What a reader takes for one character. To make ready for that takes longer than most commands do. */
function graphemesOf(text: string): Iterable<{ readonly segment: string }> {
  segmenter ??= new Intl.Segmenter();
  return segmenter.segment(text);
}

/** The columns of a terminal that a line takes. */
const widthOf = (text: string): number => {
  if (PLAIN.test(text)) return text.length;
  let width = 0;
  for (const { segment } of graphemesOf(text)) width += WIDE.test(segment) ? 2 : 1;
  return width;
};

/** A line cut to so many columns. */
export function cut(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text;
  let short = "";
  let width = 1;
  for (const { segment } of graphemesOf(text)) {
    width += WIDE.test(segment) ? 2 : 1;
    if (width > columns) break;
    short += segment;
  }
  return `${short.trimEnd()}…`;
}

/** Columns under headings. Cells are foreign text. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [headings, ...rows].map((row) => row.map(line));
  const widths = headings.map((_, column) => Math.max(...cells.map((row) => widthOf(row[column] ?? ""))));
  const lines = cells.map((row) =>
    row
      .map((cell, column) => cell + " ".repeat(Math.max(0, (widths[column] ?? 0) - widthOf(cell))))
      .join("  ")
      .trimEnd(),
  );
  const [heading = "", ...rest] = lines;
  return [styled("dim", heading), ...rest].join("\n");
}

/** Facts, one a line: what, and its value. Absent ones are left out. */
export function facts(entries: readonly (readonly [string, string | null | undefined])[]): string {
  const given = entries.filter(([, value]) => value !== null && value !== undefined && value !== "");
  const width = Math.max(...given.map(([name]) => name.length));
  return given.map(([name, value]) => `${styled("dim", name.padEnd(width))}  ${line(value ?? "")}`).join("\n");
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const two = (number: number) => String(number).padStart(2, "0");
const clock = (at: Date) => `${two(at.getHours())}:${two(at.getMinutes())}`;

/** A time as people here read it: the clock today, with the day this year, the date otherwise. */
export function time(iso: string, now = new Date()): string {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return iso;
  if (at.toDateString() === now.toDateString()) return clock(at);
  const day = `${at.getDate()} ${MONTHS[at.getMonth()]}`;
  return at.getFullYear() === now.getFullYear() ? `${day} ${clock(at)}` : `${day} ${at.getFullYear()}`;
}

/** The clock with seconds, for what happens while one looks. */
export const momentOf = (at: Date): string => `${clock(at)}:${two(at.getSeconds())}`;

const STEPS = [
  [86_400, "d"],
  [3600, "h"],
  [60, "min"],
] as const;

/** How long ago, or in how long. */
export function age(iso: string, now = Date.now()): string {
  const at = Date.parse(iso);
  if (Number.isNaN(at)) return iso;
  const seconds = Math.round(Math.abs(now - at) / 1000);
  const step = STEPS.find(([size]) => seconds >= size);
  if (!step) return at > now ? "in a moment" : "just now";
  const [size, unit] = step;
  return at > now ? `in ${Math.round(seconds / size)} ${unit}` : `${Math.floor(seconds / size)} ${unit} ago`;
}

/** A number of bytes. */
export function size(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const units = ["kB", "MB", "GB"];
  const power = Math.min(Math.floor(Math.log10(bytes) / 3), units.length);
  const value = bytes / 1000 ** power;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[power - 1]}`;
}

/** `1 message`, `2 messages`. */
export const count = (number: number, one: string, many = `${one}s`): string =>
  `${number} ${number === 1 ? one : many}`;

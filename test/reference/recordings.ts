/**
 * What the reference servers and clients said to each other, as a proxy between them wrote it down. The recordings lie beside the
 * repository, in `../shared/recordings`; where that folder is absent the tests say so and skip.
 */
import { existsSync, readFileSync } from "node:fs";
import { z } from "zod";

const folder = new URL("../../../shared/recordings/", import.meta.url);

export const RECORDINGS = [
  "relay-and-registry-raw.jsonl",
  "typescript-client-to-typescript-client.jsonl",
  "python-client-with-typescript-client.jsonl",
] as const;
export type Recording = (typeof RECORDINGS)[number];

const Spoken = { ws: z.string(), from: z.enum(["client", "relay"]) };
const FrameLine = z.strictObject({ ...Spoken, frame: z.string() });
const CloseLine = z.strictObject({ ...Spoken, close: z.int(), reason: z.string().default("") });
const HttpLine = z.strictObject({
  http: z.string(),
  authorization: z.string().optional(),
  request: z.string().optional(),
  status: z.int(),
  type: z.string(),
  response: z.string(),
});
const Line = z.union([FrameLine, CloseLine, HttpLine]);
export type FrameLine = z.infer<typeof FrameLine>;
export type CloseLine = z.infer<typeof CloseLine>;
export type HttpLine = z.infer<typeof HttpLine>;
export type Line = z.infer<typeof Line>;

export const isHttp = (line: Line): line is HttpLine => "http" in line;
export const isFrame = (line: Line): line is FrameLine => "frame" in line;
export const isClose = (line: Line): line is CloseLine => "close" in line;

/** Whether the recordings are there; says aloud when they are not. */
export function present(): boolean {
  if (RECORDINGS.every((name) => existsSync(new URL(name, folder)))) return true;
  console.warn("SKIPPED: the recordings of the reference programs, since ../shared/recordings is absent.");
  return false;
}

export const linesOf = (name: Recording): Line[] =>
  readFileSync(new URL(name, folder), "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => Line.parse(JSON.parse(line)));

const TIMES = /\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3,6}(?:Z|\+00:00)/g;

/** The latest time that a line names, in epoch milliseconds; 0 when it names none. */
export const timeIn = (line: Line): number =>
  Math.max(0, ...[...JSON.stringify(line).matchAll(TIMES)].map(([time]) => Date.parse(time)));

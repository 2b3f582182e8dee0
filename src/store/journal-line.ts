import { hash } from "node:crypto";
import { crc32 } from "node:zlib";
import { MeshError } from "../errors.ts";
import { escaped } from "../json.ts";

// One line of the journal is one commit, as JSON.
//
//   {"n":7,"t":1763712000000,"g":7,"p":"<hash of line 6>","e":[{"s":"session/…","type":"SEALED",…}],"k":"<sealed>","c":"9b2c1f04"}
//
// n numbers the commits from 1. t is the time in epoch milliseconds. g is the number of the first commit that was written
// with this one: a line that is broken while a later line of the SAME group is whole was torn by a crash, since the group was
// never synced; one with a later GROUP behind it was damaged afterwards. p is the first 16 bytes of the SHA-256 of the line
// before, base64url. e holds the events, each with its stream (s) and the version of its form (v, left out when it is 1). k
// holds the secrets that changed, sealed. c is the CRC-32 of all that stands before it.

/** One event of one stream. */
export interface Entry {
  readonly stream: string;
  readonly event: StoredEvent;
  /** The version of the event's form; 1 when absent. */
  readonly version?: number;
  /** A field of the event that is long text, in UTF-8: read from the disk it is a string like any other. */
  readonly long?: { readonly field: string; readonly text: Buffer };
}
export interface StoredEvent {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** Where a commit's line lies: enough to read it back. */
export interface Place {
  readonly segment: string;
  readonly offset: number;
  readonly length: number;
}

export interface Commit {
  readonly number: number;
  readonly at: number;
  readonly entries: readonly Entry[];
  /** The secrets that changed, sealed; opaque to the journal. */
  readonly sealed?: string;
  readonly place: Place;
}

const TAIL_LENGTH = ',"c":"00000000"}'.length;
const NEWLINE = 10;
export const GENESIS = "";

export const lineHash = (line: Uint8Array) => hash("sha256", line, "base64url").slice(0, 22);
const checksum = (bytes: Uint8Array) => crc32(bytes).toString(16).padStart(8, "0");
export const segmentName = (first: number) => `${String(first).padStart(12, "0")}.jsonl`;

/** Where a line stands in the chain. */
export interface LineHead {
  readonly n: number;
  readonly g: number;
  readonly p: string;
}

export interface Line extends LineHead {
  readonly t: number;
  readonly e: readonly ({ readonly s: string; readonly v?: number } & StoredEvent)[];
  readonly k?: string;
}

const isNumber = (value: unknown) => Number.isSafeInteger(value) && Number(value) >= 0;

const isEntry = (value: unknown): boolean =>
  typeof value === "object" &&
  value !== null &&
  "s" in value &&
  typeof value.s === "string" &&
  "type" in value &&
  typeof value.type === "string" &&
  (!("v" in value) || isNumber(value.v));

// By hand: a home opens by reading a million of these.
const isLine = (value: unknown): value is Line =>
  typeof value === "object" &&
  value !== null &&
  "n" in value &&
  isNumber(value.n) &&
  "t" in value &&
  typeof value.t === "number" &&
  Number.isFinite(value.t) &&
  "g" in value &&
  isNumber(value.g) &&
  "p" in value &&
  typeof value.p === "string" &&
  "e" in value &&
  Array.isArray(value.e) &&
  value.e.every(isEntry) &&
  (!("k" in value) || typeof value.k === "string");

/** What is wrong with a line as bytes, if anything is. */
function flawOf(bytes: Buffer): string | undefined {
  const cut = bytes.length - TAIL_LENGTH;
  const tail = bytes.toString("latin1", Math.max(0, cut));
  if (cut < 2 || !tail.startsWith(',"c":"')) return "not a commit line";
  return tail === `,"c":"${checksum(bytes.subarray(0, cut))}"}` ? undefined : "checksum does not match";
}

/** The line's content, or the reason why it is none. */
export function parseLine(bytes: Buffer): Line | string {
  const flaw = flawOf(bytes);
  if (flaw !== undefined) return flaw;
  try {
    const value: unknown = JSON.parse(bytes.toString("utf8"));
    return isLine(value) ? value : "not a commit line";
  } catch (error) {
    return error instanceof Error ? error.message : "not JSON";
  }
}

const HEAD = /^\{"n":(\d+),"t":[-+.\de]+,"g":(\d+),"p":"([\w-]*)",/;
/** Every head lies within so many bytes. */
const HEAD_SPAN = 128;

/** The line's head, or the reason why it has none: the line is checked as a whole and not read. */
export function parseHead(bytes: Buffer): LineHead | string {
  const flaw = flawOf(bytes);
  if (flaw !== undefined) return flaw;
  const [, n, g, p] = HEAD.exec(bytes.toString("latin1", 0, HEAD_SPAN)) ?? [];
  return p === undefined ? parseLine(bytes) : { n: Number(n), g: Number(g), p };
}

/**
 * Whether a broken line, or what was read of it, hides a whole line of a later group than `number`'s: the newline between
 * them is what was changed. Quotes inside of events are escaped, so only a line begins like one.
 */
export function hidesLaterGroup(broken: Buffer, number: number): boolean {
  for (let at = broken.indexOf('{"n":', 1); at !== -1; at = broken.indexOf('{"n":', at + 1)) {
    const line = parseLine(broken.subarray(at));
    if (typeof line !== "string" && line.g > number) return true;
  }
  return false;
}

/** Why a whole line does not follow the commit `head`, whose line has this hash; undefined when it does. */
export function misfitOf(line: LineHead, head: number, hash: string): string | undefined {
  if (line.n !== head + 1) return `commit ${line.n} where ${head + 1} belongs`;
  return line.p === hash ? undefined : "the hash of the line before does not match";
}

export function toCommit(line: Line, place: Place): Commit {
  const entries = line.e.map(({ s, v, ...event }) => ({
    stream: s,
    event: event as StoredEvent,
    ...(v === undefined ? {} : { version: v }),
  }));
  return { number: line.n, at: line.t, entries, place, ...(line.k === undefined ? {} : { sealed: line.k }) };
}

export function* linesOf(
  bytes: Uint8Array,
): Generator<{ line: Buffer; offset: number; length: number; ended: boolean }> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let offset = 0; offset < buffer.length; ) {
    const end = buffer.indexOf(NEWLINE, offset);
    const stop = end === -1 ? buffer.length : end;
    yield { line: buffer.subarray(offset, stop), offset, length: stop - offset, ended: end !== -1 };
    offset = stop + 1;
  }
}

const formatEntry = ({ stream, event, version }: Entry) =>
  `{"s":${JSON.stringify(stream)},${version === undefined ? "" : `"v":${version},`}${JSON.stringify(event).slice(1)}`;

/** Text in parts: those that are long are bytes. */
export type Parts = readonly (string | Buffer)[];

function partsOf(entry: Entry): Parts {
  const text = formatEntry(entry);
  if (!entry.long) return [text];
  return [`${text.slice(0, -1)},${JSON.stringify(entry.long.field)}:"`, ...escaped(entry.long.text), '"}'];
}

/** The events of a commit, as they stand in its line. */
export function formatEntries(entries: readonly Entry[]): Parts {
  if (!entries.some(({ long }) => long)) return [`[${entries.map(formatEntry).join()}]`];
  return ["[", ...entries.flatMap((entry, index) => [...(index > 0 ? [","] : []), ...partsOf(entry)]), "]"];
}

/** A commit as its line, with the newline, but for the checksum. */
export function formatLine(head: LineHead & { readonly t: number }, entries: Parts, sealed?: string): Parts {
  const { n, t, g, p } = head;
  const secrets = sealed === undefined ? "" : `,"k":${JSON.stringify(sealed)}`;
  const [front, back] = [`{"n":${n},"t":${t},"g":${g},"p":"${p}","e":`, `${secrets},"c":"00000000"}\n`];
  const [only = "", ...others] = entries;
  return others.length === 0 && typeof only === "string" ? [front + only + back] : [front, ...entries, back];
}

/** Puts its checksum into a line, newline and all. */
export function sealLine(line: Buffer): void {
  const size = line.length - TAIL_LENGTH - 1;
  line.write(checksum(line.subarray(0, size)), size + 6, "latin1");
}

/** A journal that ends with commit `head`, whole or in a broken line, while `known` are known to have been durable. */
export function cutShort(
  segment: string,
  { line, reason }: { readonly line: number; readonly reason?: string },
  head: number,
  known: number,
): MeshError {
  const end = `the journal ends with commit ${head}, but ${known} were made`;
  return damaged(segment, line, reason === undefined ? end : `${reason}, so ${end}`);
}

export function damaged(segment: string, line: number | undefined, reason: string): MeshError {
  return new MeshError(
    "store_damaged",
    `Journal segment ${segment}${line === undefined ? "" : `, line ${line}`}: ${reason}.`,
  );
}

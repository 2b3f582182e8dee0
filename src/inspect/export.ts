import { createHmac, randomBytes } from "node:crypto";
import { MeshError } from "../errors.ts";
import { Body } from "../machines/definition.ts";
import type { Commit, StoredEvent } from "../store/journal.ts";
import { definitionOf, partsOf } from "./definitions.ts";
import { type RecordedEvent, record } from "./recording.ts";
import { redactEvent } from "./redact.ts";
import { isObject, REDACTED } from "./show.ts";
import type { Source } from "./source.ts";

// A history for others: what viewers are shown of each event stays, and something of the same shape stands for everything else,
// so that the machines make of it what they made of the real one. The same value has the same stand-in, within one export.

/** Gives the stand-in of a hidden text: of its shape, and of no use to whoever guesses what it was. */
type StandIn = (text: string) => string;

function standIns(): StandIn {
  const key = randomBytes(32);
  const bytesFor = (text: string, length: number): Buffer => {
    const blocks = Array.from({ length: Math.ceil(length / 32) }, (_, block) =>
      createHmac("sha256", key).update(`${block} ${text}`).digest(),
    );
    return Buffer.concat(blocks).subarray(0, length);
  };
  return (text) => {
    if (/^(?:[0-9a-f]{2}){16,}$/.test(text)) return bytesFor(text, text.length / 2).toString("hex");
    if (/^(?:[A-Za-z0-9+/]{4}){2,}$|^(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)$/.test(text))
      return bytesFor(text, Buffer.from(text, "base64").length).toString("base64");
    return `redacted-${bytesFor(text, 4).toString("hex")}`;
  };
}

/** @param shown what viewers are shown of the value */
function disguised(value: unknown, shown: unknown, standIn: StandIn): unknown {
  if (Array.isArray(value)) {
    const entries: readonly unknown[] = Array.isArray(shown) && shown.length >= value.length ? shown : [];
    return value.map((entry: unknown, index) => disguised(entry, entries[index] ?? REDACTED, standIn));
  }
  if (isObject(value)) {
    const fields = isObject(shown) ? shown : {};
    return Object.fromEntries(
      Object.entries(value).map(([field, content]) => [
        field,
        disguised(content, Object.hasOwn(fields, field) ? fields[field] : REDACTED, standIn),
      ]),
    );
  }
  if (value === shown || value === null || typeof value === "boolean") return value;
  if (typeof value === "number") return 0;
  if (typeof value !== "string" || value === "") return value;
  // Of an address the host is shown.
  if (typeof shown === "string" && URL.canParse(value) && new URL(value).host === shown)
    return `${new URL(value).protocol}//${shown}`;
  return standIn(value);
}

/** @throws MeshError `internal` for an event that would not be one any more */
function disguisedEvent(stream: string, event: StoredEvent, standIn: StandIn): StoredEvent {
  const { kind } = partsOf(stream);
  const definition = definitionOf(stream);
  const shown = redactEvent(kind, event);
  const other = { ...(disguised(event, shown, standIn) as object), type: event.type };
  const parsed = definition?.events.safeParse(other);
  if (event.type.startsWith("@") || parsed?.success) return other;
  throw new MeshError("internal", `${event.type} of ${kind} cannot be exported.`);
}

/** What was said in bodies, in their order; null where that cannot be known. */
export type WordsOf = (bodies: readonly Body[]) => Promise<readonly (string | null)[]>;

/** The fields of an event that hold a body. */
const bodiesIn = (event: StoredEvent): [field: string, body: Body][] =>
  Object.entries(event).flatMap(([field, value]) => {
    const { data } = Body.safeParse(value);
    return data ? [[field, data] as [string, Body]] : [];
  });

/** The words of an event by the fields that have them; undefined when there are none. */
async function wordsOfEvent(event: StoredEvent, wordsOf: WordsOf): Promise<Record<string, string> | undefined> {
  const bodies = bodiesIn(event);
  if (bodies.length === 0) return undefined;
  const words = await wordsOf(bodies.map(([, body]) => body));
  const known = bodies.flatMap(([field], index) => {
    const text = words[index];
    return typeof text === "string" ? [[field, text] as const] : [];
  });
  return known.length === 0 ? undefined : Object.fromEntries(known);
}

/**
 * One stream of a home as a history that shows what viewers are shown, and no more.
 * @param wordsOf opens bodies: what was said in them goes along then
 * @throws MeshError `input_invalid` when there is no such stream; `store_damaged`, `store_newer`
 */
export async function exportStream(source: Source, stream: string, wordsOf?: WordsOf): Promise<RecordedEvent[]> {
  const standIn = standIns();
  const real: StoredEvent[] = [];
  async function* commits(): AsyncGenerator<Commit> {
    for await (const commit of source.commits(stream))
      yield {
        ...commit,
        entries: commit.entries
          .filter((entry) => entry.stream === stream)
          .map((entry) => {
            real.push(entry.event);
            return { ...entry, event: disguisedEvent(stream, entry.event, standIn) };
          }),
      };
  }
  const events = await record(commits());
  if (events.length === 0) throw await source.unknown(stream);
  if (!wordsOf) return events;
  const worded: RecordedEvent[] = [];
  for (const [index, event] of events.entries()) {
    const words = await wordsOfEvent(real[index] ?? { type: "" }, wordsOf);
    worded.push(words ? { ...event, words } : event);
  }
  return worded;
}

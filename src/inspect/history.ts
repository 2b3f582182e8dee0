import { TIMER_EVENT } from "../actors/state.ts";
import { MeshError } from "../errors.ts";
import type { Commit } from "../store/journal.ts";
import { partsOf } from "./definitions.ts";
import { type Filter, wantedBy } from "./filter.ts";
import { commitsOf, type Folded, fold, foldJournal, stateText } from "./fold.ts";
import { followCommits } from "./follow.ts";
import { HISTORY_PAGE, HISTORY_PAGE_MAX, STREAMS_NAMED_MAX } from "./limits.ts";
import { REDACTED, redactEvent, redactStream, type ShownEvent } from "./redact.ts";

// What happened in a home, in a plain form: read beside a running owner, without a key, and without words.

/** Columns of a line of the timeline. */
const COLUMNS = 120;

export interface StreamSummary {
  readonly stream: string;
  readonly events: number;
  /** ISO 8601. */
  readonly first_at: string;
  readonly last_at: string;
}

export interface HistoryLine {
  /** The commit's number. */
  readonly number: number;
  /** ISO 8601. */
  readonly at: string;
  readonly stream: string;
  readonly type: string;
  readonly event: ShownEvent;
  /** The state before and after as short text, such as `open.established`. */
  readonly from: string;
  readonly to: string;
  /** What the machine asked for. */
  readonly effects: readonly string[];
  /** False when the machine, as it is now, has no use for the event or throws at it: no running node lets such an event in. */
  readonly accepted: boolean;
}

export interface HistoryOptions extends Filter {
  /** Only this stream. */
  readonly stream?: string | undefined;
  /** Lines of a page, at most `HISTORY_PAGE_MAX`; `HISTORY_PAGE` unless given. */
  readonly limit?: number | undefined;
  /** A commit's number: the page begins behind it. Without it the page is the newest lines. */
  readonly after?: number | undefined;
}

const iso = (at: number) => new Date(at).toISOString();

/** Every stream of a home's journal, in the order in which they came to be. @throws MeshError `store_damaged` */
export const listStreams = (home: string): Promise<StreamSummary[]> => streamsOf(commitsOf(home));

/** Every stream of these commits, in the order in which they came to be. */
export async function streamsOf(commits: AsyncIterable<Commit>): Promise<StreamSummary[]> {
  const found = new Map<string, { events: number; first: number; last: number }>();
  for await (const { at, entries } of commits) {
    for (const { stream } of entries) {
      const known = found.get(stream);
      if (known) {
        known.events++;
        known.last = at;
      } else found.set(stream, { events: 1, first: at, last: at });
    }
  }
  return [...found].map(([stream, { events, first, last }]) => ({
    stream: redactStream(stream),
    events,
    first_at: iso(first),
    last_at: iso(last),
  }));
}

/** The refusal of a stream that is not there; it names some that are. */
export async function unknownStream(commits: AsyncIterable<Commit>, stream: string): Promise<MeshError> {
  const streams = await streamsOf(commits);
  const named = streams.slice(-STREAMS_NAMED_MAX).map((each) => each.stream);
  const rest = streams.length > named.length ? ` and ${streams.length - named.length} more` : "";
  const there = named.length === 0 ? "The journal is empty." : `There are: ${named.join(", ")}${rest}.`;
  return new MeshError("input_invalid", `There is no stream ${stream}. ${there}`);
}

function lineOf({ commit, stream, event, before, step }: Folded): HistoryLine {
  const shown = redactEvent(partsOf(stream).kind, event);
  const from = stateText(before.snapshot.value);
  return {
    number: commit.number,
    at: iso(commit.at),
    stream: redactStream(stream),
    type: shown.type,
    event: shown,
    from,
    to: step ? stateText(step.state.snapshot.value) : from,
    effects: step ? step.effects.map(({ type }) => type) : [],
    accepted: step?.accepted ?? false,
  };
}

/**
 * A page of a home's history. With `after` it holds whole commits, so that the last line's number begins the next page; a
 * commit with more events than the page holds comes whole all the same.
 * @returns the lines, oldest first, and how many events there are in all that are wanted
 * @throws MeshError `input_invalid` for a stream that is not there or a page too large; `store_damaged`, `store_newer`
 */
export async function readHistory(
  home: string,
  { stream, limit = HISTORY_PAGE, after, ...filter }: HistoryOptions = {},
): Promise<{ lines: HistoryLine[]; total: number }> {
  if (!Number.isInteger(limit) || limit < 1 || limit > HISTORY_PAGE_MAX)
    throw new MeshError("input_invalid", `A page has 1 to ${HISTORY_PAGE_MAX} lines.`);
  const isWanted = await wantedBy(home, filter);
  let page: Folded[] = [];
  let [total, found] = [0, 0];
  let full = false;
  for await (const folded of foldJournal(home, stream)) {
    found++;
    if (!isWanted(folded, () => lineOf(folded))) continue;
    total++;
    if (after === undefined) {
      page.push(folded);
      if (page.length > 2 * limit) page = page.slice(-limit);
    } else if (folded.commit.number > after && !full) {
      full = page.length >= limit && page.at(-1)?.commit.number !== folded.commit.number;
      if (!full) page.push(folded);
    }
  }
  if (stream !== undefined && found === 0) throw await unknownStream(commitsOf(home), stream);
  return { lines: (after === undefined ? page.slice(-limit) : page).map(lineOf), total };
}

/**
 * The lines of a history that are wanted, those that are there and those that come, until the signal: beside whoever owns the home.
 * @param options.after a commit's number: the first line is of a later one
 * @throws MeshError `peer_unknown`, `store_damaged`, `store_newer`
 */
export async function* followHistory(
  home: string,
  { stream, after = 0, ...filter }: Omit<HistoryOptions, "limit">,
  signal: AbortSignal,
): AsyncGenerator<HistoryLine> {
  const isWanted = await wantedBy(home, filter);
  for await (const folded of fold(followCommits(home, signal), stream))
    if (folded.commit.number > after && isWanted(folded, () => lineOf(folded))) yield lineOf(folded);
}

const cut = (text: string, width: number) => (text.length <= width ? text : `${text.slice(0, width - 1)}…`);

/** A stream in few characters: its kind and the beginning of its id. */
function streamText(stream: string): string {
  const { kind, id } = partsOf(stream);
  return `${kind}/${cut(id.replace(/^did:mesh:/, ""), 9)}`;
}

/** A deadline by the name that its machine gives to the delay. */
const eventText = ({ type, event }: HistoryLine) =>
  type === TIMER_EVENT ? `after ${String(event.id).split(".")[2] ?? REDACTED}` : type;

/** `from -> to`; what both begin with is not said twice. */
function moveText({ from, to }: HistoryLine): string {
  if (from === to) return from;
  const parent = from.slice(0, from.lastIndexOf(".") + 1);
  return `${from} -> ${parent !== "" && to.startsWith(parent) ? to.slice(parent.length - 1) : to}`;
}

/** A timeline for people: time, stream, event, from -> to, effects; one line each, aligned, at most 120 columns. */
export function formatHistory(lines: readonly HistoryLine[]): string {
  const rows = lines.map((line) => [
    line.at.replace("T", " ").replace("Z", ""),
    streamText(line.stream),
    eventText(line),
    moveText(line),
    line.accepted ? line.effects.join(", ") : "(refused)",
  ]);
  const most = [23, 23, 17, 40, COLUMNS];
  const widths = most.map((width, column) =>
    Math.min(width, Math.max(0, ...rows.map((row) => row[column]?.length ?? 0))),
  );
  return rows
    .map((row) => {
      const cells = row.map((cell, column) => cut(cell, widths[column] ?? 0).padEnd(widths[column] ?? 0));
      return cut(cells.join("  ").trimEnd(), COLUMNS);
    })
    .join("\n");
}

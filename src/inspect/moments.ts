import { getNextTransitions } from "xstate";
import { type ActorState, begin, type PersistedState, step } from "../actors/state.ts";
import { MeshError } from "../errors.ts";
import type { MachineDefinition } from "../machines/definition.ts";
import { definitionOf, partsOf } from "./definitions.ts";
import { type Difference, differencesOf } from "./divergence.ts";
import { fold } from "./fold.ts";
import { redactContext } from "./redact.ts";
import type { Source } from "./source.ts";

// A stream as it stood at each of its events.

export interface Replay {
  readonly stream: string;
  /** How many of its events were folded. */
  readonly events: number;
  /** The last commit of it that was folded, and when it was made (ISO 8601); 0 and null before its first. */
  readonly number: number;
  readonly at: string | null;
  readonly value: PersistedState["value"];
  readonly context: Record<string, unknown>;
  /** Deadlines that are set, in ISO 8601. */
  readonly timers: readonly { readonly id: string; readonly at: string }[];
  /** Types of the events that mean something in this state. */
  readonly accepts: readonly string[];
  /** What is pending: what the machine would ask for after a restart. */
  readonly effects: readonly string[];
}

export interface Moment {
  /** How many of the stream's events came until then. */
  readonly events: number;
  /** The number of the commit, and its time (epoch milliseconds); 0 before the first. */
  readonly number: number;
  readonly at: number;
  /** The type of the event; empty before the first. */
  readonly type: string;
  /** How it stood then. */
  readonly replay: () => Replay;
}

/** A commit by its number, or the last one until a time (epoch milliseconds). */
export type Point = { readonly number: number } | { readonly time: number };

const iso = (at: number) => new Date(at).toISOString();

function acceptedBy({ snapshot }: ActorState): string[] {
  if (snapshot.status !== "active") return [];
  const types = getNextTransitions(snapshot).map(({ eventType }) => eventType);
  // Deadlines are told as timers, and transitions without an event have no name.
  return [...new Set(types)].filter((type) => type !== "" && !type.startsWith("xstate."));
}

/** What the machine would ask for after a restart. An effect on an empty list asks for nothing. */
function pendingOf(definition: MachineDefinition, state: ActorState, at: number): string[] {
  const { effects } = step(definition, state, { type: "RESUMED" }, at);
  const isIdle = (params: unknown) =>
    typeof params === "object" && params !== null && Object.values(params).some((value) => isEmptyList(value));
  return effects.filter(({ params }) => !isIdle(params)).map(({ type }) => type);
}
const isEmptyList = (value: unknown) => Array.isArray(value) && value.length === 0;

const replayOf = (
  definition: MachineDefinition,
  stream: string,
  state: ActorState,
  { events, number, at }: Omit<Moment, "type" | "replay">,
): Replay => ({
  stream,
  events,
  number,
  at: events === 0 ? null : iso(at),
  value: state.snapshot.value,
  context: redactContext(definition.kind, state.snapshot.context),
  timers: Object.entries(state.timers).map(([id, timer]) => ({ id, at: iso(timer.at) })),
  accepts: acceptedBy(state),
  effects: pendingOf(definition, state, at),
});

/**
 * The moments of a stream: before its first event, and after each.
 * @throws MeshError `input_invalid` when there is no such stream; `store_damaged`, `store_newer`
 */
export async function* momentsOf(source: Source, stream: string): AsyncGenerator<Moment> {
  const definition = definitionOf(stream);
  if (!definition) throw await source.unknown(stream);
  const momentOf = (state: ActorState, place: Omit<Moment, "replay">): Moment => ({
    ...place,
    replay: () => replayOf(definition, stream, state, place),
  });
  const first = momentOf(begin(definition, partsOf(stream).id), { events: 0, number: 0, at: 0, type: "" });
  let events = 0;
  for await (const { commit, event, before, step: made } of fold(source.commits(stream), stream)) {
    if (events === 0) yield first;
    events++;
    yield momentOf(made?.state ?? before, { events, number: commit.number, at: commit.at, type: event.type });
  }
  if (events === 0) throw await source.unknown(stream);
}

const isUntil = (point: Point, { number, at }: Moment): boolean =>
  "number" in point ? number <= point.number : at <= point.time;

/** A stream as it stood at a point, or as it stands now. @throws MeshError as `momentsOf` */
export async function replayStream(source: Source, stream: string, point?: Point): Promise<Replay> {
  let last: Moment | undefined;
  for await (const moment of momentsOf(source, stream)) {
    if (last && point && !isUntil(point, moment)) break;
    last = moment;
  }
  if (!last) throw await source.unknown(stream);
  return last.replay();
}

/** The first moment of a stream for which a condition holds. @throws MeshError `input_invalid` when none does; as `momentsOf` */
export async function firstMoment(source: Source, stream: string, holds: (moment: Moment) => boolean): Promise<Moment> {
  for await (const moment of momentsOf(source, stream)) if (moment.events > 0 && holds(moment)) return moment;
  throw new MeshError("input_invalid", `That never held for ${stream}.`);
}

/** How often each is there, by its name: in what order they stand says nothing. */
function counted(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

/** What differs between two replays of a stream; of effects and of accepted events how many there are, by name. */
export const changesBetween = (before: Replay, after: Replay): Difference[] => {
  const compared = ({ value, context, timers, effects, accepts }: Replay): unknown =>
    JSON.parse(JSON.stringify({ value, context, timers, effects: counted(effects), accepts: counted(accepts) }));
  return differencesOf(compared(before), compared(after));
};

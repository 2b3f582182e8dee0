import { type ActorState, begin } from "../actors/state.ts";
import { upcast } from "../actors/upcast.ts";
import { MeshError } from "../errors.ts";
import type { MachineDefinition } from "../machines/definition.ts";
import { definitionOf as currentDefinitionOf, partsOf } from "./definitions.ts";
import { stepOrNone } from "./fold.ts";
import { DIFFERENCE_LENGTH_MAX, DIFFERENCES_TOLD_MAX } from "./limits.ts";
import { follow, NOTHING_YET, type Outcome, outcomeOf, type RecordedEvent, type Recording } from "./recording.ts";

// What if other machines had met the same events? The first event of which they make something else is a divergence.

export interface Difference {
  /** Where: `value`, `context.outbox.0.id`, `effects.1`. */
  readonly path: string;
  /** Undefined where there is nothing. */
  readonly recorded: unknown;
  readonly now: unknown;
}

export interface Divergence {
  readonly stream: string;
  /** The number of the event in the history, from 1, its type and the number of its commit. */
  readonly event: number;
  readonly type: string;
  readonly commit: number;
  /** Epoch milliseconds. */
  readonly at: number;
  /** Why the machine has nothing to show for the event; null when it has. */
  readonly refusal: "refused" | "thrown" | null;
  readonly differences: readonly Difference[];
}

const isObject = (value: unknown): value is object => typeof value === "object" && value !== null;

/** Where two values that came from JSON differ, down to what is no object or list in both. */
export function differencesOf(recorded: unknown, now: unknown, path = ""): Difference[] {
  if (!isObject(recorded) || !isObject(now) || Array.isArray(recorded) !== Array.isArray(now))
    return Object.is(recorded, now) ? [] : [{ path, recorded, now }];
  const [before, after] = [new Map(Object.entries(recorded)), new Map(Object.entries(now))];
  return [...new Set([...before.keys(), ...after.keys()])].flatMap((field) =>
    differencesOf(before.get(field), after.get(field), path === "" ? field : `${path}.${field}`),
  );
}

interface Track {
  readonly recorded: Outcome;
  readonly state: ActorState;
}

/**
 * Replays a history through other machines, or those of this program, and gives the first event of which they make something
 * else in state, deadlines, effects, or in what they would ask for after a restart.
 * @throws MeshError `store_newer` when it holds events that they do not know
 */
export function firstDivergence(
  { events }: Recording,
  definitionOf: (stream: string) => MachineDefinition | undefined = currentDefinitionOf,
): Divergence | undefined {
  const tracks = new Map<string, Track>();
  for (const [index, recorded] of events.entries()) {
    const { stream, commit, at } = recorded;
    const definition = definitionOf(stream);
    const [entry] = upcast(commitOf(recorded), definitionOf).entries;
    if (!definition || !entry) continue;
    const { recorded: last, state } = tracks.get(stream) ?? {
      recorded: NOTHING_YET,
      state: begin(definition, partsOf(stream).id),
    };
    const made = stepOrNone(definition, state, entry.event, at);
    const expected = follow(last, recorded);
    const now = outcomeOf(definition, made?.state ?? state, made?.effects ?? [], at);
    const differences = differencesOf(expected, { ...now, context: pick(now.context, expected.context) });
    const refusal = !made ? "thrown" : made.accepted ? null : "refused";
    if (refusal || differences.length > 0)
      return { stream, event: index + 1, type: entry.event.type, commit, at, refusal, differences };
    tracks.set(stream, { recorded: expected, state: made?.state ?? state });
  }
  return undefined;
}

/** The fields that the other one has too. */
const pick = (context: Outcome["context"], known: Outcome["context"]) =>
  Object.fromEntries(Object.entries(context).filter(([field]) => field in known));

/** A recorded event as a commit of its own. */
export const commitOf = ({ commit, at, stream, event, version }: RecordedEvent) => ({
  number: commit,
  at,
  entries: [{ stream, event, ...(version === undefined ? {} : { version }) }],
  place: { segment: "", offset: 0, length: 0 },
});

function valueText(value: unknown): string {
  const text = value === undefined ? "nothing" : JSON.stringify(value);
  return text.length <= DIFFERENCE_LENGTH_MAX ? text : `${text.slice(0, DIFFERENCE_LENGTH_MAX - 1)}…`;
}

/** A divergence for people, one difference a line. It shows values: for histories that hold nobody's words. */
export function formatDivergence({ stream, event, type, commit, at, refusal, differences }: Divergence): string {
  const told = differences
    .slice(0, DIFFERENCES_TOLD_MAX)
    .map(({ path, recorded, now }) => `  ${path}: recorded ${valueText(recorded)}, now ${valueText(now)}`);
  const rest = differences.length - told.length;
  const machine = refusal === "thrown" ? ["  the machine throws"] : refusal ? ["  the machine has no use for it"] : [];
  return [
    `Event ${event}, ${type} of ${stream} (commit ${commit}, ${new Date(at).toISOString()}):`,
    ...machine,
    ...told,
    ...(rest > 0 ? [`  and ${rest} more`] : []),
  ].join("\n");
}

/** @throws MeshError `history_diverged` naming the history, the event and what differs; `store_newer` */
export function assertFaithful(
  name: string,
  recording: Recording,
  definitionOf?: (stream: string) => MachineDefinition | undefined,
): void {
  const divergence = firstDivergence(recording, definitionOf);
  if (divergence) throw new MeshError("history_diverged", `${name}: ${formatDivergence(divergence)}\n`);
}

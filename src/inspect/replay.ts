import { isDeepStrictEqual } from "node:util";
import { getNextTransitions } from "xstate";
import { NODE_DEFINITIONS } from "../actors/opening.ts";
import { MessagesProjection } from "../actors/projections/messages.ts";
import { type ActorState, begin, type PersistedState, persist, step } from "../actors/state.ts";
import { ActorSystem } from "../actors/system.ts";
import type { MachineDefinition } from "../machines/definition.ts";
import { realDisk } from "../store/disk.ts";
import { readSnapshots, type SnapshotFile } from "../store/snapshots.ts";
import { CLUSTER_DEFINITIONS, definitionOf, partsOf } from "./definitions.ts";
import { differencesOf } from "./divergence.ts";
import { foldJournal } from "./fold.ts";
import { unknownStream } from "./history.ts";
import { redactContext } from "./redact.ts";

// Replay: any prefix of any stream folded anew, performing nothing; and the proof that it gives what the live system had.

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

/**
 * A stream as it stood after commit `at`, or as it stands now.
 * @throws MeshError `input_invalid` when there is no such stream; `store_damaged`, `store_newer`
 */
export async function replayStream(home: string, stream: string, at = Number.POSITIVE_INFINITY): Promise<Replay> {
  const definition = definitionOf(stream);
  if (!definition) throw await unknownStream(home, stream);
  let state = begin(definition, partsOf(stream).id);
  let last = { number: 0, at: 0 };
  let events = 0;
  let exists = false;
  for await (const { commit, step: made } of foldJournal(home, stream)) {
    exists = true;
    if (commit.number > at) break;
    events++;
    last = commit;
    if (made) state = made.state;
  }
  if (!exists) throw await unknownStream(home, stream);
  return {
    stream,
    events,
    number: last.number,
    at: events === 0 ? null : iso(last.at),
    value: state.snapshot.value,
    context: redactContext(definition.kind, state.snapshot.context),
    timers: Object.entries(state.timers).map(([id, timer]) => ({ id, at: iso(timer.at) })),
    accepts: acceptedBy(state),
    effects: pendingOf(definition, state, last.at),
  };
}

export interface Difference {
  /** A stream, or `projection/<name>`. */
  readonly stream: string;
  /** One sentence without any of the content. */
  readonly what: string;
}

export interface ReplayCheck {
  readonly streams: number;
  readonly events: number;
  /** The commit at which snapshots were compared; null when there are none that this program can read. */
  readonly compared_at: number | null;
  readonly differences: readonly Difference[];
}

interface SnapshotState {
  readonly actors: Readonly<Record<string, unknown>>;
  readonly projections: Readonly<Record<string, unknown>>;
}
const isSnapshotState = (state: unknown): state is SnapshotState =>
  typeof state === "object" && state !== null && "actors" in state && "projections" in state;

const asStored = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

/** Fields of a state by name, such as `context.sent`; what is in them stays behind. */
const fieldsThatDiffer = (stored: unknown, folded: unknown): string =>
  [...new Set(differencesOf(stored, folded).map(({ path }) => /^(?:context\.)?\w*/.exec(path)?.[0]))].join(", ");

/** The text that the snapshots of a node with these machines carry. */
const versionsOf = (definitions: readonly MachineDefinition[]): string =>
  new ActorSystem({
    definitions,
    projections: [new MessagesProjection()],
    clock: { now: () => 0, at: () => () => undefined },
    onFault: () => undefined,
  }).versions;

/** The snapshots of a home, whether it is a laptop's or a controller's. */
async function snapshotsOf(home: string): Promise<SnapshotFile | undefined> {
  for (const more of [[], CLUSTER_DEFINITIONS]) {
    const file = await readSnapshots(realDisk, home, versionsOf([...NODE_DEFINITIONS, ...more]));
    if (file) return file;
  }
  return undefined;
}

function differencesAt(states: ReadonlyMap<string, ActorState>, messages: MessagesProjection, file: SnapshotFile) {
  if (!isSnapshotState(file.state)) return [{ stream: "snapshots", what: "The snapshot file has another form." }];
  const { actors, projections } = file.state;
  const differences: Difference[] = [];
  for (const stream of new Set([...states.keys(), ...Object.keys(actors)])) {
    const state = states.get(stream);
    const stored = actors[stream];
    if (!state) differences.push({ stream, what: "The snapshots know it and the journal does not." });
    else if (stored === undefined) differences.push({ stream, what: "The journal knows it and the snapshots do not." });
    else {
      const fields = fieldsThatDiffer(stored, asStored(persist(state)));
      if (fields.length > 0)
        differences.push({ stream, what: `The journal folds to another state than the snapshots have: ${fields}.` });
    }
  }
  if (!isDeepStrictEqual(asStored(messages.capture()), projections[messages.name]))
    differences.push({ stream: `projection/${messages.name}`, what: "The journal gives another index." });
  return differences;
}

/**
 * Folds everything anew and compares it with the snapshot file, if there is one of this program's versions.
 * @throws MeshError `store_damaged`, `store_newer`
 */
export async function checkReplay(home: string): Promise<ReplayCheck> {
  const file = await snapshotsOf(home);
  const states = new Map<string, ActorState>();
  const messages = new MessagesProjection();
  const differences: Difference[] = [];
  let compared = false;
  let head = 0;
  let events = 0;
  const compare = (upTo: number) => {
    if (!file || compared || upTo < file.position) return;
    compared = true;
    differences.push(...differencesAt(states, messages, file));
  };
  for await (const { commit, stream, step: made } of foldJournal(home)) {
    if (commit.number !== head) {
      compare(head);
      head = commit.number;
      messages.apply(commit);
    }
    events++;
    if (made) states.set(stream, made.state);
    if (!made) differences.push({ stream, what: `The machine throws at commit ${commit.number}.` });
    else if (!made.accepted)
      differences.push({ stream, what: `The machine has no use for the event of commit ${commit.number}.` });
  }
  compare(head);
  if (file && !compared)
    differences.push({
      stream: "snapshots",
      what: `They are of commit ${file.position}; the journal ends at ${head}.`,
    });
  return { streams: states.size, events, compared_at: file && compared ? file.position : null, differences };
}

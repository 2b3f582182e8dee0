import { isDeepStrictEqual } from "node:util";
import { NODE_DEFINITIONS } from "../actors/opening.ts";
import { MessagesProjection } from "../actors/projections/messages.ts";
import { type ActorState, persist } from "../actors/state.ts";
import { ActorSystem } from "../actors/system.ts";
import type { MachineDefinition } from "../machines/definition.ts";
import { realDisk } from "../store/disk.ts";
import { readSnapshots, type SnapshotFile } from "../store/snapshots.ts";
import { CLUSTER_DEFINITIONS } from "./definitions.ts";
import { differencesOf } from "./divergence.ts";
import { foldJournal } from "./fold.ts";

// The proof that a replay gives what the live system had.

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

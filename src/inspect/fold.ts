import type { AnyMachineSnapshot } from "xstate";
import { type ActorState, begin, type Step, step } from "../actors/state.ts";
import { upcast } from "../actors/upcast.ts";
import type { MachineDefinition } from "../machines/definition.ts";
import { joinPath, realDisk } from "../store/disk.ts";
import { tellingDisk } from "../store/disk-errors.ts";
import type { Commit, StoredEvent } from "../store/journal.ts";
import { readJournal } from "../store/journal-reader.ts";
import { definitionOf, partsOf } from "./definitions.ts";

// The journal of a home, read without owning it and folded with the machines. Nothing is performed and no key is needed.

/** One event of the journal, in the form of today, and what its machine made of it. */
export interface Folded {
  readonly commit: Commit;
  readonly stream: string;
  readonly event: StoredEvent;
  readonly before: ActorState;
  /** Undefined when the machine threw: then nothing was changed. */
  readonly step: Step | undefined;
}

/** The commits of a home, in order; those that touch one stream if one is named. @throws MeshError `store_damaged` */
export const commitsOf = (home: string, stream?: string): AsyncGenerator<Commit> =>
  readJournal(tellingDisk(realDisk), joinPath(home, "journal"), stream);

/** What an event makes of a state; undefined when the machine throws, so that a reader goes on where a node could not. */
export function stepOrNone(
  definition: MachineDefinition,
  before: ActorState,
  event: StoredEvent,
  at: number,
): Step | undefined {
  try {
    return step(definition, before, event, at);
  } catch {
    // Told by the missing step.
    return undefined;
  }
}

/** Every event of these commits, or of one stream of them, with the step that it is. @throws MeshError `store_newer` */
export async function* fold(commits: AsyncIterable<Commit>, only?: string): AsyncGenerator<Folded> {
  const states = new Map<string, ActorState>();
  for await (const stored of commits) {
    const commit = upcast(stored, definitionOf);
    for (const { stream, event } of commit.entries) {
      const definition = definitionOf(stream);
      if (!definition || (only !== undefined && stream !== only)) continue;
      const before = states.get(stream) ?? begin(definition, partsOf(stream).id);
      const made = stepOrNone(definition, before, event, commit.at);
      states.set(stream, made?.state ?? before);
      yield { commit, stream, event, before, step: made };
    }
  }
}

/** Every event of a home, or of one stream, with the step that it is. @throws MeshError `store_damaged`, `store_newer` */
export const foldJournal = (home: string, only?: string): AsyncGenerator<Folded> => fold(commitsOf(home, only), only);

/** A state's value as short text: `open.established`; regions that stand side by side are separated by a space. */
export function stateText(value: AnyMachineSnapshot["value"]): string {
  if (typeof value === "string") return value;
  return Object.entries(value)
    .map(([parent, child]) => (child === undefined ? parent : `${parent}.${stateText(child)}`))
    .join(" ");
}

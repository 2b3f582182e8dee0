import type { AnyMachineSnapshot } from "xstate";
import { type ActorState, begin, type Step, step } from "../actors/state.ts";
import { joinPath, realDisk } from "../store/disk.ts";
import { tellingDisk } from "../store/disk-errors.ts";
import { type Commit, readJournal, type StoredEvent } from "../store/journal.ts";
import { definitionOf, partsOf } from "./definitions.ts";

// The journal of a home, read without owning it and folded with the machines. Nothing is performed and no key is needed.

/** One event of the journal and what its machine made of it. */
export interface Folded {
  readonly commit: Commit;
  readonly stream: string;
  readonly event: StoredEvent;
  /** Undefined when this program has no machine of that kind. */
  readonly before: ActorState | undefined;
  /** Undefined when there is no machine, or it threw: then nothing was changed. */
  readonly step: Step | undefined;
}

/** The commits of a home, in order; those that touch one stream if one is named. @throws MeshError `store_damaged` */
export const commitsOf = (home: string, stream?: string): AsyncGenerator<Commit> =>
  readJournal(tellingDisk(realDisk), joinPath(home, "journal"), stream);

/** Every event of a home, or of one stream, with the step that it is. @throws MeshError `store_damaged` */
export async function* foldJournal(home: string, only?: string): AsyncGenerator<Folded> {
  const states = new Map<string, ActorState>();
  for await (const commit of commitsOf(home, only)) {
    for (const { stream, event } of commit.entries) {
      if (only !== undefined && stream !== only) continue;
      const definition = definitionOf(stream);
      if (!definition) {
        yield { commit, stream, event, before: undefined, step: undefined };
        continue;
      }
      const before = states.get(stream) ?? begin(definition, partsOf(stream).id);
      let made: Step | undefined;
      try {
        made = step(definition, before, event, commit.at);
      } catch {
        // Told by the missing step: a reader of history goes on where a node could not.
        made = undefined;
      }
      states.set(stream, made?.state ?? before);
      yield { commit, stream, event, before, step: made };
    }
  }
}

/** A state's value as short text: `open.established`; regions that stand side by side are separated by a space. */
export function stateText(value: AnyMachineSnapshot["value"]): string {
  if (typeof value === "string") return value;
  return Object.entries(value)
    .map(([parent, child]) => (child === undefined ? parent : `${parent}.${stateText(child)}`))
    .join(" ");
}

import { MeshError } from "../errors.ts";
import type { MachineDefinition } from "../machines/definition.ts";
import type { Commit, Entry, StoredEvent } from "../store/journal.ts";
import { TIMER_EVENT } from "./state.ts";

// The journal is for ever and the forms of events are not. What is read from disk is brought to the forms of today before any
// machine or projection meets it; what a newer program wrote is refused, since passing over it would be a wrong state.

/** The version in which events of this machine are written. */
export const eventVersionOf = ({ upcasts }: MachineDefinition): number => 1 + (upcasts?.length ?? 0);

/** An event as it is written. */
export function entryOf(definition: MachineDefinition, stream: string, event: StoredEvent): Entry {
  const version = eventVersionOf(definition);
  return version === 1 ? { stream, event } : { stream, event, version };
}

const known = new WeakMap<MachineDefinition, ReadonlySet<string>>();

/** The types that mean something to a machine. */
function typesOf(definition: MachineDefinition): ReadonlySet<string> {
  const types = known.get(definition) ?? new Set([...definition.machine.events, TIMER_EVENT]);
  known.set(definition, types);
  return types;
}

function current(commit: Commit, entry: Entry, definition: MachineDefinition | undefined): Entry {
  const { stream, version = 1 } = entry;
  const refusal = (what: string) => new MeshError("store_newer", `Commit ${commit.number}, ${stream}: ${what}.`);
  if (!definition) throw refusal("a stream of no known kind");
  const written = eventVersionOf(definition);
  if (version > written) throw refusal(`an event of version ${version}, where ${written} is the newest known`);
  const upcasts = definition.upcasts?.slice(version - 1) ?? [];
  const event = upcasts.reduce((older, toNext) => toNext(older), entry.event);
  if (!typesOf(definition).has(event.type)) throw refusal("an event of no known type");
  return event === entry.event && entry.version === undefined ? entry : { stream, event };
}

/**
 * A commit from disk with its events in the forms of today; the same commit when nothing had to be changed.
 * @throws MeshError `store_newer` when it holds a stream or an event that this program does not know
 */
export function upcast(commit: Commit, definitionOf: (stream: string) => MachineDefinition | undefined): Commit {
  const entries = commit.entries.map((entry) => current(commit, entry, definitionOf(entry.stream)));
  return entries.every((entry, index) => entry === commit.entries[index]) ? commit : { ...commit, entries };
}

import { type PersistedState, TIMER_EVENT } from "../actors/state.ts";
import type { MachineDefinition } from "../machines/definition.ts";
import { redactContext, redactEvent, redactStream, type ShownEvent } from "./redact.ts";

// The messages of the Stately inspector, as @statelyai/inspect 0.7.2 puts them on the wire, made from what a live system tells
// or a history holds. Every actor is its own root and has no parent; its stream's name is its session id.

const VERSION = "0.7.2";

interface StatelyBase {
  readonly _version: string;
  /** Epoch milliseconds, as text. */
  readonly createdAt: string;
  readonly id: null;
  readonly sessionId: string;
  readonly rootId: string;
}

/** What is shown of a state. `output`, `error` and `input` never are. */
export interface StatelySnapshot {
  readonly status: PersistedState["status"];
  readonly value: PersistedState["value"];
  readonly context: Record<string, unknown>;
}

export interface StatelyActor extends StatelyBase {
  readonly type: "@xstate.actor";
  readonly name: string;
  /** Left out by JSON: no actor has a parent. */
  readonly parentId: undefined;
  /** JSON of the machine, without its context. */
  readonly definition: string;
  readonly snapshot: StatelySnapshot;
}
export interface StatelyEvent extends StatelyBase {
  readonly type: "@xstate.event";
  /** Left out by JSON: events come from effects, not from actors. */
  readonly sourceId: undefined;
  readonly event: ShownEvent;
}
export interface StatelySnapshotMessage extends StatelyBase {
  readonly type: "@xstate.snapshot";
  readonly event: ShownEvent;
  readonly snapshot: StatelySnapshot;
}
export type StatelyMessage = StatelyActor | StatelyEvent | StatelySnapshotMessage;

const baseOf = (stream: string, at: number): StatelyBase => {
  const sessionId = redactStream(stream);
  return { _version: VERSION, createdAt: String(at), id: null, sessionId, rootId: sessionId };
};

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null;

/** What of a machine's configuration is its drawing. Contexts, inputs and parameters are not. */
const STATE_FIELDS = ["id", "type", "initial", "history", "target", "tags", "description"];
const TRANSITION_FIELDS = ["target", "reenter", "description"];

const pick = (config: Readonly<Record<string, unknown>>, fields: readonly string[]) =>
  Object.fromEntries(fields.filter((field) => config[field] !== undefined).map((field) => [field, config[field]]));

const eachOf = (value: unknown, draw: (one: unknown) => unknown): unknown =>
  Array.isArray(value) ? value.map(draw) : draw(value);

/** An action or a guard by its name. */
function named(part: unknown): unknown {
  if (typeof part === "string") return part;
  if (typeof part === "function") return { type: part.name };
  return isObject(part) ? { type: part.type } : undefined;
}

function transitionOf(config: unknown): unknown {
  if (!isObject(config)) return config;
  return {
    ...pick(config, TRANSITION_FIELDS),
    ...("guard" in config ? { guard: named(config.guard) } : {}),
    ...("actions" in config ? { actions: eachOf(config.actions, named) } : {}),
  };
}

const mapped = (table: unknown, draw: (one: unknown) => unknown) =>
  isObject(table) ? Object.fromEntries(Object.entries(table).map(([name, one]) => [name, draw(one)])) : undefined;

function stateOf(config: unknown): unknown {
  if (!isObject(config)) return {};
  const { entry, exit, on, after, always, states } = config;
  const transitions = (one: unknown) => eachOf(one, transitionOf);
  return {
    ...pick(config, STATE_FIELDS),
    ...(entry === undefined ? {} : { entry: eachOf(entry, named) }),
    ...(exit === undefined ? {} : { exit: eachOf(exit, named) }),
    ...(on === undefined ? {} : { on: mapped(on, transitions) }),
    ...(after === undefined ? {} : { after: mapped(after, transitions) }),
    ...(always === undefined ? {} : { always: transitions(always) }),
    ...(states === undefined ? {} : { states: mapped(states, stateOf) }),
  };
}

const drawn = new Map<MachineDefinition, string>();

/** The JSON of a machine as viewers draw it: states, transitions, names of actions and guards. */
export function definitionJson(definition: MachineDefinition): string {
  const known = drawn.get(definition);
  if (known !== undefined) return known;
  const json = JSON.stringify(stateOf(definition.machine.config));
  drawn.set(definition, json);
  return json;
}

const snapshotOf = (kind: string, { status, value, context }: Omit<PersistedState, "timers">): StatelySnapshot => ({
  status,
  value,
  context: redactContext(kind, context),
});

/** The event as the machine met it: a deadline under the name that XState gives to it. */
function eventOf(kind: string, event: { readonly type: string; readonly id?: unknown }): ShownEvent {
  const type = event.type === TIMER_EVENT ? String(event.id) : event.type;
  return redactEvent(kind, event.type === TIMER_EVENT ? { type } : event);
}

/** An actor that is there, in its present state. @param at epoch milliseconds */
export function actorMessage(
  stream: string,
  definition: MachineDefinition,
  state: Omit<PersistedState, "timers">,
  at: number,
): StatelyActor {
  const base = baseOf(stream, at);
  return {
    type: "@xstate.actor",
    name: base.sessionId,
    parentId: undefined,
    definition: definitionJson(definition),
    snapshot: snapshotOf(definition.kind, state),
    ...base,
  };
}

/** An event that an actor was told. */
export const eventMessage = (
  stream: string,
  definition: MachineDefinition,
  event: { readonly type: string },
  at: number,
): StatelyEvent => ({
  type: "@xstate.event",
  sourceId: undefined,
  event: eventOf(definition.kind, event),
  ...baseOf(stream, at),
});

/** The state that an event made. */
export const snapshotMessage = (
  stream: string,
  definition: MachineDefinition,
  state: Omit<PersistedState, "timers">,
  event: { readonly type: string },
  at: number,
): StatelySnapshotMessage => ({
  type: "@xstate.snapshot",
  event: eventOf(definition.kind, event),
  snapshot: snapshotOf(definition.kind, state),
  ...baseOf(stream, at),
});

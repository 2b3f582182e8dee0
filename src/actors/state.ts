import {
  type AnyActorScope,
  type AnyMachineSnapshot,
  type AnyStateMachine,
  createActor,
  initialTransition,
} from "xstate";
import type { MachineDefinition } from "../machines/definition.ts";
import type { StoredEvent } from "../store/journal.ts";

// One actor's state and how an event moves it: pure, so that the live system, a restart and a replay are one function.

/** The event by which a deadline is told to its actor. It names the timer; what the timer says is in the state. */
export const TIMER_EVENT = "@timer";

export interface Effect {
  readonly type: string;
  readonly params: unknown;
}

export interface ActorState {
  readonly snapshot: AnyMachineSnapshot;
  /** Deadlines by name: when, and the event that is due then. */
  readonly timers: Readonly<Record<string, { readonly at: number; readonly event: { readonly type: string } }>>;
}

export interface Step {
  readonly state: ActorState;
  readonly effects: readonly Effect[];
  /** False when the machine has no use for the event where it stands. */
  readonly accepted: boolean;
}

interface RaiseParams {
  readonly id: string;
  readonly delay: number;
  readonly event: { readonly type: string };
}
const isDelayedRaise = (params: unknown): params is RaiseParams =>
  typeof params === "object" &&
  params !== null &&
  "delay" in params &&
  typeof params.delay === "number" &&
  "id" in params;
const isCancel = (params: unknown): params is { readonly sendId: string } =>
  typeof params === "object" && params !== null && "sendId" in params;

type Actions = readonly { readonly type: string; readonly params: unknown }[];

function fold(
  before: ActorState["timers"],
  actions: Actions,
  at: number,
): { timers: ActorState["timers"]; effects: Effect[] } {
  let timers = before;
  const effects: Effect[] = [];
  for (const { type, params } of actions) {
    if (type === "xstate.raise") {
      if (isDelayedRaise(params)) timers = { ...timers, [params.id]: { at: at + params.delay, event: params.event } };
    } else if (type === "xstate.cancel") {
      if (isCancel(params) && params.sendId in timers) {
        const { [params.sendId]: _, ...rest } = timers;
        timers = rest;
      }
    } else {
      effects.push({ type, params });
    }
  }
  return { timers, effects };
}

const ignore = () => undefined;
const scopes = new WeakMap<AnyStateMachine, AnyActorScope>();

/** The surroundings that XState wants for a machine, of which nothing ever runs. Made once: they cost more than a step. */
function scopeOf(machine: AnyStateMachine): AnyActorScope {
  const known = scopes.get(machine);
  if (known) return known;
  const self = createActor(machine, { input: { id: "" } });
  const scope: AnyActorScope = {
    self,
    system: self.system,
    id: "",
    sessionId: "",
    defer: ignore,
    emit: ignore,
    logger: ignore,
    stopChild: ignore,
    actionExecutor: ignore,
  };
  scopes.set(machine, scope);
  return scope;
}

/** XState's `transition`: the next snapshot, and the actions that it asks for. Nothing is run. */
export function transition(
  machine: AnyStateMachine,
  before: AnyMachineSnapshot,
  event: { readonly type: string; readonly at: number },
): [snapshot: AnyMachineSnapshot, actions: Actions] {
  const actions: { readonly type: string; readonly params: unknown }[] = [];
  const scope: AnyActorScope = { ...scopeOf(machine), actionExecutor: (action) => actions.push(action) };
  return [machine.transition(before, event, scope), actions];
}

/** An actor before its first event. */
export function begin(definition: MachineDefinition, id: string): ActorState {
  const [snapshot] = initialTransition(definition.machine, { id });
  return { snapshot, timers: {} };
}

/** What one event makes of a state. @throws what the machine throws: nothing is changed then */
export function step(definition: MachineDefinition, before: ActorState, event: StoredEvent, at: number): Step {
  const refused: Step = { state: before, effects: [], accepted: false };
  if (before.snapshot.status !== "active") return refused;
  let told: { readonly type: string } = event;
  let timers = before.timers;
  if (event.type === TIMER_EVENT) {
    const { [String(event.id)]: due, ...rest } = timers;
    if (!due) return refused;
    told = due.event;
    timers = rest;
  }
  const [snapshot, actions] = transition(definition.machine, before.snapshot, { ...told, at });
  if (snapshot === before.snapshot && actions.length === 0) {
    return event.type === TIMER_EVENT ? { state: { snapshot, timers }, effects: [], accepted: true } : refused;
  }
  const folded = fold(timers, actions, at);
  return { state: { snapshot, timers: folded.timers }, effects: folded.effects, accepted: true };
}

/** A state as JSON, and back. */
export interface PersistedState {
  readonly value: AnyMachineSnapshot["value"];
  readonly context: unknown;
  readonly status: AnyMachineSnapshot["status"];
  readonly timers: ActorState["timers"];
}

export const persist = ({ snapshot, timers }: ActorState): PersistedState => ({
  value: snapshot.value,
  context: snapshot.context,
  status: snapshot.status,
  timers,
});

export const restore = (
  definition: MachineDefinition,
  { value, context, status, timers }: PersistedState,
): ActorState => ({
  snapshot: definition.machine.resolveState({ value, context, status }),
  timers,
});

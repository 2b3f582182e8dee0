/**
 * How a machine is specified: given(what happened).when(this happens).then(what follows). And the laws that every machine
 * keeps, on random walks.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { transition as ofXState } from "xstate";
import { z } from "zod";
import {
  type ActorState,
  begin,
  type Effect,
  persist,
  restore,
  step,
  TIMER_EVENT,
  transition,
} from "../src/actors/state.ts";
import type { MachineDefinition } from "../src/machines/definition.ts";

export interface Event {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** The time of everything that was given, and of `when` unless it names another. */
export const T0 = Date.parse("2026-03-01T12:00:00.000Z");

/** Who appears in specifications. */
export const ALICE = `did:mesh:${"a".repeat(32)}`;
export const BOB = `did:mesh:${"b".repeat(32)}`;
export const MALLORY = `did:mesh:${"e".repeat(32)}`;
/** A body at rest; the machines never look inside. */
export const words = (text: string) => ({ sealed: text });

export interface Expected {
  /** The state value as XState writes it. */
  readonly state: unknown;
  /** All effects, in order. Without it, effects are not looked at. */
  readonly effects?: readonly (readonly [type: string, params: unknown])[];
  /** A part of the context. */
  readonly context?: object;
  /** All deadlines: a part of the name, and in how many milliseconds it is due. */
  readonly timers?: Readonly<Record<string, number>>;
}

interface Now {
  readonly state: ActorState;
  readonly effects: readonly Effect[];
  readonly accepted: boolean;
  readonly at: number;
}

export class Specification implements Now {
  readonly #definition: MachineDefinition;
  readonly state: ActorState;
  readonly effects: readonly Effect[];
  readonly accepted: boolean;
  readonly at: number;

  constructor(definition: MachineDefinition, now: Now) {
    this.#definition = definition;
    this.state = now.state;
    this.effects = now.effects;
    this.accepted = now.accepted;
    this.at = now.at;
  }

  /** An event happens. It is one of the machine's own: anything else is an error of the specification. */
  when(event: Event, at = this.at): Specification {
    const parsed = this.#definition.events.parse(event);
    return new Specification(this.#definition, { ...step(this.#definition, this.state, parsed, at), at });
  }

  /** The deadline whose name holds this is due, and rings. */
  whenTimer(part: string): Specification {
    const [found, ...more] = Object.entries(this.state.timers).filter(([name]) => name.includes(part));
    if (!found || more.length > 0) {
      throw new Error(
        `${more.length > 0 ? "several" : "no"} "${part}" of ${Object.keys(this.state.timers).join(", ")}`,
      );
    }
    const [id, { at }] = found;
    return new Specification(this.#definition, {
      ...step(this.#definition, this.state, { type: TIMER_EVENT, id }, at),
      at,
    });
  }

  /** The process starts again, or the link comes up. */
  whenResumed(at = this.at): Specification {
    return this.when({ type: "RESUMED" }, at);
  }

  // biome-ignore lint/suspicious/noThenProperty: given, when, then are the words of a specification; nobody awaits one
  then(expected: Expected): this {
    expect(this.accepted, "the event was refused").toBe(true);
    expect(this.state.snapshot.value).toEqual(expected.state);
    if (expected.effects) expect(this.effects.map(({ type, params }) => [type, params])).toEqual(expected.effects);
    if (expected.context) expect(this.state.snapshot.context).toMatchObject(expected.context);
    if (expected.timers) expect(this.deadlines()).toEqual(expected.timers);
    return this;
  }

  /** The machine has no use for it where it stands: nothing changes, nothing is asked for. */
  thenRefused(): this {
    expect(this.accepted, "the event was accepted").toBe(false);
    expect(this.effects).toEqual([]);
    return this;
  }

  /** Deadlines by the last word that their delay has in the machine, with the milliseconds left. */
  deadlines(): Record<string, number> {
    return Object.fromEntries(
      Object.entries(this.state.timers).map(([name, { at }]) => [name.split(".")[2] ?? name, at - this.at]),
    );
  }
}

/** A machine to which this happened, each thing one after the other. Every given event must have been accepted. */
export function given(definition: MachineDefinition, ...history: readonly (string | Event)[]): Specification {
  const [id, events] = typeof history[0] === "string" ? [history[0], history.slice(1)] : ["the-one", history];
  let now = new Specification(definition, {
    state: begin(definition, id),
    effects: [],
    accepted: true,
    at: T0,
  });
  for (const event of events) {
    if (typeof event === "string") throw new Error("the id comes first");
    now = now.when(event);
    if (!now.accepted)
      throw new Error(`${event.type} was given, but is refused at ${JSON.stringify(now.state.snapshot.value)}`);
  }
  return now;
}

// Random events of a machine, made from its own schema

interface JsonSchema {
  readonly type?: string | readonly string[];
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly items?: JsonSchema;
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly exclusiveMinimum?: number;
}

function strings({ pattern, minLength, maxLength }: JsonSchema): fc.Arbitrary<unknown> {
  // Few names, so that events meet what earlier ones did.
  if (pattern?.startsWith("^did:mesh:")) return fc.constantFrom(ALICE, BOB, MALLORY);
  if (pattern?.endsWith("{42}[AEIMQUYcgkosw048]=$")) return fc.constant(`${"A".repeat(43)}=`);
  if (minLength !== undefined && minLength === maxLength) return fc.constant("A".repeat(minLength));
  if (pattern !== undefined) return fc.constantFrom("a", "b", "c", "d");
  return fc.string({ maxLength: 6 });
}

function arbitraryOf(schema: JsonSchema): fc.Arbitrary<unknown> {
  if ("const" in schema) return fc.constant(schema.const);
  if (schema.enum) return fc.constantFrom(...schema.enum);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return fc.oneof(...choices.map(arbitraryOf));
  const { type } = schema;
  if (typeof type === "object") return fc.oneof(...type.map((each) => arbitraryOf({ ...schema, type: each })));
  switch (type) {
    case "object":
      return fc.record(
        Object.fromEntries(Object.entries(schema.properties ?? {}).map(([name, each]) => [name, arbitraryOf(each)])),
        { requiredKeys: [...(schema.required ?? [])] },
      );
    case "array":
      return fc.array(arbitraryOf(schema.items ?? {}), { maxLength: 3 });
    case "string":
      return strings(schema);
    case "boolean":
      return fc.boolean();
    case "null":
      return fc.constant(null);
    case "integer":
    case "number": {
      const least = schema.minimum ?? (schema.exclusiveMinimum === undefined ? 0 : schema.exclusiveMinimum + 1);
      const min = Math.max(0, least);
      return fc.integer({ min, max: min + 4 });
    }
    default:
      throw new Error(`no random value for ${JSON.stringify(schema)}`);
  }
}

/** Valid events of a machine. */
export function eventsOf({ events }: MachineDefinition): fc.Arbitrary<Event> {
  const schema = z.toJSONSchema(events) as JsonSchema;
  return arbitraryOf(schema)
    .map((value) => events.safeParse(value).data)
    .filter((event): event is Event => event !== undefined);
}

interface Stride {
  readonly event: Event;
  readonly after: number;
  /** Instead of the event, the deadline of this number rings, if there is one. */
  readonly ring: number | null;
}

function takeStride(definition: MachineDefinition, state: ActorState, { event, ring }: Stride, now: number) {
  const timers = Object.entries(state.timers);
  const due = ring === null || timers.length === 0 ? undefined : timers[ring % timers.length];
  const at = due ? Math.max(now, due[1].at) : now;
  return { ...step(definition, state, due ? { type: TIMER_EVENT, id: due[0] } : event, at), at };
}

export interface Laws {
  /** A usual life: walks set out from any point of it, so that they reach every state. */
  readonly life: readonly Event[];
  /** State values in which nothing is waited for: no deadline may be left there. */
  readonly restful: readonly unknown[];
}

/** What every machine keeps, wherever its events lead. */
export function keepsTheLaws(definition: MachineDefinition, { life, restful }: Laws): void {
  const walks = fc.record({
    lived: fc.nat({ max: life.length }),
    strides: fc.array(
      fc.record({
        event: eventsOf(definition),
        after: fc.nat({ max: 100_000 }),
        ring: fc.option(fc.nat({ max: 3 }), { freq: 3 }),
      }),
      { maxLength: 25 },
    ),
  });

  /** Calls back at every state of a walk. */
  const everywhere = (look: (state: ActorState, now: number, next: Stride | undefined) => void) =>
    fc.assert(
      fc.property(walks, ({ lived, strides }) => {
        let { state } = given(definition, ...life.slice(0, lived));
        let now = T0;
        for (const [index, stride] of strides.entries()) {
          look(state, now, stride);
          const taken = takeStride(definition, state, stride, now + stride.after);
          if (!taken.accepted) {
            expect(taken.state).toBe(state);
            expect(taken.effects).toEqual([]);
          }
          ({ state, at: now } = taken);
          if (index === strides.length - 1) look(state, now, undefined);
        }
      }),
      { numRuns: 150 },
    );

  describe("wherever events lead", () => {
    it("RESUMED changes no state, and asks for the same again each time", () => {
      everywhere((state, now) => {
        const resumed = step(definition, state, { type: "RESUMED" }, now);
        expect(resumed.state.snapshot).toBe(state.snapshot);
        expect(resumed.state.timers).toEqual(state.timers);
        const again = step(definition, resumed.state, { type: "RESUMED" }, now + 1);
        expect(again.effects).toEqual(resumed.effects);
      });
    });

    it("a step is XState's own transition", () => {
      const plain = ([snapshot, actions]: readonly [
        ActorState["snapshot"],
        readonly { readonly type: string; readonly params: unknown }[],
      ]) => JSON.stringify([persist({ snapshot, timers: {} }), actions.map(({ type, params }) => ({ type, params }))]);
      everywhere(({ snapshot }, at, next) => {
        if (!next || snapshot.status !== "active") return;
        const event = { ...next.event, at };
        const mine = transition(definition.machine, snapshot, event);
        const theirs = ofXState(definition.machine, snapshot, event);
        expect(plain(mine)).toBe(plain(theirs));
        expect(mine[0] === snapshot).toBe(theirs[0] === snapshot);
      });
    });

    it("a state is JSON: restored, it is the same and does the same next", () => {
      everywhere((state, now, next) => {
        const restored = restore(definition, JSON.parse(JSON.stringify(persist(state))));
        expect(JSON.parse(JSON.stringify(persist(restored)))).toEqual(JSON.parse(JSON.stringify(persist(state))));
        if (!next) return;
        const live = takeStride(definition, state, next, now + next.after);
        const again = takeStride(definition, restored, next, now + next.after);
        expect(again.accepted).toBe(live.accepted);
        expect(JSON.stringify(again.effects)).toBe(JSON.stringify(live.effects));
        expect(JSON.stringify(persist(again.state))).toBe(JSON.stringify(persist(live.state)));
      });
    });

    it("deadlines are finite, and none is left where nothing is waited for", () => {
      everywhere((state) => {
        for (const { at } of Object.values(state.timers)) expect(Number.isFinite(at)).toBe(true);
        if (restful.some((value) => JSON.stringify(value) === JSON.stringify(state.snapshot.value)))
          expect(state.timers).toEqual({});
      });
    });
  });
}

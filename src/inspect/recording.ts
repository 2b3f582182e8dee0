import { hash } from "node:crypto";
import { z } from "zod";
import { type ActorState, type Effect, persist } from "../actors/state.ts";
import { eventVersionOf } from "../actors/upcast.ts";
import { MeshError } from "../errors.ts";
import type { MachineDefinition } from "../machines/definition.ts";
import type { Commit } from "../store/journal.ts";
import { definitionOf } from "./definitions.ts";
import { fold, stepOrNone } from "./fold.ts";

// A recorded history: the events of a node's streams in their order, and with each what its machine made of it. As a file it
// is one JSON line an event between a heading and a seal:
//
//   {"history":1,"program":"0.1.0","events":212}
//   {"stream":"session/…","commit":7,"at":1763712000000,"event":{"type":"INITIATED",…},"after":{"value":…},"effects":[…]}
//   {"sha256":"…"}
//
// `after` holds what differs from the state before: `value`, `status` and `timers` whole, of the context each field that is
// another. `pending` is what the machine would ask for after a restart, when that is not what it was before. The first event
// of a stream says everything, so that a field that came to a machine later is known as such, and not compared.

const Asked = z.tuple([z.string(), z.unknown()]);
const Change = z.strictObject({
  value: z.unknown().optional(),
  status: z.string().optional(),
  timers: z.record(z.string(), z.unknown()).optional(),
  context: z.record(z.string(), z.unknown()).optional(),
  pending: z.array(Asked).optional(),
});
export const RecordedEvent = z.strictObject({
  stream: z.string(),
  /** The number of the commit it was in. */
  commit: z.int().min(1),
  /** Epoch milliseconds. */
  at: z.number(),
  event: z.looseObject({ type: z.string() }),
  version: z.int().min(2).optional(),
  after: Change,
  effects: z.array(Asked),
  /** What was said, by the field of the event that had it sealed: only where whoever exported it wanted that. */
  words: z.record(z.string(), z.string()).optional(),
});
export type RecordedEvent = z.infer<typeof RecordedEvent>;

const Heading = z.strictObject({ history: z.literal(1), program: z.string(), events: z.int().min(0) });
const Seal = z.strictObject({ sha256: z.string() });

export interface Recording {
  /** The version of the program that recorded it. */
  readonly program: string;
  readonly events: readonly RecordedEvent[];
}

/** Everything that is compared after an event, as JSON has it. */
export interface Outcome {
  readonly value: unknown;
  readonly status: unknown;
  readonly timers: unknown;
  readonly context: Readonly<Record<string, unknown>>;
  readonly effects: unknown;
  readonly pending: unknown;
}

const asked = (effects: readonly Effect[]) => effects.map(({ type, params }) => [type, params] as const);

/** What stands after an event that asked for these effects. `at` is the time of the event. */
export function outcomeOf(
  definition: MachineDefinition,
  state: ActorState,
  effects: readonly Effect[],
  at: number,
): Outcome {
  const pending = stepOrNone(definition, state, { type: "RESUMED" }, at)?.effects ?? [];
  return JSON.parse(JSON.stringify({ ...persist(state), effects: asked(effects), pending: asked(pending) }));
}

/** Before the first event of a stream, of which everything is recorded. */
export const NOTHING_YET: Outcome = {
  value: undefined,
  status: undefined,
  timers: undefined,
  context: {},
  effects: [],
  pending: undefined,
};

const isSame = (one: unknown, other: unknown) => JSON.stringify(one) === JSON.stringify(other);

/** The fields of an object that are another than before. */
const changesOf = (before: object, after: object): Record<string, unknown> => {
  const known = new Map<string, unknown>(Object.entries(before));
  return Object.fromEntries(Object.entries(after).filter(([field, value]) => !isSame(value, known.get(field))));
};

/** The outcome that a recorded event stands for, on top of the one before. */
export function follow(before: Outcome, { after, effects }: RecordedEvent): Outcome {
  return { ...before, ...after, effects, context: { ...before.context, ...after.context } };
}

/** Records what the machines of this program make of these commits. @throws MeshError `store_newer` */
export async function record(commits: AsyncIterable<Commit>): Promise<RecordedEvent[]> {
  const outcomes = new Map<string, Outcome>();
  const events: RecordedEvent[] = [];
  for await (const { commit, stream, event, before, step } of fold(commits)) {
    const definition = definitionOf(stream);
    if (!definition) continue;
    const last = outcomes.get(stream) ?? NOTHING_YET;
    const next = outcomeOf(definition, step?.state ?? before, step?.effects ?? [], commit.at);
    outcomes.set(stream, next);
    const { effects: _, context: __, ...fields } = changesOf(last, next);
    const context = changesOf(last.context, next.context);
    const version = eventVersionOf(definition);
    events.push(
      RecordedEvent.parse({
        stream,
        commit: commit.number,
        at: commit.at,
        event,
        ...(version === 1 ? {} : { version }),
        after: { ...fields, ...(Object.keys(context).length === 0 ? {} : { context }) },
        effects: next.effects,
      }),
    );
  }
  return events;
}

const sealOf = (text: string) => `${JSON.stringify({ sha256: hash("sha256", text, "hex") })}\n`;

export function formatRecording({ program, events }: Recording): string {
  const heading = { history: 1, program, events: events.length };
  const text = [heading, ...events].map((line) => `${JSON.stringify(line)}\n`).join("");
  return text + sealOf(text);
}

/** A recorded history from its file. @throws MeshError `input_invalid` when it is not as it was recorded */
export function parseRecording(name: string, text: string): Recording {
  const damaged = (why: string) => new MeshError("input_invalid", `The recorded history ${name} is damaged: ${why}.`);
  const parse = <T>(schema: z.ZodType<T>, line: string, number: number): T => {
    try {
      return schema.parse(JSON.parse(line));
    } catch (cause) {
      throw new MeshError("input_invalid", `The recorded history ${name} is damaged: line ${number}.`, { cause });
    }
  };
  const lines = text.split("\n");
  if (lines.pop() !== "" || lines.length < 2) throw damaged("it does not end");
  const seal = lines.pop() ?? "";
  parse(Seal, seal, lines.length + 1);
  if (`${seal}\n` !== sealOf(`${lines.join("\n")}\n`)) throw damaged("its checksum does not match");
  const [heading = "", ...rest] = lines;
  const { program, events } = parse(Heading, heading, 1);
  if (rest.length !== events) throw damaged(`${rest.length} events, where it says ${events}`);
  return { program, events: rest.map((line, index) => parse(RecordedEvent, line, index + 2)) };
}

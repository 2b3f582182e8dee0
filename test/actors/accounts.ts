/** One machine as three versions of a program knew it: its events changed their form twice, and one of its states its name. */
import { assign, setup } from "xstate";
import { z } from "zod";
import type { Projection } from "../../src/actors/projection.ts";
import { type AnyEvent, effect, type MachineDefinition, Resumed, type Upcast } from "../../src/machines/definition.ts";
import type { Commit } from "../../src/store/journal.ts";

interface AccountContext {
  readonly id: string;
  readonly cents: number;
  readonly reminded: number;
}

/** @param states the name of the state that waits for a payment, which carries the deadline */
const account = (added: string, owed: string, centsOf: (event: AnyEvent) => number) =>
  setup({
    types: { context: {} as AccountContext, events: {} as AnyEvent, input: {} as { id: string } },
    actions: {
      remind: effect<{ id: string }>(),
      thank: effect<{ id: string; cents: number }>(),
      count: assign(({ context, event }) => ({ cents: context.cents + centsOf(event) })),
    },
    delays: { due: 1_000 },
  }).createMachine({
    id: "account",
    context: ({ input }) => ({ id: input.id, cents: 0, reminded: 0 }),
    initial: "even",
    on: {
      [added]: {
        target: ".even",
        actions: ["count", { type: "thank", params: ({ context }) => ({ id: context.id, cents: context.cents }) }],
      },
    },
    states: {
      even: { on: { BILLED: owed } },
      [owed]: {
        after: {
          due: {
            target: owed,
            reenter: true,
            actions: [
              assign(({ context }) => ({ reminded: context.reminded + 1 })),
              { type: "remind", params: ({ context }) => ({ id: context.id }) },
            ],
          },
        },
      },
    },
  });

const billed = z.object({ type: z.literal("BILLED") });
const amount = z.object({ cents: z.int(), currency: z.string() });

/** Euros became cents, under a better name. */
const toCents: Upcast = (event) => (event.type === "PUT" ? { type: "PAID", cents: Number(event.euros) * 100 } : event);
/** Amounts have a currency, and `owing` is called `open`, which names its deadline. */
const toAmounts: Upcast = (event) => {
  if (event.type === "PAID") return { type: "PAID", amount: { cents: event.cents, currency: "EUR" } };
  return event.type === "@timer" ? { ...event, id: String(event.id).replace("owing", "open") } : event;
};

/** What the three say when so many euros are paid. */
export const payment: readonly ((euros: number) => AnyEvent)[] = [
  (euros) => ({ type: "PUT", euros }),
  (euros) => ({ type: "PAID", cents: euros * 100 }),
  (euros) => ({ type: "PAID", amount: { cents: euros * 100, currency: "EUR" } }),
];

export const accounts: readonly [MachineDefinition, MachineDefinition, MachineDefinition] = [
  {
    kind: "account",
    version: 1,
    machine: account("PUT", "owing", ({ euros }) => Number(euros) * 100),
    events: z.discriminatedUnion("type", [z.object({ type: z.literal("PUT"), euros: z.int() }), billed, Resumed]),
  },
  {
    kind: "account",
    version: 1,
    machine: account("PAID", "owing", ({ cents }) => Number(cents)),
    events: z.discriminatedUnion("type", [z.object({ type: z.literal("PAID"), cents: z.int() }), billed, Resumed]),
    upcasts: [toCents],
  },
  {
    kind: "account",
    version: 2,
    machine: account("PAID", "open", (event) => amount.parse(event.amount).cents),
    events: z.discriminatedUnion("type", [z.object({ type: z.literal("PAID"), amount }), billed, Resumed]),
    upcasts: [toCents, toAmounts],
  },
];

/** The first version's events in another meaning: whoever pays is credited a fifth more. */
export const generous = (version: number): MachineDefinition => ({
  ...accounts[0],
  version,
  machine: account("PUT", "owing", ({ euros }) => Number(euros) * 120),
});

/** Every event, as a projection is told of it. */
export class Told implements Projection {
  readonly name = "told";
  readonly version = 1;
  events: AnyEvent[] = [];
  apply({ entries }: Commit): void {
    for (const { event } of entries) this.events.push(event);
  }
  capture(): unknown {
    return this.events;
  }
  restore(state: unknown): void {
    this.events = z.array(z.looseObject({ type: z.string() })).parse(state);
  }
}

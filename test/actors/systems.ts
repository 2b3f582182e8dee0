/** A system of small machines on a real journal, with a clock that stands until it is moved. */
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { assign, setup } from "xstate";
import { z } from "zod";
import type { Clock } from "../../src/actors/ports.ts";
import type { Projection } from "../../src/actors/projection.ts";
import { ActorSystem } from "../../src/actors/system.ts";
import { LAZY_COMMIT_MS } from "../../src/limits.ts";
import { effect, type MachineDefinition, Resumed } from "../../src/machines/definition.ts";
import { type Disk, realDisk } from "../../src/store/disk.ts";
import { Journal } from "../../src/store/journal.ts";
import { Secrets } from "../../src/store/secrets.ts";
import { openVault } from "../../src/store/vault.ts";
import { seededRandom, temporaryDirectory } from "../store/disks.ts";

/** A clock that stands until it is moved; what is due then is called back in its order. */
export class ManualClock implements Clock {
  time: number;
  #due: { readonly time: number; readonly callback: () => void }[] = [];
  constructor(time = 1_000_000) {
    this.time = time;
  }
  now(): number {
    return this.time;
  }
  at(time: number, callback: () => void): () => void {
    const entry = { time, callback };
    this.#due.push(entry);
    return () => {
      this.#due = this.#due.filter((each) => each !== entry);
    };
  }
  /** How many callbacks wait. */
  get armed(): number {
    return this.#due.length;
  }
  /** Moves the time, and calls back once what was due. */
  pass(milliseconds: number): void {
    this.time += milliseconds;
    const due = this.#due.filter(({ time }) => time <= this.time).sort((a, b) => a.time - b.time);
    this.#due = this.#due.filter(({ time }) => time > this.time);
    for (const { callback } of due) callback();
  }
}

/** The same for whole nodes: what is to happen in a moment, such as a commit that nobody waits for, happens by itself. */
export class CalendarClock extends ManualClock {
  override at(time: number, callback: () => void): () => void {
    if (time - this.time > LAZY_COMMIT_MS) return super.at(time, callback);
    const timer = setTimeout(callback, LAZY_COMMIT_MS);
    return () => clearTimeout(timer);
  }
}

const TallyEvent = z.discriminatedUnion("type", [
  z.object({ type: z.literal("ADD"), amount: z.int() }),
  z.object({ type: z.literal("ARM"), delay: z.number() }),
  z.object({ type: z.literal("DISARM") }),
  z.object({ type: z.literal("EXPLODE") }),
  z.object({ type: z.literal("NEVER") }),
  Resumed,
]);
type TallyEvent = z.infer<typeof TallyEvent> & { readonly at: number };
interface TallyContext {
  readonly id: string;
  readonly total: number;
  readonly delay: number;
  readonly rang: number;
  readonly last: number;
}

const tally = setup({
  types: { context: {} as TallyContext, events: {} as TallyEvent, input: {} as { id: string } },
  actions: {
    say: effect<{ id: string; total: number }>(),
    ring: effect<{ id: string }>(),
    again: effect<{ id: string }>(),
    explode: assign(() => {
      throw new Error("a machine that throws");
    }),
  },
  delays: { deadline: ({ context }) => context.delay },
}).createMachine({
  id: "tally",
  context: ({ input }) => ({ id: input.id, total: 0, delay: 0, rang: 0, last: 0 }),
  initial: "idle",
  on: {
    ADD: {
      actions: [
        assign(({ context, event }) => ({ total: context.total + event.amount, last: event.at })),
        { type: "say", params: ({ context }) => ({ id: context.id, total: context.total }) },
      ],
    },
    EXPLODE: { actions: "explode" },
    RESUMED: { actions: { type: "again", params: ({ context }) => ({ id: context.id }) } },
  },
  states: {
    idle: { on: { ARM: { target: "armed", actions: assign(({ event }) => ({ delay: event.delay })) } } },
    armed: {
      on: {
        DISARM: "idle",
        ARM: { target: "armed", reenter: true, actions: assign(({ event }) => ({ delay: event.delay })) },
      },
      after: {
        deadline: {
          target: "idle",
          actions: [
            assign(({ context }) => ({ rang: context.rang + 1 })),
            { type: "ring", params: ({ context }) => ({ id: context.id }) },
          ],
        },
      },
    },
  },
});

export const tallyDefinition: MachineDefinition = { kind: "tally", version: 1, machine: tally, events: TallyEvent };
export const liveDefinition: MachineDefinition = { ...tallyDefinition, kind: "live", live: true };

/** How many events each stream had. */
export class CountProjection implements Projection {
  readonly name = "count";
  readonly version = 1;
  counts: Record<string, number> = {};
  apply({ entries }: Parameters<Projection["apply"]>[0]): void {
    for (const { stream } of entries) this.counts[stream] = (this.counts[stream] ?? 0) + 1;
  }
  capture(): unknown {
    return { ...this.counts };
  }
  restore(state: unknown): void {
    this.counts = z.record(z.string(), z.number()).parse(state);
  }
}

export const add = (stream: string, amount = 1) => ({ stream, event: { type: "ADD", amount } });
export const arm = (stream: string, delay: number) => ({ stream, event: { type: "ARM", delay } });
export const event = (stream: string, type: string) => ({ stream, event: { type } });

export interface Opened {
  readonly home: string;
  readonly system: ActorSystem;
  readonly journal: Journal;
  readonly secrets: Secrets;
  readonly counts: CountProjection;
  readonly clock: ManualClock;
  /** What happened, in its order: published changes, effects, faults. */
  readonly log: string[];
  /** The total of a stream, as durable. */
  total(stream: string): number | undefined;
  /** Everything that was asked for is durable or refused. */
  settled(): Promise<void>;
}

/** Opens a system as a node does: vault, journal, fold. Nothing is performed before `system.start()`. */
export async function openSystem(
  options: {
    readonly home?: string;
    readonly disk?: Disk;
    readonly clock?: ManualClock;
    readonly definitions?: readonly MachineDefinition[];
    readonly projections?: readonly Projection[];
  } = {},
): Promise<Opened> {
  const { disk = realDisk, clock = new ManualClock(), definitions = [tallyDefinition, liveDefinition] } = options;
  const home = options.home ?? (await temporaryDirectory());
  const random = seededRandom(7);
  const secrets = new Secrets(await openVault(disk, home, new Uint8Array(32), random, 0), random);
  const counts = new CountProjection();
  const log: string[] = [];
  const system = new ActorSystem({
    definitions,
    projections: [counts, ...(options.projections ?? [])],
    clock,
    onFault: (error, where) => log.push(`fault in ${where}: ${error instanceof Error ? error.message : error}`),
  });
  const journal = await Journal.open({
    disk,
    directory: join(home, "journal"),
    onCommit: (commit) => {
      secrets.recover(commit);
      system.fold(commit);
    },
    onDurable: (commits) => system.onDurable(commits),
    onFailure: () => {
      log.push("rolled back");
      system.onFailure();
    },
  });
  onTestFinished(() => journal.close());
  system.attach(journal, secrets);
  for (const kind of ["tally", "live"]) {
    system.perform(kind, {
      say: ({ id, total }: { id: string; total: number }) => void log.push(`${kind}/${id} says ${total}`),
      ring: ({ id }: { id: string }) => void log.push(`${kind}/${id} rings`),
      again: ({ id }: { id: string }) => void log.push(`${kind}/${id} again`),
    });
  }
  return {
    home,
    system,
    journal,
    secrets,
    counts,
    clock,
    log,
    total: (stream) => system.state(stream)?.snapshot.context.total,
    async settled() {
      await journal.drained();
      // Rejections of what was refused reach their callers.
      await Promise.resolve();
    },
  };
}

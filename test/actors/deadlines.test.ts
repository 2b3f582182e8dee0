import { cp } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Deadlines } from "../../src/actors/deadlines.ts";
import { type ActorState, begin } from "../../src/actors/state.ts";
import { realDisk } from "../../src/store/disk.ts";
import { readJournal } from "../../src/store/journal-reader.ts";
import { diskWith, FullDisk, HeldDisk, noSpace, temporaryDirectory } from "../store/disks.ts";
import { arm, event, ManualClock, openSystem, tallyDefinition } from "./systems.ts";

const A = "tally/a";
const B = "tally/b";

describe("a process that dies when a deadline has rung", () => {
  it("leaves one that rang: after the restart it does not ring again, and what follows is asked for", async () => {
    const held = new HeldDisk();
    const first = await openSystem({ disk: held.disk });
    first.system.start();
    await first.system.commit([arm(A, 100)]).durable;
    const syncing = held.hold();
    first.clock.pass(100);
    await syncing;
    // The line is written; nobody was told of it, and nothing was done.
    const copy = await temporaryDirectory();
    await cp(first.home, copy, { recursive: true });
    expect(first.log).toEqual([]);
    held.release();
    await first.settled();
    const second = await openSystem({ home: copy, clock: new ManualClock(first.clock.now()) });
    second.system.start();
    second.clock.pass(10_000);
    await second.settled();
    expect(second.log).toEqual(["tally/a again"]);
    expect(second.system.state(A)?.snapshot.context.rang).toBe(1);
    const lines = await Array.fromAsync(readJournal(realDisk, join(copy, "journal")));
    expect(lines.flatMap(({ entries }) => entries.map((entry) => entry.event.type))).toEqual(["ARM", "@timer"]);
  });

  it("leaves one that did not ring, if it died before that was on disk: it rings after the restart, once", async () => {
    const first = await openSystem();
    first.system.start();
    await first.system.commit([arm(A, 100)]).durable;
    const copy = await temporaryDirectory();
    await cp(first.home, copy, { recursive: true });
    first.clock.pass(100);
    await first.settled();
    for (const expected of [["tally/a again", "tally/a rings"], ["tally/a again"]]) {
      const opened = await openSystem({ home: copy, clock: new ManualClock(first.clock.now()) });
      opened.system.start();
      opened.clock.pass(0);
      await opened.settled();
      opened.clock.pass(10_000);
      await opened.settled();
      expect(opened.log).toEqual(expected);
      opened.system.stop();
      await opened.journal.close();
    }
  });
});

describe("deadlines and a disk that refuses", () => {
  it("one that was called off in vain rings all the same", async () => {
    const full = new FullDisk();
    const { system, clock, log, settled } = await openSystem({ disk: full.disk });
    system.start();
    await system.commit([arm(A, 100)]).durable;
    full.room = 0;
    await expect(system.commit([event(A, "DISARM")]).durable).rejects.toMatchObject({ code: "store_io" });
    full.room = undefined;
    clock.pass(100);
    await settled();
    expect(log).toEqual(["rolled back", "tally/a rings"]);
  });

  it("one whose calling off was decided and lost, while another commit became durable, rings all the same", async () => {
    const [syncing, synced] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let isFull = false;
    const disk = diskWith({
      write: (file, bytes) => (isFull ? Promise.reject(noSpace()) : file.write(bytes)),
      sync: async (file) => {
        syncing.resolve();
        await synced.promise;
        await file.sync();
      },
    });
    const { system, clock, log, settled } = await openSystem({ disk });
    system.start();
    const armed = system.commit([arm(A, 100), arm(B, 900)]).durable;
    await syncing.promise;
    const lost = system.commit([event(A, "DISARM")]).durable;
    isFull = true;
    synced.resolve();
    await armed;
    await expect(lost).rejects.toMatchObject({ code: "store_io" });
    isFull = false;
    clock.pass(100);
    await settled();
    expect(log).toEqual(["rolled back", "tally/a rings"]);
  });
});

/** An actor of which only the deadlines are looked at; it counts how often. */
class Bell {
  readonly name: string;
  looks = 0;
  #state: ActorState = begin(tallyDefinition, "bell");
  constructor(name: string) {
    this.name = name;
  }
  get decided(): ActorState {
    this.looks++;
    return this.#state;
  }
  set(timer: string, at: number | undefined): void {
    const { [timer]: _, ...rest } = this.#state.timers;
    const timers = at === undefined ? rest : { ...rest, [timer]: { at, event: { type: "RING" } } };
    this.#state = { ...this.#state, timers };
  }
}

/** Deadlines of bells that ring into a list, and are told of it as a system tells: after the fact. */
function belfry(clock: ManualClock): { deadlines: Deadlines<Bell>; rang: string[]; told: () => void } {
  const rang: string[] = [];
  const changed = new Set<Bell>();
  const deadlines = new Deadlines<Bell>(clock, async (bell, timer) => {
    rang.push(`${bell.name} ${timer} ${clock.now()}`);
    bell.set(timer, undefined);
    changed.add(bell);
  });
  return {
    deadlines,
    rang,
    told() {
      for (const bell of changed) deadlines.note(bell);
      changed.clear();
      deadlines.arm();
    },
  };
}

describe("many deadlines", () => {
  it("cost a change of one actor nothing: the others are not looked at", () => {
    const clock = new ManualClock(0);
    const { deadlines } = belfry(clock);
    const bells = Array.from({ length: 10_000 }, (_, index) => new Bell(`${index}`));
    for (const [index, bell] of bells.entries()) {
      bell.set("t", 1_000_000 - index);
      deadlines.note(bell);
    }
    deadlines.start();
    for (const bell of bells) bell.looks = 0;
    const [one] = bells;
    for (let change = 0; change < 100; change++) {
      one?.set("t", 2_000_000 + change);
      if (one) deadlines.note(one);
      deadlines.arm();
    }
    expect(bells.reduce((sum, { looks }) => sum + looks, 0)).toBeLessThanOrEqual(100);
    expect(clock.armed).toBe(1);
    deadlines.stop();
  });

  it("each ring once, in their order, at the first moment at which they are due", () => {
    const timer = fc.record({
      bell: fc.nat(7),
      timer: fc.constantFrom("a", "b"),
      at: fc.option(fc.nat(60), { nil: undefined }),
    });
    const deed = fc.oneof({ arbitrary: timer, weight: 4 }, { arbitrary: fc.record({ pass: fc.nat(15) }), weight: 1 });
    fc.assert(
      fc.property(fc.array(deed, { maxLength: 80 }), (deeds) => {
        const clock = new ManualClock(0);
        const { deadlines, rang, told } = belfry(clock);
        const bells = Array.from({ length: 8 }, (_, index) => new Bell(`${index}`));
        const expected = new Map<string, number>();
        const due: string[] = [];
        const ringExpected = () => {
          for (const [key, at] of expected) {
            if (at > clock.now()) continue;
            due.push(`${key} ${clock.now()}`);
            expected.delete(key);
          }
        };
        const passed = (milliseconds: number) => {
          clock.pass(milliseconds);
          told();
          // What is set to the past rings at the next occasion.
          clock.pass(0);
          told();
          ringExpected();
          expect(rang.toSorted()).toEqual(due.toSorted());
        };
        deadlines.start();
        for (const each of deeds) {
          if ("pass" in each) passed(each.pass);
          else {
            const bell = bells[each.bell];
            bell?.set(each.timer, each.at);
            if (bell) deadlines.note(bell);
            deadlines.arm();
            if (each.at === undefined) expected.delete(`${each.bell} ${each.timer}`);
            else expected.set(`${each.bell} ${each.timer}`, each.at);
          }
        }
        passed(100);
        expect(expected.size).toBe(0);
        expect(clock.armed).toBe(0);
      }),
      { numRuns: 200 },
    );
  });
});

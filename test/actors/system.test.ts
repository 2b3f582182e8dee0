import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MeshError } from "../../src/errors.ts";
import { LAZY_COMMIT_MS, RETRY_MIN_MS } from "../../src/limits.ts";
import { realDisk } from "../../src/store/disk.ts";
import { readJournal } from "../../src/store/journal-reader.ts";
import { FullDisk, HeldDisk, temporaryDirectory } from "../store/disks.ts";
import { add, arm, event, ManualClock, type Opened, openSystem } from "./systems.ts";

const A = "tally/a";
const B = "tally/b";
const onDisk = async ({ home }: Opened) =>
  (await Array.fromAsync(readJournal(realDisk, join(home, "journal")))).map(({ entries }) =>
    entries.map(({ stream, event: { type } }) => `${stream} ${type}`),
  );

describe("decide, commit, publish, perform", () => {
  it("nobody is told and nothing is done before it is on disk; then in that order", async () => {
    const held = new HeldDisk();
    const opened = await openSystem({ disk: held.disk });
    const { system, log, total, counts } = opened;
    system.start();
    system.subscribe(({ stream, state }) =>
      log.push(`${stream} is ${state.snapshot.context.total}, ${counts.counts[stream]} events`),
    );
    const syncing = held.hold();
    const { accepted, durable } = system.commit([add(A, 2)]);
    const answered = durable.then(() => log.push("answered"));
    await syncing;
    expect(accepted).toEqual([true]);
    expect(log).toEqual([]);
    expect(total(A) ?? 0).toBe(0);
    expect(counts.counts).toEqual({});
    expect(system.decided(A)?.snapshot.context.total).toBe(2);
    held.release();
    await answered;
    expect(log).toEqual([`${A} is 2, 1 events`, "tally/a says 2", "answered"]);
    expect(total(A)).toBe(2);
  });

  it("the next event meets what was decided, durable or not", async () => {
    const held = new HeldDisk();
    const { system, log, settled } = await openSystem({ disk: held.disk });
    system.start();
    const syncing = held.hold();
    system.commit([add(A, 1)]);
    await syncing;
    system.commit([add(A, 10)]);
    system.commit([add(A, 100)]);
    expect(system.decided(A)?.snapshot.context.total).toBe(111);
    held.release();
    await settled();
    expect(log).toEqual(["tally/a says 1", "tally/a says 11", "tally/a says 111"]);
  });

  it("what nobody waits for is decided at once, and on disk with the next commit or a moment later", async () => {
    const held = new HeldDisk();
    const { system, clock, log, total } = await openSystem({ disk: held.disk });
    system.start();
    const first = system.commit([add(A, 1)], { lazy: true }).durable;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect([system.decided(A)?.snapshot.context.total, total(A) ?? 0, log]).toEqual([1, 0, []]);
    await system.commit([add(A, 10)]).durable;
    await first;
    expect(log).toEqual(["tally/a says 1", "tally/a says 11"]);
    const second = system.commit([add(A, 100)], { lazy: true }).durable;
    clock.pass(LAZY_COMMIT_MS - 1);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(total(A)).toBe(11);
    const syncing = held.hold();
    clock.pass(1);
    await syncing;
    expect(total(A)).toBe(11);
    held.release();
    await second;
    expect(log.at(-1)).toBe("tally/a says 111");
  });

  it("events of one commit build on each other, and are durable together", async () => {
    const opened = await openSystem();
    await opened.system.commit([add(A, 1), add(B, 2), add(A, 4)]).durable;
    expect([opened.total(A), opened.total(B)]).toEqual([5, 2]);
    expect(await onDisk(opened)).toEqual([[`${A} ADD`, `${B} ADD`, `${A} ADD`]]);
  });

  it("an event reaches its machine with the time of its commit", async () => {
    const clock = new ManualClock(4242);
    const { system } = await openSystem({ clock });
    await system.commit([add(A)]).durable;
    expect(system.state(A)?.snapshot.context.last).toBe(4242);
  });

  it("what the events refer to is made durable before them", async () => {
    const opened = await openSystem();
    let lines: unknown;
    await opened.system.commit([add(A)], {
      before: async () => {
        lines = await onDisk(opened);
      },
    }).durable;
    expect(lines).toEqual([]);
  });

  it("nothing is done before the start, and nothing after the stop; it is durable all the same", async () => {
    const { system, log, total } = await openSystem();
    await system.commit([add(A, 1)]).durable;
    expect(log).toEqual([]);
    system.start();
    expect(log).toEqual(["tally/a again"]);
    system.stop();
    await system.commit([add(A, 1)]).durable;
    expect(log).toEqual(["tally/a again"]);
    expect(total(A)).toBe(2);
  });
});

describe("refused events", () => {
  it("are told at once, and leave nothing behind", async () => {
    const opened = await openSystem();
    const { accepted, durable } = opened.system.commit([event(A, "DISARM")]);
    expect(accepted).toEqual([false]);
    await durable;
    expect(opened.system.state(A)).toBeUndefined();
    expect([...opened.system.streams()]).toEqual([]);
    expect(await onDisk(opened)).toEqual([]);
  });

  it("do not keep the others of their commit back", async () => {
    const opened = await openSystem();
    const { accepted, durable } = opened.system.commit([event(A, "DISARM"), add(A), event(B, "NEVER")]);
    expect(accepted).toEqual([false, true, false]);
    await durable;
    expect(await onDisk(opened)).toEqual([[`${A} ADD`]]);
    expect([...opened.system.streams()].map(([stream]) => stream)).toEqual([A]);
  });

  it("do not make an actor forget what is still being written of it", async () => {
    const held = new HeldDisk();
    const opened = await openSystem({ disk: held.disk });
    const syncing = held.hold();
    opened.system.commit([add(A, 1)]);
    await syncing;
    opened.system.commit([event(A, "DISARM")]);
    opened.system.commit([add(A, 2), event(B, "NEVER")], { atomic: true });
    opened.system.commit([add(A, 4)]);
    held.release();
    await opened.settled();
    expect(opened.total(A)).toBe(5);
  });

  it("refuse the whole of an atomic commit, with its secrets", async () => {
    const opened = await openSystem();
    const { accepted, durable } = opened.system.commit([add(A), event(B, "NEVER")], {
      atomic: true,
      secrets: { a: "1" },
    });
    expect(accepted).toEqual([false, false]);
    await durable;
    expect(await onDisk(opened)).toEqual([]);
    expect([...opened.system.streams()]).toEqual([]);
    expect(opened.secrets.get("a")).toBeUndefined();
    await opened.system.commit([add(A, 3)]).durable;
    expect(opened.total(A)).toBe(3);
  });

  it("that are in no form of the machine's, or make it throw, are errors of the caller that change nothing", async () => {
    const opened = await openSystem();
    await opened.system.commit([add(A, 1)]).durable;
    expect(() => opened.system.commit([add(A, 1), { stream: A, event: { type: "ADD", amount: "x" } }])).toThrow();
    expect(() => opened.system.commit([add(A, 1), event(A, "EXPLODE")])).toThrow("a machine that throws");
    expect(() => opened.system.commit([add(A, 1), add("unknown/x")])).toThrow("no machine");
    expect(opened.system.decided(A)?.snapshot.context.total).toBe(1);
    expect(await onDisk(opened)).toHaveLength(1);
  });
});

describe("a commit that cannot be made durable", () => {
  it("never happened, nor did what was decided on top of it: states, deadlines and secrets are as before", async () => {
    const full = new FullDisk();
    const opened = await openSystem({ disk: full.disk });
    const { system, secrets, log, clock } = opened;
    system.start();
    await system.commit([add(A, 1)], { secrets: { key: "old" } }).durable;
    await system.commit([arm(A, 500)]).durable;
    const before = JSON.stringify(system.capture());
    log.length = 0;
    full.room = 10;
    const lost = [
      system.commit([event(A, "DISARM")], { secrets: { key: "new", more: "x" } }),
      system.commit([add(A, 10), arm(A, 900)], { secrets: { key: null } }),
    ];
    expect(secrets.get("key")).toBeUndefined();
    for (const { accepted, durable } of lost) {
      expect(accepted).not.toContain(false);
      await expect(durable).rejects.toMatchObject({ code: "store_io" });
    }
    expect(log).toEqual(["rolled back"]);
    expect(JSON.stringify(system.capture())).toBe(before);
    expect(system.decided(A)).toBe(system.state(A));
    expect([secrets.get("key"), secrets.get("more")]).toEqual(["old", undefined]);
    full.room = undefined;
    await system.commit([add(A, 2)], { secrets: { key: "newer" } }).durable;
    expect(opened.total(A)).toBe(3);
    clock.pass(500);
    await opened.settled();
    expect(log).toContain("tally/a rings");
    const again = await openSystem({ home: opened.home });
    expect(again.total(A)).toBe(3);
    expect(again.secrets.get("key")).toBe("newer");
  });
});

describe("deadlines", () => {
  it("ring once, when they are due", async () => {
    const { system, clock, log, settled } = await openSystem();
    system.start();
    await system.commit([arm(A, 100)]).durable;
    clock.pass(99);
    await settled();
    expect(log).toEqual([]);
    clock.pass(1);
    await settled();
    expect(log).toEqual(["tally/a rings"]);
    clock.pass(1000);
    await settled();
    expect(log).toEqual(["tally/a rings"]);
    expect(clock.armed).toBe(0);
  });

  it("ring late rather than never, each of them", async () => {
    const { system, clock, log, settled } = await openSystem();
    system.start();
    await system.commit([arm(A, 100), arm(B, 200), arm("tally/c", 9_000)]).durable;
    clock.pass(5_000);
    await settled();
    expect(log).toEqual(["tally/a rings", "tally/b rings"]);
    clock.pass(4_000);
    await settled();
    expect(log).toEqual(["tally/a rings", "tally/b rings", "tally/c rings"]);
  });

  it("that were called off do not ring, nor do those that were set anew ring at the old time", async () => {
    const { system, clock, log, settled } = await openSystem();
    system.start();
    await system.commit([arm(A, 100), arm(B, 100)]).durable;
    clock.pass(50);
    await system.commit([event(A, "DISARM"), arm(B, 100)]).durable;
    clock.pass(60);
    await settled();
    expect(log).toEqual([]);
    clock.pass(40);
    await settled();
    expect(log).toEqual(["tally/b rings"]);
  });

  it("survive a restart, and ring at the start when they fell due meanwhile", async () => {
    const first = await openSystem();
    first.system.start();
    await first.system.commit([arm(A, 100), arm(B, 5_000)]).durable;
    first.system.stop();
    first.clock.pass(200);
    await first.journal.close();
    expect(first.log).toEqual([]);
    const second = await openSystem({ home: first.home, clock: new ManualClock(first.clock.now() + 1_000) });
    second.clock.pass(0);
    expect(second.log).toEqual([]);
    second.system.start();
    second.clock.pass(0);
    await second.settled();
    expect(second.log).toEqual(["tally/a again", "tally/b again", "tally/a rings"]);
    second.clock.pass(5_000);
    await second.settled();
    expect(second.log.at(-1)).toBe("tally/b rings");
  });

  it("that rang and were lost with a failed write ring again", async () => {
    const full = new FullDisk();
    const { system, clock, log, settled } = await openSystem({ disk: full.disk });
    system.start();
    await system.commit([arm(A, 100)]).durable;
    full.syncFails = true;
    clock.pass(100);
    await settled();
    expect(log).toEqual(["rolled back"]);
    full.syncFails = false;
    clock.pass(RETRY_MIN_MS);
    await settled();
    expect(log).toEqual(["rolled back", "tally/a rings"]);
  });
});

describe("one that fails does not break the others", () => {
  it("a subscriber, an effect that throws, one that rejects: each is reported, all else goes on", async () => {
    const { system, log, total } = await openSystem();
    system.start();
    system.perform("tally", {
      say: ({ id }: { id: string }) => {
        if (id === "a") throw new Error("no words");
        return Promise.reject(new Error("no voice"));
      },
    });
    system.subscribe(() => {
      throw new Error("deaf");
    });
    system.subscribe(({ stream }) => log.push(`heard ${stream}`));
    await system.commit([add(A), add(B)]).durable;
    await Promise.resolve();
    expect(log).toEqual([
      `fault in a subscriber of ${A}: deaf`,
      `heard ${A}`,
      `fault in a subscriber of ${B}: deaf`,
      `heard ${B}`,
      `fault in say of ${A}: no words`,
      `fault in say of ${B}: no voice`,
    ]);
    expect([total(A), total(B)]).toEqual([1, 1]);
    await system.commit([add(A)]).durable;
    expect(total(A)).toBe(2);
  });

  it("an effect of a node that closes, or whose disk refuses, is no defect: it is asked for again later", async () => {
    const { system, log } = await openSystem();
    system.start();
    for (const code of ["closed", "store_io"] as const) {
      system.perform("tally", { say: () => Promise.reject(new MeshError(code)) });
      await system.commit([add(A)]).durable;
      await Promise.resolve();
    }
    expect(log).toEqual([]);
  });

  it("a subscriber that left hears nothing more", async () => {
    const { system, log } = await openSystem();
    const leave = system.subscribe(({ stream }) => log.push(stream));
    await system.commit([add(A)]).durable;
    leave();
    await system.commit([add(A)]).durable;
    expect(log).toEqual([A]);
  });
});

describe("live actors", () => {
  it("are told at once, and forgotten with the process", async () => {
    const opened = await openSystem();
    const { system, log } = opened;
    system.start();
    system.subscribe(({ stream, commit }) => log.push(`${stream} ${commit === undefined}`));
    system.commit([add("live/x", 5)]);
    expect(log).toEqual(["live/x true", "live/x says 5"]);
    expect(opened.total("live/x")).toBe(5);
    await opened.settled();
    expect(await onDisk(opened)).toEqual([]);
    expect(system.capture().state.actors).toEqual({});
  });
});

describe("asking again", () => {
  it("every actor, or those of one kind, as often as one likes", async () => {
    const { system, log } = await openSystem();
    await system.commit([add(A)]).durable;
    system.commit([add("live/x")]);
    system.start();
    expect(log).toEqual(["tally/a again", "live/x again"]);
    system.resume("live");
    expect(log.slice(2)).toEqual(["live/x again"]);
    system.resume("tally");
    expect(log.slice(3)).toEqual(["tally/a again"]);
  });
});

describe("a restart", () => {
  const step = fc.oneof(
    fc.record({
      stream: fc.constantFrom(A, B, "tally/c"),
      event: fc.record({ type: fc.constant("ADD"), amount: fc.nat(9) }),
    }),
    fc.record({ stream: fc.constantFrom(A, B), event: fc.record({ type: fc.constant("ARM"), delay: fc.nat(1000) }) }),
    fc.constantFrom(event(A, "DISARM"), event(B, "DISARM"), event(B, "NEVER")),
  );

  it("gives the same states, with any snapshot of the way there or without one", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(step, { minLength: 1, maxLength: 3 }), { maxLength: 12 }),
        fc.nat(12),
        async (commits, when) => {
          const first = await openSystem({ home: await temporaryDirectory() });
          let snapshot = JSON.stringify(first.system.capture());
          for (const [index, entries] of commits.entries()) {
            await first.system.commit(entries).durable;
            first.clock.time += 10;
            if (index === when) snapshot = JSON.stringify(first.system.capture());
          }
          await first.journal.close();
          const without = await openSystem({ home: first.home });
          expect(without.system.capture()).toEqual(JSON.parse(JSON.stringify(first.system.capture())));
          const restored = await openSystem({ home: await temporaryDirectory() });
          const { position, state }: ReturnType<typeof first.system.capture> = JSON.parse(snapshot);
          restored.system.restore(position, state);
          for await (const commit of readJournal(realDisk, join(first.home, "journal"))) restored.system.fold(commit);
          expect(restored.system.capture()).toEqual(without.system.capture());
          await without.journal.close();
          await restored.journal.close();
        },
      ),
      { numRuns: 15 },
    );
  });
});

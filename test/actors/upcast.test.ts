import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { MachineDefinition } from "../../src/machines/definition.ts";
import { realDisk } from "../../src/store/disk.ts";
import { readJournal } from "../../src/store/journal-reader.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { accounts, payment, Told } from "./accounts.ts";
import { ManualClock, type Opened, openSystem } from "./systems.ts";

const A = "account/a";
const [first, second, third] = accounts;

type Deed = { readonly pay: number } | { readonly bill: true } | { readonly wait: number };

/** Opens a home with the program of one version, which does these things and ends. */
async function lives(home: string, clock: ManualClock, version: number, deeds: readonly Deed[]): Promise<Opened> {
  const definition = accounts[version - 1] ?? first;
  const opened = await openSystem({ home, clock, definitions: [definition], projections: [new Told()] });
  opened.system.start();
  for (const deed of deeds) {
    if ("wait" in deed) clock.pass(deed.wait);
    else {
      const said = "pay" in deed ? payment[version - 1]?.(deed.pay) : { type: "BILLED" };
      if (said) await opened.system.commit([{ stream: A, event: said }]).durable;
    }
    await opened.settled();
  }
  opened.system.stop();
  await opened.journal.close();
  return opened;
}

const linesOf = async (home: string) => {
  const names = await readdir(join(home, "journal"));
  const texts = await Promise.all(names.sort().map((name) => readFile(join(home, "journal", name), "utf8")));
  return texts.join("").split("\n").slice(0, -1);
};
const reopened = (home: string, definition: MachineDefinition, told = new Told()) =>
  openSystem({ home, definitions: [definition], projections: [told] });

describe("events of old versions", () => {
  it("are brought to today's form before a machine or a projection meets them, and stay as they are on disk", async () => {
    const home = await temporaryDirectory();
    await lives(home, new ManualClock(), 1, [{ pay: 3 }, { bill: true }, { wait: 1_000 }]);
    const before = await linesOf(home);
    expect(before.join("\n")).not.toContain('"v":');
    const told = new Told();
    const { system } = await reopened(home, third, told);
    expect(system.state(A)?.snapshot.value).toBe("open");
    expect(system.state(A)?.snapshot.context).toEqual({ id: "a", cents: 300, reminded: 1 });
    expect(Object.keys(system.state(A)?.timers ?? {})).toEqual(["xstate.after.due.account.open"]);
    expect(told.events).toEqual([
      { type: "PAID", amount: { cents: 300, currency: "EUR" } },
      { type: "BILLED" },
      { type: "@timer", id: "xstate.after.due.account.open" },
    ]);
    expect(await linesOf(home)).toEqual(before);
  });

  it("stand in one journal beside newer ones, which carry their version", async () => {
    const home = await temporaryDirectory();
    const clock = new ManualClock();
    for (const version of [1, 2, 3]) await lives(home, clock, version, [{ pay: version }]);
    expect((await linesOf(home)).map((line) => /"v":(\d+)/.exec(line)?.[1])).toEqual([undefined, "2", "3"]);
    const { system } = await reopened(home, third);
    expect(system.state(A)?.snapshot.context.cents).toBe(600);
  });

  const deed: fc.Arbitrary<Deed> = fc.oneof(
    fc.record({ pay: fc.nat(9) }),
    fc.constant({ bill: true as const }),
    fc.record({ wait: fc.nat(1_500) }),
  );
  it("fold to what they would have been, had the newest program written them, whoever wrote which", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(deed, { maxLength: 5 }), { minLength: 3, maxLength: 3 }), async (eras) => {
        const [old, modern] = [await temporaryDirectory(), await temporaryDirectory()];
        const clocks = [new ManualClock(), new ManualClock()] as const;
        for (const [index, deeds] of eras.entries()) {
          await lives(old, clocks[0], index + 1, deeds);
          await lives(modern, clocks[1], 3, deeds);
        }
        const [upcast, native] = [await reopened(old, third), await reopened(modern, third)];
        expect(upcast.system.capture()).toEqual(native.system.capture());
        await upcast.journal.close();
        await native.journal.close();
      }),
      { numRuns: 15 },
    );
  });
});

describe("what a newer program wrote", () => {
  const refusal = (part: string) => ({ code: "store_newer", message: expect.stringContaining(part) });

  it("is refused by an older one, which changes nothing", async () => {
    const home = await temporaryDirectory();
    const clock = new ManualClock();
    await lives(home, clock, 2, [{ pay: 1 }]);
    await lives(home, clock, 3, [{ pay: 2 }]);
    const before = await linesOf(home);
    await expect(reopened(home, second)).rejects.toMatchObject(refusal("Commit 2, account/a: an event of version 3"));
    await expect(reopened(home, first)).rejects.toMatchObject(refusal("Commit 1, account/a: an event of version 2"));
    expect(await linesOf(home)).toEqual(before);
    expect((await reopened(home, third)).system.state(A)?.snapshot.context.cents).toBe(300);
  });

  it("is refused too when its type or its kind of stream is not known here, rather than passed over", async () => {
    const home = await temporaryDirectory();
    await lives(home, new ManualClock(), 1, [{ pay: 1 }]);
    await expect(reopened(home, { ...second, upcasts: [] })).rejects.toMatchObject(refusal("no known type"));
    await expect(reopened(home, { ...first, kind: "purse" })).rejects.toMatchObject(refusal("no known kind"));
  });

  it("is not hidden from an older program by the snapshots of the newer", async () => {
    const { system } = await openSystem({ definitions: [first] });
    const newer = await openSystem({ definitions: [{ ...second, version: first.version }] });
    expect(newer.system.versions).not.toBe(system.versions);
    expect(system.versions).toBe("account@1 count@1");
  });
});

it("an event that is read back by its place has today's form", async () => {
  const home = await temporaryDirectory();
  await lives(home, new ManualClock(), 1, [{ pay: 7 }]);
  const { system, journal } = await reopened(home, third);
  const [stored] = await Array.fromAsync(readJournal(realDisk, join(home, "journal")));
  if (!stored) throw new Error("the journal is empty");
  expect(stored.entries).toEqual([{ stream: A, event: { type: "PUT", euros: 7 } }]);
  expect(system.current(await journal.read(stored.place)).entries).toEqual([
    { stream: A, event: { type: "PAID", amount: { cents: 700, currency: "EUR" } } },
  ]);
});

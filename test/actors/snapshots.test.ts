/** Snapshots are a cache: whatever lies in their place, a home opens to what its journal says. */
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { MeshNode } from "../../src/actors/node.ts";
import type { AnyEvent, MachineDefinition } from "../../src/machines/definition.ts";
import { realDisk } from "../../src/store/disk.ts";
import { writeSnapshots } from "../../src/store/snapshots.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { accounts, generous, payment } from "./accounts.ts";
import { ManualClock } from "./systems.ts";
import { offline } from "./world.ts";

const [first, second] = accounts;
const A = "account/a";
const pay = (euros: number): AnyEvent => payment[0]?.(euros) ?? { type: "BILLED" };
const bill: AnyEvent = { type: "BILLED" };

async function open(home: string, definition: MachineDefinition = first, clock = new ManualClock()): Promise<MeshNode> {
  const node = await MeshNode.open({ home, ports: { ...offline(), clock }, definitions: [definition] });
  onTestFinished(() => node.close());
  return node;
}
async function tell(node: MeshNode, events: readonly AnyEvent[], stream = A): Promise<void> {
  for (const event of events) await node.core.system.commit([{ stream, event }]).durable;
}
const everything = ({ core }: MeshNode): unknown => JSON.parse(JSON.stringify(core.system.capture()));
const centsOf = ({ core }: MeshNode): unknown => core.system.state(A)?.snapshot.context.cents;
const fileOf = (home: string) => join(home, "snapshots", "snapshots.json");
/** What a home opens to. */
async function opensTo(home: string): Promise<unknown> {
  const node = await open(home);
  const state = everything(node);
  await node.close();
  return state;
}

let home: string;
beforeEach(async () => {
  home = join(await temporaryDirectory(), "home");
});

describe("a home opens to what its journal says", () => {
  const deed = fc.record({
    stream: fc.constantFrom(A, "account/b"),
    event: fc.oneof(fc.nat(9).map(pay), fc.constant(bill)),
  });

  it("with a snapshot of any moment, or without one", async () => {
    const deeds = fc.array(fc.array(deed, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(deeds, deeds, async (early, late) => {
        const place = join(await temporaryDirectory(), "home");
        const clock = new ManualClock();
        const files: Buffer[] = [];
        let last: unknown;
        for (const commits of [early, late]) {
          const node = await open(place, first, clock);
          for (const entries of commits) {
            await node.core.system.commit(entries).durable;
            clock.time += 100;
          }
          await node.close();
          files.push(await readFile(fileOf(place)));
          last = everything(node);
        }
        for (const file of files) {
          await writeFile(fileOf(place), file);
          expect(await opensTo(place)).toEqual(last);
        }
        await rm(join(place, "snapshots"), { recursive: true });
        expect(await opensTo(place)).toEqual(last);
      }),
      { numRuns: 8 },
    );
  });

  it("with a snapshot that is broken, cut, empty, of another form, or no file at all", async () => {
    const node = await open(home);
    await tell(node, [pay(1), bill, pay(2)]);
    await node.close();
    const state = everything(node);
    const file = await readFile(fileOf(home));
    const versions = node.core.system.versions;
    const places: (() => Promise<unknown>)[] = [
      () => writeFile(fileOf(home), file.subarray(0, file.length >> 1)),
      () => writeFile(fileOf(home), Buffer.concat([file.subarray(0, 100), Buffer.from("x"), file.subarray(101)])),
      () => writeFile(fileOf(home), ""),
      () => writeSnapshots(realDisk, home, { versions, position: 2, state: "none" }),
      () => writeSnapshots(realDisk, home, { versions, position: 2, state: { actors: {}, projections: {} } }),
      () => rm(fileOf(home)).then(() => mkdir(fileOf(home))),
    ];
    for (const spoil of places) {
      await rm(fileOf(home), { recursive: true });
      await writeFile(fileOf(home), file);
      await spoil();
      const again = await open(home);
      expect(everything(again)).toEqual(state);
      await again.journal.close();
    }
  });

  it("but not when the snapshot knows of more commits: then the journal was cut", async () => {
    const node = await open(home);
    await tell(node, [pay(1), pay(2)]);
    const behind = await temporaryDirectory();
    await cp(home, behind, { recursive: true });
    await tell(node, [pay(4)]);
    await node.close();
    await cp(join(home, "snapshots"), join(behind, "snapshots"), { recursive: true });
    await expect(open(behind)).rejects.toMatchObject({ code: "store_damaged" });
  });
});

describe("a snapshot of another program version", () => {
  it("is not believed: the events are folded anew, in the meaning of today", async () => {
    const node = await open(home);
    await tell(node, [pay(1), bill, pay(2)]);
    await node.close();
    expect(centsOf(node)).toBe(300);
    // A meaning that changes without its version goes unnoticed here; the recorded histories are what catches it.
    const careless = await open(home, generous(first.version));
    expect(centsOf(careless)).toBe(300);
    await careless.close();
    const changed = await open(home, generous(first.version + 1));
    expect(centsOf(changed)).toBe(360);
    await changed.close();
    // What the newer version wrote is as little believed by the older one.
    const back = await open(home);
    expect(centsOf(back)).toBe(300);
  });

  it("with other forms of events is not believed either, and a program that is too old refuses the home with it", async () => {
    const old = await open(home);
    await tell(old, [pay(1)]);
    await old.close();
    const newer: MachineDefinition = { ...second, version: first.version };
    const node = await open(home, newer);
    expect(centsOf(node)).toBe(100);
    await tell(node, [payment[1]?.(2) ?? bill]);
    await node.close();
    expect(await readFile(fileOf(home), "utf8")).toContain('"position":2');
    await expect(open(home)).rejects.toMatchObject({ code: "store_newer" });
  });
});

describe("deadlines in a snapshot", () => {
  it("ring when they are due, at the opening if that was meanwhile", async () => {
    const clock = new ManualClock();
    const node = await open(home, first, clock);
    await tell(node, [bill]);
    await tell(node, [bill], "account/b");
    await node.close();
    clock.time += 5_000;
    const again = await open(home, first, clock);
    const rang: string[] = [];
    again.perform("account", { remind: ({ id }: { id: string }) => void rang.push(id) });
    again.start();
    clock.pass(0);
    await again.journal.drained();
    expect(rang).toEqual(["a", "b"]);
    expect(Object.values(again.core.system.state(A)?.timers ?? {}).map(({ at }) => at)).toEqual([clock.now() + 1_000]);
  });
});

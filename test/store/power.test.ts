/** What is there when the power comes back: on files that lose whatever was not synced. */
import { describe, expect, it } from "vitest";
import { type Disk, diskOn } from "../../src/store/disk.ts";
import { Journal } from "../../src/store/journal.ts";
import { openVault } from "../../src/store/vault.ts";
import { Dice } from "../simulation/dice.ts";
import { fileSystemOf, SimulatedFiles } from "../simulation/disk.ts";
import { seededRandom } from "./disks.ts";

const ROUNDS = 12;
const random = seededRandom();
const key = random(32);

interface Home {
  readonly files: SimulatedFiles;
  readonly disk: Disk;
  /** The disk of a process that is killed when it makes that call: it never comes back. */
  diskUntil(call: string): Disk;
}

/** One machine after the other: each loses something else. */
async function onMachines(story: (home: Home) => Promise<void>): Promise<void> {
  for (let round = 0; round < ROUNDS; round++) {
    const files = new SimulatedFiles(new Dice(`power ${round}`));
    files.mkdir("/home");
    files.root.sync();
    await story({
      files,
      disk: diskOn(fileSystemOf(files, async (_, work) => work())),
      diskUntil: (call) => {
        const never = new Promise<never>(() => undefined);
        return diskOn(fileSystemOf(files, async (what, work) => (what === call ? never : work())));
      },
    });
  }
}

/** Lets everything happen that can. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe("after a loss of power", () => {
  it("a file in directories that were just made is there", () =>
    onMachines(async ({ files, disk }) => {
      await disk.makeDirectory("/home/a/b/c");
      await disk.replace("/home/a/b/c/file", Buffer.from("words"));
      files.crash();
      expect(Buffer.from((await disk.read("/home/a/b/c/file")) ?? []).toString()).toBe("words");
    }));

  it("directories are there that a killed process had just made, once its successor has used them", () =>
    onMachines(async ({ files, disk, diskUntil }) => {
      void diskUntil("sync /home/a/b").makeDirectory("/home/a/b/c");
      await settled();
      await disk.makeDirectory("/home/a/b/c");
      await disk.replace("/home/a/b/c/file", Buffer.from("words"));
      files.crash();
      expect(Buffer.from((await disk.read("/home/a/b/c/file")) ?? []).toString()).toBe("words");
    }));

  it("a commit is there that a killed process had not synced, once its successor has read it", () =>
    onMachines(async ({ files, disk, diskUntil }) => {
      const directory = "/home/journal";
      const dying = await Journal.open({ disk: diskUntil(`sync ${directory}/000000000001.jsonl`), directory });
      void dying.append({ at: 1, entries: [{ stream: "s/1", event: { type: "ONE" } }] });
      await settled();
      expect((await Journal.open({ disk, directory })).head).toBe(1);
      files.crash();
      expect((await Journal.open({ disk, directory })).head).toBe(1);
    }));

  it("the vault is there that a killed process had put in place, once its successor has read it", () =>
    onMachines(async ({ files, disk, diskUntil }) => {
      await openVault(disk, "/home", key, random, 0);
      // Of a process that dies between the rename and the sync of the directory.
      const { document, write } = await openVault(
        { ...disk, replace: diskUntil("sync /home").replace },
        "/home",
        key,
        random,
        0,
      );
      void write({ ...document, epoch: 2 });
      await settled();
      expect((await openVault(disk, "/home", key, random, 0)).document.epoch).toBe(2);
      files.crash();
      expect((await openVault(disk, "/home", key, random, 0)).document.epoch).toBe(2);
    }));
});

import { expect, it } from "vitest";
import { diskOn } from "../../src/store/disk.ts";
import { Dice } from "../simulation/dice.ts";
import { fileSystemOf, SimulatedFiles } from "../simulation/disk.ts";

it("a file in directories that were just made is there when the power comes back", async () => {
  for (let seed = 0; seed < 20; seed++) {
    const files = new SimulatedFiles(new Dice(`disk ${seed}`));
    const disk = diskOn(fileSystemOf(files, async (_, work) => work()));
    await disk.makeDirectory("/a/b/c");
    await disk.replace("/a/b/c/file", Buffer.from("words"));
    files.crash();
    expect(Buffer.from((await disk.read("/a/b/c/file")) ?? []).toString()).toBe("words");
  }
});

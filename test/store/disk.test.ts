import { describe } from "vitest";
import { realDisk } from "../../src/store/disk.ts";
import { describeDisk } from "./conformance/disk.ts";
import { temporaryDirectory } from "./disks.ts";

describe("the disk of this machine", () => {
  describeDisk(async () => {
    const directory = await temporaryDirectory();
    return { disk: realDisk, directory, reopen: async () => realDisk };
  });
});

import { describe, onTestFinished } from "vitest";
import { openEmbeddedState } from "../../../src/cluster/embedded/state.ts";
import { realDisk } from "../../../src/store/disk.ts";
import { temporaryDirectory } from "../world.ts";
import { mailboxesConformance } from "./mailboxes.ts";

async function open() {
  const state = await openEmbeddedState({ disk: realDisk, directory: await temporaryDirectory(), now: Date.now });
  onTestFinished(() => state.close());
  return state;
}

describe("the embedded store", () => {
  // One process is all the replicas that there are.
  mailboxesConformance(async (replicas) => {
    const { mailboxes } = await open();
    return Array.from({ length: replicas }, () => mailboxes);
  });
});

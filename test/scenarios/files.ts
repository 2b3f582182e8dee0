/** Files between two of ours: they arrive whole, whatever breaks in between. */
import { createHash, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openFileWorld } from "../files/world.ts";
import { leavesNothing } from "./laptop.ts";
import type { OpenStage } from "./stage.ts";

const SIZE = 5_000_000;

export function withFiles(open: OpenStage): void {
  describe(`a file of ${SIZE / 1_000_000} MB between two of ours`, () => {
    it.each([
      "nothing breaks",
      "the one who takes it is restarted",
      "the one who sends it is restarted",
      "the connection of the one who takes it is cut",
      "the connection of the one who sends it is cut",
    ])("arrives whole when %s", async (what) => {
      const stage = await open();
      const world = await openFileWorld({ places: stage });
      const name = what.includes("sends") ? "alice" : "bob";
      for (const each of ["alice", "bob"]) leavesNothing(stage, world.node(each).core.keyring.identity);
      const bytes = randomBytes(SIZE);
      const file = await world.file("data.bin", bytes);
      await world.offer("t", file);
      const outcome = world.outcomes.next();
      for (let served = 0; ; served++) {
        const pull = await Promise.race([world.pulls.next(), outcome]);
        if (!("first" in pull)) break;
        await world.give(file, pull);
        if (served !== 2) continue;
        if (what.endsWith("restarted")) await world.restart(name);
        if (!what.endsWith("cut")) continue;
        const { core } = world.node(name);
        if (stage.standIns) stage.standIns.relay.cut(core.keyring.identity.did);
        else {
          core.link.pause();
          core.link.proceed();
        }
      }
      const sha256 = createHash("sha256").update(bytes).digest("hex");
      expect(await outcome).toMatchObject({ saved: { name: "data.bin", size: SIZE, sha256 } });
      expect((await readFile(join(world.inbox, "data.bin"))).equals(bytes)).toBe(true);
      expect(await world.acks.next()).toMatchObject({ success: true });
    });
  });
}

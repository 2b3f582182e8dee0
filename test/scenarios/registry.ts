/** A registry that restarts and knows nobody any more, while those who registered there are on the mesh. */
import { describe, expect, it } from "vitest";
import { call } from "../actors/world.ts";
import { Laptop, texts } from "./laptop.ts";
import type { PeerKind } from "./peers.ts";
import type { OpenStage } from "./stage.ts";

/** Longer than the pause between two looks at the registry. */
const LOOKED_MS = 70_000;

/** @param kinds of plain peers that find a laptop again */
export function withForgetfulRegistry(open: OpenStage, kinds: readonly PeerKind[]): void {
  describe("a registry that restarts and forgets", () => {
    it("who was talking goes on, and who comes new finds the others, and opens a session with each", async (context) => {
      const stage = await open();
      if (!stage.restartRegistry) return context.skip("no command is given that restarts the registry");
      const alice = await Laptop.open(stage, { name: "alice" });
      const bob = await Laptop.open(stage, { name: "bob" });
      await bob.became(alice.did, await bob.say(alice.did, ...texts("to alice", 0, 3)), "delivered");
      await stage.restartRegistry();
      await bob.became(alice.did, await bob.say(alice.did, ...texts("to alice", 3, 6)), "delivered");
      await stage.clock.passes(LOOKED_MS);
      const carol = await Laptop.open(stage, { name: "carol" });
      for (const { did, name } of [alice, bob]) {
        const { agents } = await call(carol.node, "discover", { name });
        expect(agents.map((agent) => agent.did)).toEqual([did]);
        await carol.became(did, await carol.say(name, "hello"), "delivered");
      }
      expect(await alice.read(bob.did)).toEqual(texts("to alice", 0, 6));
    });

    it.each(kinds)("$name that comes new finds a laptop that was there before", async (kind) => {
      const stage = await open();
      const laptop = await Laptop.open(stage);
      await stage.restartRegistry?.();
      await stage.clock.passes(LOOKED_MS);
      const peer = await kind.open(stage);
      await peer.say(laptop.did, "hello");
      await laptop.heard(peer.did, 1);
      await laptop.say(peer.did, "hello yourself");
      await peer.until(() => peer.received.length === 1);
    });
  });
}

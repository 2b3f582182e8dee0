/** What must hold between our laptop and the published client alone: its tongue is older, and it honours plaintext. */
import { describe, expect, it } from "vitest";
import { Laptop } from "../scenarios/laptop.ts";
import type { OpenStage } from "../scenarios/stage.ts";
import { openPeer } from "./published.ts";

/**
 * @param open the relay and the registry of one test
 * @param proves whether the client must prove itself here, which it can do by its hooks only
 */
export function olderTongue(open: OpenStage, proves: boolean): void {
  describe("the published client", () => {
    it("one that looks like a client of today reads nothing until it has spoken: then we speak as it does, and remember it", async () => {
      const stage = await open();
      const laptop = await Laptop.open(stage);
      const peer = await openPeer({ ...stage, proves: true });
      await laptop.say(peer.did, "in the wrong tongue");
      await peer.errors.until(() => peer.errors.all.length > 0);
      expect(peer.errors.all).toEqual([expect.stringMatching(/^session_desync/)]);
      expect(peer.client.getSession(laptop.did)).toBeUndefined();

      await peer.say(laptop.did, "hello");
      await laptop.heard(peer.did, 1);
      const [first, second] = laptop.sessions(peer.did);
      expect(first).toMatchObject({ role: "initiator", kdf: "current", closed: expect.any(String) });
      expect(second).toMatchObject({ role: "responder", kdf: "npm4", closed: null });
      await laptop.say(peer.did, "now you read me");
      // What it could not read is said again.
      await peer.received.until(() => peer.received.all.length > 1);
      expect(peer.received.all).toEqual(["in the wrong tongue", "now you read me"]);
    });

    it("speaks its own tongue from the first message on, and is spoken to in it", async () => {
      const stage = await open();
      const laptop = await Laptop.open(stage);
      const peer = await openPeer({ ...stage, proves });
      await peer.say(laptop.did, "hello");
      await laptop.heard(peer.did, 1);
      await laptop.say(peer.did, "hello yourself");
      await peer.received.until(() => peer.received.all.includes("hello yourself"));
      const sessions = laptop.sessions(peer.did);
      expect(sessions).toMatchObject([{ role: "responder", kdf: "npm4", decrypted: 1, encrypted: 1 }]);
    });

    it("its plaintext is not honoured, with a session or without one", async () => {
      const stage = await open();
      const laptop = await Laptop.open(stage);
      const peer = await openPeer({ ...stage, proves });
      const sayPlainly = async () => {
        peer.client.addPlaintextPeer(laptop.did);
        await peer.client.send(laptop.did, { type: "message", content: "in the clear" });
        peer.client.removePlaintextPeer(laptop.did);
      };
      await sayPlainly();
      peer.client.closeSession(laptop.did);
      await peer.say(laptop.did, "sealed");
      await sayPlainly();
      await peer.say(laptop.did, "sealed too");
      expect(await laptop.heard(peer.did, 2)).toEqual(["sealed", "sealed too"]);
      expect(laptop.node.core.link.malformed).toBeGreaterThanOrEqual(2);
    });
  });
}

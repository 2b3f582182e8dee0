/** What holds between two of ours over a relay and a registry that know nothing of what this project adds. */
import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { base64, identityFromSeed, sha256, sign, utf8 } from "../../src/crypto/index.ts";
import { arrivedText, type KnockAccept } from "../../src/wire/frame.ts";
import { call } from "../actors/world.ts";
import { comes } from "../attacks/world.ts";
import { drain, Laptop, texts } from "./laptop.ts";
import type { OpenStage, Stage } from "./stage.ts";

const MESSAGES = 60;
const HALF = MESSAGES / 2;
/** Texts of 250 kB, which is a frame of 340 kB. */
const large = (of: string) => texts(of, 0, 3).map((text) => text.padEnd(250_000, "."));

interface Pair {
  readonly stage: Stage;
  readonly alice: Laptop;
  readonly bob: Laptop;
}

async function openPair(open: OpenStage): Promise<Pair> {
  const stage = await open();
  const [alice, bob] = await Promise.all([Laptop.open(stage, { name: "alice" }), Laptop.open(stage, { name: "bob" })]);
  return { stage, alice, bob };
}

/** Both say these at once. Resolves when each side has what the other said, once and in order, and knows that it arrived. */
async function exchange({ alice, bob }: Pair, ofAlice: readonly string[], ofBob: readonly string[]): Promise<void> {
  const [ids, back] = await Promise.all([alice.say(bob.did, ...ofAlice), bob.say(alice.did, ...ofBob)]);
  await arrived({ alice, bob }, ofAlice, ids);
  await arrived({ alice: bob, bob: alice }, ofBob, back);
}

/** Resolves when bob has just these of alice, in order, and alice knows it. */
async function arrived(
  { alice, bob }: Pick<Pair, "alice" | "bob">,
  said: readonly string[],
  ids: readonly string[],
): Promise<void> {
  await alice.became(bob.did, ids, "delivered");
  expect(await bob.read(alice.did)).toEqual(said);
}

export function betweenOurs(open: OpenStage): void {
  describe("between two of ours", () => {
    it.each([true, false])(`${MESSAGES} messages each way at once (with one-time prekeys: %s)`, async (withOneTime) => {
      const pair = await openPair(open);
      const { stage, alice, bob } = pair;
      if (!withOneTime) for (const { did } of [alice, bob]) await drain(stage, did);
      await exchange(pair, texts("to bob", 0, MESSAGES), texts("to alice", 0, MESSAGES));
      const opened = alice.sessions(bob.did).filter(({ role }) => role === "initiator");
      for (const { otk } of opened) expect(otk === null).toBe(!withOneTime);
    });

    it("messages of 250 kB each way", async () => {
      await exchange(await openPair(open), large("to bob"), large("to alice"));
    });

    it("both knock at once", async () => {
      const pair = await openPair(open);
      const { alice, bob } = pair;
      for (const laptop of [alice, bob]) laptop.leave();
      const [toBob] = await alice.say(bob.did, "to bob 0");
      const [toAlice] = await bob.say(alice.did, "to alice 0");
      for (const [laptop, { did }] of [
        [alice, bob],
        [bob, alice],
      ] as const)
        await laptop.until(
          () => "a session",
          () => laptop.conversation(did).session !== null,
        );
      for (const laptop of [alice, bob]) laptop.comeBack();
      const [more, back] = await Promise.all([
        alice.say(bob.did, ...texts("to bob", 1, 10)),
        bob.say(alice.did, ...texts("to alice", 1, 10)),
      ]);
      await arrived({ alice, bob }, texts("to bob", 0, 10), [toBob ?? "", ...more]);
      await arrived({ alice: bob, bob: alice }, texts("to alice", 0, 10), [toAlice ?? "", ...back]);
    });

    it("each says things while the other is away", async () => {
      const { alice, bob } = await openPair(open);
      await alice.close();
      const toAlice = await bob.say(alice.did, ...texts("to alice", 0, 10));
      await bob.became(alice.did, toAlice, "sent");
      await bob.close();
      await alice.again();
      expect(await alice.heard(bob.did, 10)).toEqual(texts("to alice", 0, 10));
      const toBob = await alice.say(bob.did, ...texts("to bob", 0, 10));
      await alice.became(bob.did, toBob, "sent");
      await alice.close();
      await bob.again();
      expect(await bob.heard(alice.did, 10)).toEqual(texts("to bob", 0, 10));
      await alice.again();
      await arrived({ alice, bob }, texts("to bob", 0, 10), toBob);
      await arrived({ alice: bob, bob: alice }, texts("to alice", 0, 10), toAlice);
    });

    it("the connection of each is cut while both speak", async () => {
      const pair = await openPair(open);
      const { alice, bob } = pair;
      const exchanged = exchange(pair, texts("to bob", 0, MESSAGES), texts("to alice", 0, MESSAGES));
      for (const [laptop, { did }] of [
        [bob, alice],
        [alice, bob],
      ] as const) {
        await laptop.heard(did, HALF / 2);
        laptop.cut();
      }
      await exchanged;
    });

    it("the relay restarts while mail waits in it", async (context) => {
      const { stage, alice, bob } = await openPair(open);
      if (!stage.restartRelay) return context.skip("no command is given that restarts the relay");
      const [first] = await alice.say(bob.did, "to bob 0");
      await bob.heard(alice.did, 1);
      await bob.close();
      const ids = await alice.say(bob.did, ...texts("to bob", 1, 10));
      await alice.became(bob.did, ids, "sent");
      await stage.restartRelay();
      await bob.again();
      await arrived({ alice, bob }, texts("to bob", 0, 10), [first ?? "", ...ids]);
    });

    it("the relay restarts while messages are on their way", async (context) => {
      const pair = await openPair(open);
      const { stage, alice, bob } = pair;
      if (!stage.restartRelay) return context.skip("no command is given that restarts the relay");
      const exchanged = exchange(pair, texts("to bob", 0, MESSAGES), texts("to alice", 0, MESSAGES));
      await bob.heard(alice.did, HALF);
      await stage.restartRelay();
      await exchanged;
    });

    it("a stranger that is held is told nothing, and everything once it is let in", async () => {
      const stage = await open();
      const alice = await Laptop.open(stage, { name: "alice" });
      const bob = await Laptop.open(stage, { name: "bob", policy: "verified" });
      const ids = await alice.say(bob.did, ...texts("to bob", 0, 5));
      await bob.until(
        () => "5 messages of a stranger",
        () => [...bob.node.core.messages.received()].length === 5,
      );
      // More than one frame of alice's goes again meanwhile.
      await stage.clock.passes(20_000);
      for (const id of ids) expect(alice.state(bob.did, id)).toBe("sent");
      expect(stage.standIns?.relay.passed.all.filter(({ from }) => from === bob.did) ?? []).toEqual([]);
      await call(bob.node, "accept", { peer: alice.did });
      await arrived({ alice, bob }, texts("to bob", 0, 5), ids);
      const [back] = await bob.say(alice.did, "welcome");
      await bob.became(alice.did, [back ?? ""], "delivered");
    });

    it("an arrival notice that the peer did not sign is not believed", async () => {
      const { alice, bob } = await openPair(open);
      await alice.say(bob.did, "to bob 0");
      await bob.heard(alice.did, 1);
      bob.leave();
      const [id = ""] = await alice.say(bob.did, "to bob 1");
      await alice.became(bob.did, [id], "sent");
      const mallory = identityFromSeed(sha256(utf8.encode("mallory")));
      const knock_id = randomUUID();
      const notice: KnockAccept = {
        v: 1,
        type: "knock_accept",
        from: bob.did,
        to: alice.did,
        id: knock_id,
        knock_id,
        ts: new Date().toISOString(),
        arrived: [id],
        missing: false,
        public_key: base64.encode(bob.node.core.keyring.identity.publicKey),
      };
      const byMallory = base64.encode(sign(mallory, utf8.encode(arrivedText(notice))));
      const ofMallory = { ...notice, public_key: base64.encode(mallory.publicKey) };
      await comes(alice.node, notice);
      await comes(alice.node, { ...notice, signature: byMallory });
      await comes(alice.node, {
        ...ofMallory,
        signature: base64.encode(sign(mallory, utf8.encode(arrivedText(ofMallory)))),
      });
      expect(alice.state(bob.did, id)).toBe("sent");
      bob.comeBack();
      await arrived({ alice, bob }, texts("to bob", 0, 2), [id]);
    });
  });
}

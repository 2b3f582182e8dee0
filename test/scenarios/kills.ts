/** Processes of ours that are killed (SIGKILL) while messages and files are on their way. */
import { randomBytes, randomUUID } from "node:crypto";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Gone, Victim } from "../crash/victim.ts";
import { atTheEnd } from "../ending.ts";
import { openFileWorld } from "../files/world.ts";
import { Laptop, texts } from "./laptop.ts";
import type { PeerKind } from "./peers.ts";
import type { OpenStage } from "./stage.ts";

const MESSAGES = 400;
const KILLED_AT = [80, 180, 280];
const PROGRAM = join(import.meta.dirname, "process.ts");

/** Gives a laptop's home to a process of its own, which can be killed. */
async function handOver(laptop: Laptop): Promise<Victim> {
  const { did, home, name } = laptop;
  await laptop.close();
  const victim = new Victim(name, [home, join(home, "..", "arrived")], join(home, "..", "compiled"), PROGRAM);
  atTheEnd(() => victim.kill());
  await victim.start();
  expect(await victim.call("whoami")).toMatchObject({ did });
  return victim;
}

/** The process ends as it does when a person ends it, and the home is ours again. */
async function handBack(laptop: Laptop, victim: Victim): Promise<void> {
  await victim.close();
  await laptop.again();
}

/** Says these through a process that is killed meanwhile: what it did not take is said again. @returns their ids */
async function sayThrough(victim: Victim, to: string, said: readonly string[]): Promise<string[]> {
  const ids: string[] = [];
  for (const message of said) {
    const id = randomUUID();
    for (let isTaken = false; !isTaken; ) {
      try {
        await victim.start();
        await victim.call("send", { to, message, id });
        isTaken = true;
      } catch (error) {
        if (!(error instanceof Gone)) throw error;
      }
    }
    ids.push(id);
  }
  return ids;
}

export function withKills(open: OpenStage): void {
  describe("one of ours is killed three times", () => {
    it(`while ${MESSAGES} messages come to it: all arrive once and in order, and the sender knows it`, async () => {
      const stage = await open();
      const [alice, bob] = await Promise.all([Laptop.open(stage), Laptop.open(stage)]);
      const { did } = bob;
      const victim = await handOver(bob);
      const saying = alice.say(did, ...texts("to bob", 0, MESSAGES));
      for (const count of KILLED_AT) {
        await alice.until(
          () => `${count} messages to be delivered`,
          () => alice.arrivedAt(did) >= count,
        );
        await victim.kill();
        await victim.start();
      }
      await alice.became(did, await saying, "delivered");
      await handBack(bob, victim);
      expect(await bob.read(alice.did)).toEqual(texts("to bob", 0, MESSAGES));
    });

    it(`while it says ${MESSAGES}: all arrive once and in order, and it knows it`, async () => {
      const stage = await open();
      const [alice, bob] = await Promise.all([Laptop.open(stage), Laptop.open(stage)]);
      const { did } = alice;
      const victim = await handOver(alice);
      const saying = sayThrough(victim, bob.did, texts("to bob", 0, MESSAGES));
      for (const count of KILLED_AT) {
        await bob.heard(did, count);
        await victim.kill();
      }
      const ids = await saying;
      await handBack(alice, victim);
      await alice.became(bob.did, ids, "delivered");
      expect(await bob.read(did)).toEqual(texts("to bob", 0, MESSAGES));
    });

    it("while a file of 5 MB comes to it: the file arrives whole", async () => {
      const stage = await open();
      const bob = await Laptop.open(stage);
      const victim = await handOver(bob);
      const world = await openFileWorld({ places: stage, receiver: { did: bob.did } });
      const file = await world.file("data.bin", randomBytes(5_000_000));
      await world.offer("t", file);
      const outcome = world.acks.next();
      for (let served = 0; ; served++) {
        const pull = await Promise.race([world.pulls.next(), outcome]);
        if (pull.type !== "mesh:file_pull") break;
        await world.give(file, pull);
        if (served % 3 !== 1 || victim.kills === 3) continue;
        await victim.kill();
        await victim.start();
      }
      expect(victim.kills).toBe(3);
      expect(await outcome).toMatchObject({ success: true });
    });
  });
}

/** @param kind of the plain peer with which one of ours speaks that is killed */
export function withKillsBesidePlainPeer(open: OpenStage, kind: PeerKind): void {
  it(`one of ours is killed while it speaks with ${kind.name}: what was on its way may come twice, and all comes`, async () => {
    const stage = await open();
    const [laptop, peer] = await Promise.all([Laptop.open(stage), kind.open(stage)]);
    const { did } = laptop;
    await peer.say(did, "theirs 0");
    await laptop.heard(peer.did, 1);
    const victim = await handOver(laptop);
    const said = texts("ours", 0, 60);
    const saying = sayThrough(victim, peer.did, said);
    for (const count of [15, 30]) {
      await peer.until(() => peer.received.length >= count);
      await victim.kill();
    }
    const ids = await saying;
    await handBack(laptop, victim);
    await laptop.became(peer.did, ids, "sent");
    await peer.until(() => new Set(peer.received).size === said.length);
    expect([...new Set(peer.received)]).toEqual(said);
    await peer.say(did, "theirs 1");
    expect(await laptop.heard(peer.did, 2)).toEqual(["theirs 0", "theirs 1"]);
  });
}

/** A relay that loses what it routes live, in ways that only a stand-in can be asked for. */
import { describe, expect, it } from "vitest";
import type { Frame } from "../reference/relay.ts";
import { Laptop, texts } from "./laptop.ts";
import { openStandIns } from "./stage.ts";

const MESSAGES = 12;
/** Longer than the longest pause between two attempts while a scenario lasts. */
const PAUSE_MS = 6_000;

/** The first frame of each id is lost that is as wanted; the next of that id is not. */
function once(isLost: (frame: Frame, index: number) => boolean): (frame: Frame) => boolean {
  const seen = new Set<string>();
  return (frame) => {
    const { id = "" } = frame;
    if (seen.has(id)) return false;
    seen.add(id);
    return isLost(frame, seen.size - 1);
  };
}

const isNotice = ({ arrived }: Frame) => arrived !== undefined;

describe("between two of ours, at a relay that loses live frames", () => {
  it.each<[string, (frame: Frame) => boolean]>([
    ["each third message", once(({ type }, index) => type === "message" && index % 3 === 0)],
    ["each message, once", once(({ type }) => type === "message")],
    ["knocks, once", once(({ type }) => type === "knock")],
    ["answers to knocks", (frame) => frame.type === "knock_accept" && !isNotice(frame)],
    ["every second arrival notice", once((frame, index) => isNotice(frame) && index % 2 === 0)],
    ["each frame, once, and every second arrival notice", once((frame, index) => !isNotice(frame) || index % 2 === 0)],
  ])("%s: all arrives, once and in order, and is known to have arrived", async (_, loses) => {
    const stage = await openStandIns();
    const alice = await Laptop.open(stage, { name: "alice" });
    const bob = await Laptop.open(stage, { name: "bob" });
    if (stage.standIns) stage.standIns.relay.loses = loses;
    const [toBob, toAlice] = await Promise.all([
      alice.say(bob.did, ...texts("to bob", 0, MESSAGES)),
      bob.say(alice.did, ...texts("to alice", 0, MESSAGES)),
    ]);
    let isDone = false;
    const done = Promise.all([alice.became(bob.did, toBob, "delivered"), bob.became(alice.did, toAlice, "delivered")]);
    const settled = done.finally(() => {
      isDone = true;
    });
    while (!isDone) await stage.clock.passes(PAUSE_MS);
    await settled;
    expect(await bob.read(alice.did)).toEqual(texts("to bob", 0, MESSAGES));
    expect(await alice.read(bob.did)).toEqual(texts("to alice", 0, MESSAGES));
  });
});

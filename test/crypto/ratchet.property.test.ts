/** Two ratchets and a network that loses, repeats, reorders and forges, in schedules that fast-check chooses. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { decodeHeader, encodeHeader, equalBytes, parseRatchet, serializeRatchet } from "../../src/crypto/index.ts";
import { attempt, codeOf, type Frame, flip, newAlice, newBob, type Party, receive, send, snapshot } from "./world.ts";

interface Sent extends Frame {
  readonly text: string;
}

/** One side, what lies in the network for it, and what it has opened. */
interface Side extends Party {
  readonly inbox: Sent[];
  readonly opened: Sent[];
}

const step = fc.record({
  what: fc.constantFrom("send", "send", "send", "deliver", "deliver", "deliver", "lose", "repeat", "forge", "restart"),
  toAlice: fc.boolean(),
  pick: fc.nat(1000),
  bit: fc.nat(100_000),
});

function pickFrom<T>(items: readonly T[], pick: number): T | undefined {
  return items[pick % Math.max(items.length, 1)];
}

function withoutOne(side: Side, frame: Sent): void {
  side.inbox.splice(side.inbox.indexOf(frame), 1);
}

/** Delivers one frame for the first time: it opens, and says what was sent. */
function deliver(side: Side, frame: Sent): void {
  expect(receive(side, frame)).toBe(frame.text);
  side.opened.push(frame);
}

/** Delivers a frame again: it is refused, and nothing has moved. */
function repeat(side: Side, frame: Sent): void {
  const before = snapshot(side);
  const current = side.state.peer !== null && equalBytes(frame.header.dh, side.state.peer);
  expect(codeOf(() => attempt(side, frame))).toBe(current ? "key_used" : "not_authentic");
  expect(snapshot(side)).toEqual(before);
}

/** Delivers a frame with one bit turned over: it is refused, and nothing has moved. */
function forge(side: Side, frame: Sent, bit: number): void {
  const before = snapshot(side);
  const header = encodeHeader(frame.header);
  const at = bit % ((header.length + frame.ciphertext.length) * 8);
  const forged =
    at < header.length * 8
      ? { header: decodeHeader(flip(header, at)), ciphertext: frame.ciphertext }
      : { header: frame.header, ciphertext: flip(frame.ciphertext, at - header.length * 8) };
  expect(["not_authentic", "key_used", "too_many_skipped"]).toContain(codeOf(() => attempt(side, forged)));
  expect(snapshot(side)).toEqual(before);
}

test("whatever the network does, what it delivers opens once, and nothing else moves a ratchet", () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 10, maxLength: 60, size: "max" }), fc.nat(), (steps, seed) => {
      const alice: Side = { ...newAlice(`${seed}`), inbox: [], opened: [] };
      const bob: Side = { ...newBob(`${seed}`), inbox: [], opened: [] };
      let count = 0;

      for (const { what, toAlice, pick, bit } of steps) {
        const [from, to] = toAlice ? [bob, alice] : [alice, bob];
        const waiting = pickFrom(to.inbox, pick);
        const known = pickFrom(to.opened, pick);
        if (what === "send" && from.state.sending === null) {
          expect(codeOf(() => send(from, "too early"))).toBe("not_ready");
        } else if (what === "send") {
          const text = `message ${count++}`;
          to.inbox.push({ ...send(from, text), text });
        } else if (what === "restart") {
          to.state = parseRatchet(JSON.parse(JSON.stringify(serializeRatchet(to.state))));
        } else if (what === "repeat" && known !== undefined) {
          repeat(to, known);
        } else if (what === "forge" && waiting !== undefined) {
          forge(to, waiting, bit);
        } else if (what === "lose" && waiting !== undefined) {
          withoutOne(to, waiting);
        } else if (what === "deliver" && waiting !== undefined) {
          withoutOne(to, waiting);
          deliver(to, waiting);
        }
      }

      // What still lies in the network opens, the latest first; and nothing opens twice.
      for (const side of [bob, alice]) {
        for (const frame of side.inbox.toReversed()) deliver(side, frame);
        for (const frame of side.opened.slice(-3)) repeat(side, frame);
      }
    }),
    { numRuns: 150 },
  );
});

test("a state that went through JSON does exactly what the one that did not does", () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { minLength: 1, maxLength: 10 }), (turns) => {
      const kept = { alice: newAlice(), bob: newBob() };
      const stored = { alice: newAlice(), bob: newBob() };
      for (const fromAlice of [true, ...turns]) {
        const frames = [kept, stored].map(({ alice, bob }) => {
          const [from, to] = fromAlice ? [alice, bob] : [bob, alice];
          const frame = send(from, "same");
          receive(to, frame);
          return frame;
        });
        expect(frames[1]).toEqual(frames[0]);
        for (const party of [stored.alice, stored.bob]) {
          party.state = parseRatchet(JSON.parse(JSON.stringify(serializeRatchet(party.state))));
        }
        expect(snapshot(stored.alice)).toEqual(snapshot(kept.alice));
        expect(snapshot(stored.bob)).toEqual(snapshot(kept.bob));
      }
    }),
    { numRuns: 15 },
  );
});

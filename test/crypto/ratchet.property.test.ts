/** Two ratchets and a network that loses, repeats, reorders and forges, in schedules that fast-check chooses. */
import fc from "fast-check";
import { expect, onTestFinished, test } from "vitest";
import {
  concat,
  decodeHeader,
  encodeHeader,
  equalBytes,
  hex,
  parseRatchet,
  SKIP_MAX,
  serializeRatchet,
  skippedKeyId,
  usePrimitives,
} from "../../src/crypto/index.ts";
import { attempt, codeOf, type Frame, flip, newAlice, newBob, type Party, receive, send, snapshot } from "./world.ts";

interface Sent extends Frame {
  readonly text: string;
}

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

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

/** Delivers a frame with one bit turned over, in header, ciphertext or associated data: it is refused, and nothing has moved. */
function forge(side: Side, frame: Sent, bit: number): void {
  const before = snapshot(side);
  const [header, { ciphertext }, { associatedData }] = [encodeHeader(frame.header), frame, side];
  const whole = concat(header, ciphertext, associatedData);
  const bent = flip(whole, bit % (whole.length * 8));
  const end = header.length + ciphertext.length;
  const forged = {
    header: decodeHeader(bent.subarray(0, header.length)),
    ciphertext: bent.subarray(header.length, end),
  };
  const elsewhere = { ...side, associatedData: bent.subarray(end) };
  expect(["not_authentic", "key_used", "too_many_skipped"]).toContain(codeOf(() => attempt(elsewhere, forged)));
  expect(snapshot(side)).toEqual(before);
}

/** The side as it comes back from a store: its state by way of JSON, its skipped keys by way of text. */
function restart(side: Side): void {
  side.state = parseRatchet(JSON.parse(JSON.stringify(serializeRatchet(side.state))));
  side.skipped = new Map([...side.skipped].map(([id, key]) => [id, hex.decode(hex.encode(key))]));
}

/** Plays a schedule to its end, and gives all that was sent and where both sides stand. */
function play(steps: readonly Step[], seed: number, restarting: boolean) {
  const alice: Side = { ...newAlice(`${seed}`), inbox: [], opened: [] };
  const bob: Side = { ...newBob(`${seed}`), inbox: [], opened: [] };
  const messageKeys = new Set<string>();
  const nonces = new Set<string>();
  const sent: Sent[] = [];

  for (const { what, toAlice, pick, bit } of steps) {
    const [from, to] = toAlice ? [bob, alice] : [alice, bob];
    const waiting = pickFrom(to.inbox, pick);
    const known = pickFrom(to.opened, pick);
    if (what === "send" && from.state.sending === null) {
      expect(codeOf(() => send(from, "too early"))).toBe("not_ready");
    } else if (what === "send") {
      const text = `message ${sent.length}`;
      const { messageKey, nonce, header, ciphertext } = send(from, text);
      messageKeys.add(hex.encode(messageKey));
      nonces.add(hex.encode(nonce));
      const frame = { header, ciphertext, text };
      sent.push(frame);
      to.inbox.push(frame);
    } else if (what === "restart" && restarting) {
      restart(to);
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
    for (const frame of side.inbox.splice(0).toReversed()) deliver(side, frame);
    for (const frame of side.opened.slice(-3)) repeat(side, frame);
  }
  // No key seals two messages, and none that has opened its message is kept.
  expect(messageKeys.size).toBe(sent.length);
  expect(nonces.size).toBe(sent.length);
  for (const side of [bob, alice]) {
    const kept = new Set(side.skipped.keys());
    for (const { header } of side.opened) expect(kept.has(skippedKeyId(header.dh, header.n))).toBe(false);
  }
  return { sent, alice: snapshot(alice), bob: snapshot(bob) };
}

const schedule = fc.array(step, { minLength: 10, maxLength: 60, size: "max" });

test("whatever the network does, what it delivers opens once, and nothing else moves a ratchet", () => {
  fc.assert(
    fc.property(schedule, fc.nat(), (steps, seed) => void play(steps, seed, true)),
    { numRuns: 100 },
  );
});

test("a side that is restored at any point does exactly what one does that was never stored", () => {
  fc.assert(
    fc.property(schedule, fc.nat(), (steps, seed) => {
      expect(play(steps, seed, true)).toEqual(play(steps, seed, false));
    }),
    { numRuns: 25 },
  );
});

test("native primitives and noble's play the same schedule to the same bytes", () => {
  onTestFinished(() => usePrimitives("native"));
  const withPrimitives = (choice: "native" | "noble", steps: readonly Step[], seed: number) => {
    usePrimitives(choice);
    return play(steps, seed, true);
  };
  fc.assert(
    fc.property(schedule, fc.nat(), (steps, seed) => {
      expect(withPrimitives("noble", steps, seed)).toEqual(withPrimitives("native", steps, seed));
    }),
    { numRuns: 5 },
  );
});

/** So many messages from one side to the other that are not delivered yet. */
const messages = (from: Party, count: number): Sent[] =>
  Array.from({ length: count }, (_, at) => ({ ...send(from, `${at}`), text: `${at}` }));

test("a gap as wide as the bound is bridged and fills in any order; one message more is refused and moves nothing", () => {
  const gap = fc.integer({ min: SKIP_MAX - 3, max: SKIP_MAX + 3 });
  fc.assert(
    fc.property(gap, fc.boolean(), fc.infiniteStream(fc.nat()), (width, turning, order) => {
      const [alice, bob] = [newAlice(), newBob()];
      receive(bob, send(alice, "first"));
      // Under a new key of the sender's the gap begins at its first message, otherwise in the middle of a chain.
      if (turning) receive(alice, send(bob, "answer"));
      const skipped = messages(alice, width);
      const last = send(alice, "last");
      const before = snapshot(bob);
      if (width > SKIP_MAX) {
        expect(codeOf(() => attempt(bob, last))).toBe("too_many_skipped");
        expect(snapshot(bob)).toEqual(before);
        for (const frame of skipped.splice(SKIP_MAX)) expect(receive(bob, frame)).toBe(frame.text);
      }
      expect(receive(bob, last)).toBe("last");
      while (skipped.length > 0) {
        const [frame] = skipped.splice(Number(order.next().value) % skipped.length, 1);
        if (frame !== undefined) expect(receive(bob, frame)).toBe(frame.text);
      }
      expect(bob.skipped.size).toBe(0);
    }),
    { numRuns: 15 },
  );
});

test("of more skipped keys than are kept the oldest go, and only they", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 0, max: 60 }), (width, limit) => {
      const [alice, bob] = [newAlice(), newBob()];
      const skipped = messages(alice, width);
      receive(bob, send(alice, "last"), limit);
      expect(bob.skipped.size).toBe(Math.min(width, limit));
      const gone = Math.max(0, width - limit);
      for (const frame of skipped.slice(0, gone)) expect(codeOf(() => attempt(bob, frame, limit))).toBe("key_used");
      for (const frame of skipped.slice(gone)) expect(receive(bob, frame, limit)).toBe(frame.text);
    }),
    { numRuns: 40 },
  );
});

import { describe, expect, test } from "vitest";
import {
  applySkipped,
  COUNTER_MAX,
  CryptoError,
  decrypt,
  encrypt,
  hex,
  initiatorRatchet,
  responderRatchet,
  sealMessage,
  skippedKeyId,
  utf8,
  x25519KeyPair,
} from "../../src/crypto/index.ts";
import { kdfCk } from "../../src/crypto/ratchet/chain-key.ts";
import {
  agreed,
  attempt,
  bobSignedPreKey,
  codeOf,
  type Frame,
  flip,
  newAlice,
  newBob,
  noRandom,
  type Party,
  receive,
  seeded,
  send,
  settled,
  snapshot,
} from "./world.ts";

/** The frame with message number `n`, after all before it were lost. */
function lose(party: Party, count: number): Frame {
  for (let lost = 0; lost < count; lost++) send(party, `lost ${lost}`);
  return send(party, "after the loss");
}

describe("a conversation", () => {
  test("goes to and fro, in runs, from the first message on", () => {
    const [alice, bob] = [newAlice(), newBob()];
    for (let round = 0; round < 4; round++) {
      for (const text of ["one", "two"]) expect(receive(bob, send(alice, text))).toBe(text);
      for (const text of ["three", "", "five"]) expect(receive(alice, send(bob, text))).toBe(text);
    }
    expect(bob.skipped.size).toBe(0);
  });

  test("numbers messages from 0 in each chain, and counts the chain before", () => {
    const [alice, bob] = [newAlice(), newBob()];
    const numbers = (frame: Frame) => [frame.header.pn, frame.header.n];
    const [first, second] = [send(alice, "a"), send(alice, "b")];
    expect([numbers(first), numbers(second)]).toEqual([
      [0, 0],
      [0, 1],
    ]);
    receive(bob, second);
    receive(alice, send(bob, "c"));
    expect(numbers(send(alice, "d"))).toEqual([2, 0]);
  });

  test("turns the ratchet at each change of speaker, and takes randomness only then", () => {
    const [alice, bob] = [newAlice(), newBob()];
    const [first, second] = [send(alice, "a"), send(alice, "b")];
    const before = hex.encode(bob.state.rootKey);
    expect(attempt(bob, first).turned).toBe(true);
    receive(bob, first);
    expect(hex.encode(bob.state.rootKey)).not.toBe(before);
    expect(attempt({ ...bob, random: noRandom }, second).turned).toBe(false);
  });

  test("a responder cannot send before it has received", () => {
    expect(codeOf(() => send(newBob(), "too early"))).toBe("not_ready");
  });

  test("both sides sending at once still understand each other", () => {
    const { alice, bob } = settled();
    const [toBob, toAlice] = [send(alice, "crossing"), send(bob, "crossing too")];
    expect(receive(bob, toBob)).toBe("crossing");
    expect(receive(alice, toAlice)).toBe("crossing too");
    expect(receive(bob, send(alice, "after"))).toBe("after");
  });

  test("bytes come through as they are, 1 MiB of them", () => {
    const { alice, bob } = settled();
    const { associatedData, random } = alice;
    const plaintext = new Uint8Array(1024 * 1024).map((_, at) => at * 7);
    const sent = encrypt(alice.state, { associatedData, plaintext, random });
    expect(Buffer.compare(attempt(bob, sent).plaintext, plaintext)).toBe(0);
  });
});

describe("late and lost messages", () => {
  test("a passed over message opens when it comes, once, and its key is used up", () => {
    const { alice, bob } = settled();
    const late = send(alice, "late");
    receive(bob, send(alice, "early"));
    const id = skippedKeyId(late.header.dh, late.header.n);
    expect([...bob.skipped.keys()]).toEqual([id]);
    const got = attempt({ ...bob, random: noRandom }, late);
    expect(got).toMatchObject({ used: id, skippedAdded: [], turned: false });
    expect(got.state).toBe(bob.state);
    expect(receive(bob, late)).toBe("late");
    expect(bob.skipped.size).toBe(0);
    expect(codeOf(() => attempt(bob, late))).toBe("key_used");
  });

  test("messages of an earlier chain open after the ratchet turned", () => {
    const { alice, bob } = settled();
    const [first, second] = [send(alice, "first"), send(alice, "second")];
    receive(alice, send(bob, "turn"));
    expect(receive(bob, send(alice, "new chain"))).toBe("new chain");
    expect(receive(bob, second)).toBe("second");
    expect(receive(bob, first)).toBe("first");
    expect(bob.skipped.size).toBe(0);
  });

  test("a forged late message does not use up the key", () => {
    const { alice, bob } = settled();
    const late = send(alice, "late");
    receive(bob, send(alice, "early"));
    expect(codeOf(() => attempt(bob, { ...late, ciphertext: flip(late.ciphertext, 100) }))).toBe("not_authentic");
    expect(receive(bob, late)).toBe("late");
  });
});

describe("bounds", () => {
  test("100 messages may be lost in a row, and all of them may still come", () => {
    const { alice, bob } = settled();
    const frames = Array.from({ length: 101 }, (_, at) => send(alice, `${at}`));
    for (const [at, frame] of [...frames.entries()].reverse()) expect(receive(bob, frame)).toBe(`${at}`);
    expect(bob.skipped.size).toBe(0);
  });

  test("101 in a row are too many, in the current chain", () => {
    const { alice, bob } = settled();
    receive(bob, send(alice, "settle the chain"));
    const frame = lose(alice, 101);
    expect(codeOf(() => attempt(bob, frame))).toBe("too_many_skipped");
  });

  test("101 in a row are too many, in a new chain", () => {
    const { alice, bob } = settled();
    receive(alice, send(bob, "turn"));
    expect(codeOf(() => attempt(bob, lose(alice, 101)))).toBe("too_many_skipped");
  });

  test.each([
    [100, "opens"],
    [101, "too_many_skipped"],
  ] as const)("with %d messages lost at the end of the old chain, the new chain's first %s", (lost, outcome) => {
    const { alice, bob } = settled();
    receive(bob, send(alice, "settle the chain"));
    const last = lose(alice, lost - 1);
    receive(alice, send(bob, "turn"));
    const first = send(alice, "first of the new chain");
    if (outcome === "opens") {
      expect(receive(bob, first)).toBe("first of the new chain");
      expect(bob.skipped.size).toBe(lost);
      expect(receive(bob, last)).toBe("after the loss");
    } else {
      expect(codeOf(() => attempt(bob, first))).toBe(outcome);
    }
  });

  test("both bounds hold at once: the old chain's end and the new chain's beginning", () => {
    const { alice, bob } = settled();
    receive(bob, send(alice, "settle the chain"));
    lose(alice, 99);
    receive(alice, send(bob, "turn"));
    const oldKey = bob.state.peer ?? new Uint8Array();
    const frame = lose(alice, 100);
    expect(receive(bob, frame)).toBe("after the loss");
    // Oldest first, which is the order in which a full cache lets them go.
    expect([...bob.skipped.keys()]).toEqual([
      ...Array.from({ length: 100 }, (_, at) => skippedKeyId(oldKey, at + 1)),
      ...Array.from({ length: 100 }, (_, at) => skippedKeyId(frame.header.dh, at)),
    ]);
  });

  test("a header that claims the end of the numbers costs nothing", () => {
    const { alice, bob } = settled();
    const { header, ciphertext } = send(alice, "x");
    const newKey = x25519KeyPair(seeded("new key")(32)).public;
    for (const claim of [
      { ...header, n: COUNTER_MAX },
      { ...header, dh: newKey, n: COUNTER_MAX },
      { ...header, dh: newKey, pn: COUNTER_MAX },
    ]) {
      expect(codeOf(() => attempt(bob, { header: claim, ciphertext }))).toBe("too_many_skipped");
    }
  });

  test("when the cache is full the oldest skipped keys go, and the session goes on", () => {
    const { alice, bob } = settled();
    const old = Array.from({ length: 4 }, (_, at) => send(alice, `old ${at}`));
    expect(receive(bob, send(alice, "first gap"), 5)).toBe("first gap");
    const recent = Array.from({ length: 3 }, (_, at) => send(alice, `recent ${at}`));
    const after = send(alice, "second gap");
    expect(attempt(bob, after, 5).evicted).toEqual([...bob.skipped.keys()].slice(0, 2));
    expect(receive(bob, after, 5)).toBe("second gap");
    expect(bob.skipped.size).toBe(5);
    const outcomes = [...old, ...recent].map((frame) => {
      try {
        return receive(bob, frame, 5);
      } catch (error) {
        return error instanceof CryptoError ? error.code : error;
      }
    });
    expect(outcomes).toEqual(["key_used", "key_used", "old 2", "old 3", "recent 0", "recent 1", "recent 2"]);
  });

  test("a gap wider than the whole cache keeps the newest keys of it", () => {
    const { alice, bob } = settled();
    receive(bob, lose(alice, 6), 4);
    const dh = bob.state.peer ?? new Uint8Array();
    expect([...bob.skipped.keys()]).toEqual([2, 3, 4, 5].map((at) => skippedKeyId(dh, at)));
  });

  test("2000 skipped keys are kept unless said otherwise", () => {
    const { alice, bob } = settled();
    for (let gap = 0; gap < 21; gap++) receive(bob, lose(alice, 100));
    expect(bob.skipped.size).toBe(2000);
  });
});

describe("the end of the numbers", () => {
  test("a chain sends message 2^32 - 2 and no further; the peer's answer renews it", () => {
    const { alice, bob } = settled();
    receive(bob, send(alice, "settle the chain"));
    const chain = { key: new Uint8Array(32).fill(1), n: COUNTER_MAX - 1 };
    alice.state = { ...alice.state, sending: chain };
    bob.state = { ...bob.state, receiving: chain };
    expect(receive(bob, send(alice, "the last one"))).toBe("the last one");
    expect(codeOf(() => send(alice, "one too many"))).toBe("not_ready");
    receive(alice, send(bob, "answer"));
    const next = send(alice, "renewed");
    expect(next.header.pn).toBe(COUNTER_MAX);
    expect(receive(bob, next)).toBe("renewed");
  });

  test("message 2^32 - 1 of another implementation is received", () => {
    const { alice, bob } = settled();
    const chain = { key: new Uint8Array(32).fill(1), n: COUNTER_MAX };
    const header = { dh: alice.state.self.public, pn: 0, n: COUNTER_MAX };
    bob.state = { ...bob.state, peer: header.dh, receiving: chain };
    const { messageKey } = kdfCk(chain);
    const plaintext = utf8.encode("end");
    const ciphertext = sealMessage(messageKey, new Uint8Array(12), bob.associatedData, header, plaintext);
    expect(receive(bob, { header, ciphertext })).toBe("end");
    expect(codeOf(() => receive(bob, { header, ciphertext }))).toBe("key_used");
  });
});

describe("ownership of bytes", () => {
  test("changing what was passed in, afterwards, does not change a state", () => {
    const sharedKey = agreed.bob.sharedKey.slice();
    const peerSignedPreKey = bobSignedPreKey.keyPair.public.slice();
    const alice: Party = {
      ...newAlice(),
      state: initiatorRatchet({ sharedKey, peerSignedPreKey, random: seeded("a") }),
    };
    const bob: Party = {
      ...newBob(),
      state: responderRatchet({ sharedKey, signedPreKeyPair: bobSignedPreKey.keyPair }),
    };
    const before = [snapshot(alice), snapshot(bob)];
    sharedKey.fill(0);
    peerSignedPreKey.fill(0);
    expect([snapshot(alice), snapshot(bob)]).toEqual(before);
    const { header, ciphertext } = send(alice, "hello");
    const passed = { header: { ...header, dh: header.dh.slice() }, ciphertext: ciphertext.slice() };
    expect(receive(bob, passed)).toBe("hello");
    passed.header.dh.fill(0);
    expect(receive(bob, send(alice, "still here"))).toBe("still here");
  });

  test("randomness or shared keys of the wrong length are refused", () => {
    const signedPreKeyPair = bobSignedPreKey.keyPair;
    const peerSignedPreKey = signedPreKeyPair.public;
    const sharedKey = new Uint8Array(32);
    const short = () => new Uint8Array(8);
    expect(codeOf(() => responderRatchet({ sharedKey: short(), signedPreKeyPair }))).toBe("key_invalid");
    expect(codeOf(() => initiatorRatchet({ sharedKey: short(), peerSignedPreKey, random: seeded("x") }))).toBe(
      "key_invalid",
    );
    expect(codeOf(() => initiatorRatchet({ sharedKey, peerSignedPreKey, random: short }))).toBe("key_invalid");
    expect(codeOf(() => send({ ...newAlice(), random: short }, "x"))).toBe("key_invalid");
    const frame = send(newAlice(), "x");
    const { state, skipped, associatedData } = newBob();
    expect(codeOf(() => decrypt(state, skipped, { ...frame, associatedData, random: short }))).toBe("key_invalid");
  });

  test("applySkipped gives the same map when nothing changes, and never changes the one it was given", () => {
    const skipped = new Map([["a:1", Uint8Array.of(1)]]);
    expect(applySkipped(skipped, { skippedAdded: [], evicted: [] })).toBe(skipped);
    const next = applySkipped(skipped, { used: "a:1", skippedAdded: [["a:2", Uint8Array.of(2)]], evicted: [] });
    expect([...next.keys()]).toEqual(["a:2"]);
    expect([...skipped.keys()]).toEqual(["a:1"]);
  });
});

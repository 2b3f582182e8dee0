/** What is not the message that was sent, or comes a second time: refused, and nothing has moved. */
import { describe, expect, test } from "vitest";
import { decodeHeader, encodeHeader, hex } from "../../src/crypto/index.ts";
import { X25519_LOW_ORDER } from "../vectors/x25519-low-order.ts";
import { attempt, bobSignedPreKey, codeOf, flip, newAlice, receive, send, settled, snapshot } from "./world.ts";

describe("duplicates and forgeries", () => {
  test("a duplicate of the current chain is key_used; of an earlier chain it is not authentic; neither moves anything", () => {
    const { alice, bob } = settled();
    const first = send(alice, "first");
    receive(bob, first);
    const before = snapshot(bob);
    expect(codeOf(() => attempt(bob, first))).toBe("key_used");
    expect(snapshot(bob)).toEqual(before);

    receive(alice, send(bob, "turn"));
    receive(bob, send(alice, "new chain"));
    const later = snapshot(bob);
    expect(codeOf(() => attempt(bob, first))).toBe("not_authentic");
    expect(snapshot(bob)).toEqual(later);
  });

  test("no bit of header or ciphertext can change: of a late message, in the chain, or at its turn", () => {
    const { alice, bob } = settled();
    const late = send(alice, "z");
    receive(bob, send(alice, "settle"));
    const inChain = send(alice, "x");
    receive(alice, send(bob, "turn"));
    const turning = send(alice, "y");
    const before = snapshot(bob);
    for (const { header, ciphertext } of [late, inChain, turning]) {
      const encoded = encodeHeader(header);
      for (let bit = 0; bit < encoded.length * 8; bit++) {
        const forged = { header: decodeHeader(flip(encoded, bit)), ciphertext };
        expect(["not_authentic", "too_many_skipped", "key_used"]).toContain(codeOf(() => attempt(bob, forged)));
      }
      for (let bit = 0; bit < ciphertext.length * 8; bit += 3) {
        expect(codeOf(() => attempt(bob, { header, ciphertext: flip(ciphertext, bit) }))).toBe("not_authentic");
      }
    }
    expect(snapshot(bob)).toEqual(before);
    expect(receive(bob, turning)).toBe("y");
    expect(receive(bob, inChain)).toBe("x");
    expect(receive(bob, late)).toBe("z");
  });

  test("a cut ciphertext is not authentic", () => {
    const { alice, bob } = settled();
    const { header, ciphertext } = send(alice, "cut");
    for (const length of [0, 11, 12, 27, 28, ciphertext.length - 1]) {
      expect(codeOf(() => attempt(bob, { header, ciphertext: ciphertext.subarray(0, length) }))).toBe("not_authentic");
    }
  });

  test("a message of another session is not authentic", () => {
    const { alice, bob } = settled();
    const frame = send(alice, "mine");
    const elsewhere = { ...bob, associatedData: flip(bob.associatedData, 0) };
    expect(codeOf(() => attempt(elsewhere, frame))).toBe("not_authentic");
  });

  test("one's own message sent back is not authentic", () => {
    const { alice, bob } = settled();
    expect(codeOf(() => attempt(alice, send(alice, "echo")))).toBe("not_authentic");
    expect(codeOf(() => attempt(bob, send(bob, "echo")))).toBe("not_authentic");
  });

  test("nothing comes to a fresh initiator under the responder's signed prekey", () => {
    const header = { dh: bobSignedPreKey.keyPair.public, pn: 0, n: 0 };
    expect(codeOf(() => attempt(newAlice(), { header, ciphertext: new Uint8Array(40) }))).toBe("not_authentic");
  });

  test.each(X25519_LOW_ORDER)("the low order ratchet key %s is refused", (low) => {
    const { alice, bob } = settled();
    const { header, ciphertext } = send(alice, "x");
    for (const dh of [hex.decode(low), flip(hex.decode(low), 255)]) {
      expect(codeOf(() => attempt(bob, { header: { ...header, dh }, ciphertext }))).toBe("header_invalid");
    }
  });

  test("a header out of bounds is refused", () => {
    const { alice, bob } = settled();
    const { header, ciphertext } = send(alice, "x");
    for (const bad of [{ dh: new Uint8Array(31) }, { n: -1 }, { n: 2 ** 32 }, { pn: 1.5 }, { pn: 2 ** 32 }]) {
      expect(codeOf(() => attempt(bob, { header: { ...header, ...bad }, ciphertext }))).toBe("header_invalid");
    }
  });
});

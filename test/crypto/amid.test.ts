/** base58btc, and the older name of a key. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { base58 } from "../../src/crypto/base58.ts";
import { amidOf, CryptoError, didOf, didOfAmid, hex, identityFromSeed, utf8 } from "../../src/crypto/index.ts";

describe("base58btc", () => {
  // draft-msporny-base58-03, section 5.
  it.each([
    [utf8.encode("Hello World!"), "2NEpo7TZRRrLZSi2U"],
    [
      utf8.encode("The quick brown fox jumps over the lazy dog."),
      "USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z",
    ],
    [hex.decode("0000287fb4cd"), "11233QC4"],
  ])("has the published values", (bytes, text) => {
    const encoding = base58(bytes.length);
    expect(encoding.encode(bytes)).toBe(text);
    expect([...encoding.decode(text)]).toEqual([...bytes]);
  });

  it("gives back what it took, zeros included", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 20, maxLength: 20 }), fc.nat(20), (bytes, zeros) => {
        bytes.fill(0, 0, zeros);
        const encoding = base58(20);
        expect([...encoding.decode(encoding.encode(bytes))]).toEqual([...bytes]);
      }),
    );
  });

  it("takes no other text for the same bytes, and nothing of another size", () => {
    const encoding = base58(20);
    const text = encoding.encode(new Uint8Array(20).fill(7));
    for (const wrong of [
      "",
      "1",
      `1${text}`,
      text.slice(1),
      `${text}2`,
      ` ${text}`,
      text.replace(/.$/, "0"),
      "z".repeat(28),
      "1".repeat(21),
      "l".repeat(27),
      "2".repeat(5_000),
    ])
      expect(() => encoding.decode(wrong), wrong).toThrow(CryptoError);
    fc.assert(
      fc.property(fc.string({ maxLength: 40 }), (any) => {
        try {
          expect(encoding.encode(encoding.decode(any))).toBe(any);
        } catch (error) {
          expect(error).toBeInstanceOf(CryptoError);
        }
      }),
    );
  });
});

describe("an AMID", () => {
  const { publicKey } = identityFromSeed(new Uint8Array(32).fill(1));

  it("names the key that its DID names", () => {
    expect(didOfAmid(amidOf(publicKey))).toBe(didOf(publicKey));
    expect(() => amidOf(publicKey.subarray(1))).toThrow(CryptoError);
  });

  it("is no other text", () => {
    for (const text of [didOf(publicKey), "", "did", `${amidOf(publicKey)}1`]) expect(didOfAmid(text)).toBeUndefined();
  });
});

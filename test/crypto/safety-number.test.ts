import { describe, expect, it } from "vitest";
import { hex, safetyNumber } from "../../src/crypto/index.ts";

describe("a safety number", () => {
  // The known answer of libsignal's own tests (rust/protocol/src/fingerprint.rs), whose keys carry a type byte.
  const alice = {
    name: "+14152222222",
    key: hex.decode("0506863bc66d02b40d27b8d49ca7c09e9239236f9d7d25d6fcca5ce13c7064d868"),
  };
  const bob = {
    name: "+14153333333",
    key: hex.decode("05f781b6fb32fed9ba1cf2de978d4d5da28dc34046ae814402b5c0dbd96fda907b"),
  };

  it("is what Signal computes", () => {
    expect(safetyNumber(alice, bob)).toBe("300354477692869396892869876765458257569162576843440918079131");
  });
  it("is the same at both ends", () => {
    expect(safetyNumber(bob, alice)).toBe(safetyNumber(alice, bob));
  });
  it("is another one for another key, or another name", () => {
    const other = new Uint8Array(alice.key);
    other[32] = (other[32] ?? 0) ^ 1;
    expect(safetyNumber({ ...alice, key: other }, bob)).not.toBe(safetyNumber(alice, bob));
    expect(safetyNumber({ ...alice, name: "+14152222223" }, bob)).not.toBe(safetyNumber(alice, bob));
  });
});

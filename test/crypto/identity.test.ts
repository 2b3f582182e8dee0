import { createHash } from "node:crypto";
import { ED25519_TORSION_SUBGROUP } from "@noble/curves/ed25519.js";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  DID_PATTERN,
  dhPublicOf,
  didOf,
  hex,
  identityFromSeed,
  isDid,
  sign,
  utf8,
  verify,
  x25519KeyPair,
} from "../../src/crypto/index.ts";
import ed25519 from "../vectors/rfc8032-ed25519.json" with { type: "json" };
import { alice, bob, codeOf, flip } from "./world.ts";

const seed = fc.uint8Array({ minLength: 32, maxLength: 32 });

describe("Ed25519", () => {
  test("a signature is for one key and one message", () => {
    const message = utf8.encode("the message");
    const signature = sign(alice, message);
    expect(verify(alice.publicKey, message, signature)).toBe(true);
    expect(verify(bob.publicKey, message, signature)).toBe(false);
    expect(verify(alice.publicKey, utf8.encode("another"), signature)).toBe(false);
    for (let bit = 0; bit < 512; bit += 7) expect(verify(alice.publicKey, message, flip(signature, bit))).toBe(false);
  });

  test("verify never throws, whatever it is given", () => {
    const any = fc.oneof(fc.uint8Array({ maxLength: 80 }), seed, fc.uint8Array({ minLength: 64, maxLength: 64 }));
    fc.assert(
      fc.property(any, any, any, (publicKey, message, signature) => {
        expect(verify(publicKey, message, signature)).toBe(false);
      }),
      { numRuns: 200 },
    );
  });

  test("a key of small order signs nothing", () => {
    // R = the key itself, S = 0 satisfies the cofactored equation for every message under such a key.
    for (const point of ED25519_TORSION_SUBGROUP) {
      const forged = hex.decode(point + "00".repeat(32));
      expect(verify(hex.decode(point), utf8.encode("anything"), forged)).toBe(false);
    }
  });
});

describe("identity", () => {
  test("its X25519 key is the clamped hash of the seed, and the Montgomery form of its Ed25519 key", () => {
    fc.assert(
      fc.property(seed, (bytes) => {
        const identity = identityFromSeed(bytes);
        const secret = new Uint8Array(createHash("sha512").update(bytes).digest().subarray(0, 32));
        secret[0] = (secret[0] ?? 0) & 248;
        secret[31] = ((secret[31] ?? 0) & 127) | 64;
        expect(identity.dhSecret).toEqual(secret);
        expect(identity.dhPublic).toEqual(x25519KeyPair(secret).public);
        expect(dhPublicOf(identity.publicKey)).toEqual(identity.dhPublic);
      }),
      { numRuns: 25 },
    );
  });

  test("is its own: changing the seed bytes afterwards does not change it", () => {
    const bytes = new Uint8Array(32).fill(5);
    const identity = identityFromSeed(bytes);
    bytes.fill(0);
    expect(identity).toEqual(identityFromSeed(new Uint8Array(32).fill(5)));
  });

  test.each([0, 31, 33, 64])("a seed of %d bytes is refused", (length) => {
    expect(codeOf(() => identityFromSeed(new Uint8Array(length)))).toBe("key_invalid");
  });

  test("dhPublicOf refuses points of small order", () => {
    for (const point of ED25519_TORSION_SUBGROUP)
      expect(codeOf(() => dhPublicOf(hex.decode(point)))).toBe("key_invalid");
  });

  test.each([
    ["too short", "00".repeat(31)],
    ["too long", "00".repeat(33)],
    ["no point of the curve", `02${"00".repeat(31)}`],
    ["p + 3, a second encoding of y = 3", `f0${"ff".repeat(30)}7f`],
  ])("dhPublicOf refuses bytes that are %s", (_, text) => {
    expect(codeOf(() => dhPublicOf(hex.decode(text)))).toBe("key_invalid");
  });
});

describe("DID", () => {
  test("is did:mesh: and the first 32 hex digits of SHA-256 over the Ed25519 key", () => {
    for (const { seed: text, publicKey } of ed25519.vectors) {
      const digest = createHash("sha256").update(Buffer.from(publicKey, "hex")).digest("hex");
      const { did } = identityFromSeed(hex.decode(text));
      expect(did).toBe(`did:mesh:${digest.slice(0, 32)}`);
      expect(did).toBe(didOf(hex.decode(publicKey)));
      expect(did).toHaveLength(41);
      expect(did).toMatch(DID_PATTERN);
      expect(isDid(did)).toBe(true);
    }
  });

  test("of anything but 32 bytes is refused", () => {
    expect(codeOf(() => didOf(new Uint8Array(31)))).toBe("key_invalid");
  });

  const id = "0123456789abcdef0123456789abcdef";

  test.each([
    `did:agentmesh:${id}`,
    `did:mesh:${id.toUpperCase()}`,
    `did:mesh:${id}0`,
    `did:mesh:${id.slice(1)}`,
    ` did:mesh:${id}`,
    `did:mesh:${id}\n`,
    "",
  ])("isDid refuses %j: the wire has one form", (text) => {
    expect(isDid(text)).toBe(false);
  });
});

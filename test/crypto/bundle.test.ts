import { ED25519_TORSION_SUBGROUP } from "@noble/curves/ed25519.js";
import { describe, expect, test } from "vitest";
import {
  type CryptoErrorCode,
  didOf,
  generateOneTimePreKeys,
  generateSignedPreKey,
  hex,
  type PreKeyBundle,
  sign,
  verify,
  verifyBundle,
  x25519KeyPair,
} from "../../src/crypto/index.ts";
import { alice, bob, bobBundle, bobOneTimePreKey, bobSignedPreKey, codeOf, flip, seeded } from "./world.ts";

const whole: PreKeyBundle = {
  ...bobBundle,
  oneTimePreKey: { keyId: bobOneTimePreKey.keyId, publicKey: bobOneTimePreKey.keyPair.public },
};

describe("prekeys", () => {
  test("a signed prekey is signed over its 32 raw bytes", () => {
    const { keyId, keyPair, signature } = generateSignedPreKey(bob, 3, seeded("one"));
    expect(keyId).toBe(3);
    expect(keyPair).toEqual(x25519KeyPair(keyPair.secret));
    expect(verify(bob.publicKey, keyPair.public, signature)).toBe(true);
  });

  test("one-time prekeys count their ids on from the first, and no two are equal", () => {
    const keys = generateOneTimePreKeys(90, 5, seeded("five"));
    expect(keys.map((key) => key.keyId)).toEqual([90, 91, 92, 93, 94]);
    expect(new Set(keys.map((key) => hex.encode(key.keyPair.public))).size).toBe(5);
    expect(generateOneTimePreKeys(90, 0, seeded("none"))).toEqual([]);
  });

  test.each([-1, 0.5, Number.NaN, Number.MAX_SAFE_INTEGER + 1])("%d is no key id", (keyId) => {
    expect(codeOf(() => generateSignedPreKey(bob, keyId, seeded("bad")))).toBe("key_invalid");
    expect(codeOf(() => generateOneTimePreKeys(keyId, 2, seeded("bad")))).toBe("key_invalid");
    expect(codeOf(() => verifyBundle(bob.did, signed({ keyId })))).toBe("bundle_invalid");
  });

  test("randomness of the wrong length makes no key", () => {
    expect(codeOf(() => generateSignedPreKey(bob, 1, () => new Uint8Array(16)))).toBe("key_invalid");
  });
});

/** Bob's bundle with another signed prekey. */
function signed(change: Partial<PreKeyBundle["signedPreKey"]>): PreKeyBundle {
  return { ...whole, signedPreKey: { ...whole.signedPreKey, ...change } };
}

describe("verifyBundle", () => {
  test("believes a true bundle, with and without a one-time prekey", () => {
    verifyBundle(bob.did, bobBundle);
    verifyBundle(bob.did, whole);
    verifyBundle(bob.did, { ...bobBundle, oneTimePreKey: undefined });
    verifyBundle(bob.did, signed({ keyId: 0 }));
    verifyBundle(bob.did, signed({ keyId: Number.MAX_SAFE_INTEGER }));
  });

  const otherKey = x25519KeyPair(seeded("other")(32)).public;
  const [torsion = ""] = ED25519_TORSION_SUBGROUP;
  const smallOrder = hex.decode(torsion);
  const short = (bytes: Uint8Array) => bytes.subarray(1);
  const long = (bytes: Uint8Array) => Uint8Array.of(...bytes, 0);
  const { publicKey, signature } = whole.signedPreKey;

  const corruptions: readonly [string, PreKeyBundle, CryptoErrorCode][] = [
    ["a short X25519 key", { ...whole, identityKey: short(whole.identityKey) }, "bundle_invalid"],
    ["a long X25519 key", { ...whole, identityKey: long(whole.identityKey) }, "bundle_invalid"],
    ["a short Ed25519 key", { ...whole, identityKeyEd: short(whole.identityKeyEd) }, "bundle_invalid"],
    ["a long Ed25519 key", { ...whole, identityKeyEd: long(whole.identityKeyEd) }, "bundle_invalid"],
    ["a short signed prekey", signed({ publicKey: short(publicKey) }), "bundle_invalid"],
    ["a long signed prekey", signed({ publicKey: long(publicKey) }), "bundle_invalid"],
    ["a short signature", signed({ signature: short(signature) }), "bundle_invalid"],
    ["a long signature", signed({ signature: long(signature) }), "bundle_invalid"],
    ["a negative signed prekey id", signed({ keyId: -1 }), "bundle_invalid"],
    [
      "a short one-time prekey",
      { ...whole, oneTimePreKey: { keyId: 1, publicKey: short(publicKey) } },
      "bundle_invalid",
    ],
    ["a fractional one-time prekey id", { ...whole, oneTimePreKey: { keyId: 1.5, publicKey } }, "bundle_invalid"],
    ["another agent's DID", { ...whole, did: alice.did }, "did_mismatch"],
    ["the alias form of the DID", { ...whole, did: bob.did.replace("mesh", "agentmesh") }, "did_mismatch"],
    ["another agent's Ed25519 key", { ...whole, identityKeyEd: alice.publicKey }, "did_mismatch"],
    ["one bit of the Ed25519 key changed", { ...whole, identityKeyEd: flip(bob.publicKey, 9) }, "did_mismatch"],
    ["another agent's X25519 key", { ...whole, identityKey: alice.dhPublic }, "identity_mismatch"],
    ["one bit of the X25519 key changed", { ...whole, identityKey: flip(bob.dhPublic, 255) }, "identity_mismatch"],
    ["another signed prekey under the old signature", signed({ publicKey: otherKey }), "signature_invalid"],
    ["one bit of the signed prekey changed", signed({ publicKey: flip(publicKey, 255) }), "signature_invalid"],
    ["one bit of the signature changed", signed({ signature: flip(signature, 3) }), "signature_invalid"],
    ["a signature of another agent", signed({ signature: sign(alice, publicKey) }), "signature_invalid"],
  ];

  test.each(corruptions)("refuses %s", (_, bundle, code) => {
    expect(codeOf(() => verifyBundle(bob.did, bundle))).toBe(code);
  });

  test("refuses a true bundle of someone else", () => {
    expect(codeOf(() => verifyBundle(alice.did, whole))).toBe("did_mismatch");
  });

  test("refuses an Ed25519 key of small order, even under its own DID", () => {
    const did = didOf(smallOrder);
    expect(codeOf(() => verifyBundle(did, { ...whole, did, identityKeyEd: smallOrder }))).toBe("key_invalid");
  });

  test("a registry cannot put its own keys under Bob's DID, however consistent they are", () => {
    const forged = generateSignedPreKey(alice, bobSignedPreKey.keyId, seeded("forged"));
    const bundle: PreKeyBundle = {
      did: bob.did,
      identityKey: alice.dhPublic,
      identityKeyEd: alice.publicKey,
      signedPreKey: { keyId: forged.keyId, publicKey: forged.keyPair.public, signature: forged.signature },
    };
    expect(codeOf(() => verifyBundle(bob.did, bundle))).toBe("did_mismatch");
  });
});

import { describe, expect, test } from "vitest";
import {
  associatedData,
  equalBytes,
  hex,
  identityFromSeed,
  initiate,
  type Kdf,
  type PreKeyBundle,
  respond,
  utf8,
  x3dhKdf,
} from "../../src/crypto/index.ts";
import { X3DH_KDF } from "../vectors/wire.ts";
import { X25519_LOW_ORDER } from "../vectors/x25519-low-order.ts";
import { alice, bob, bobBundle, bobOneTimePreKey, bobSignedPreKey, codeOf, ephemeral, seeded } from "./world.ts";

const withOneTime: PreKeyBundle = {
  ...bobBundle,
  oneTimePreKey: { keyId: bobOneTimePreKey.keyId, publicKey: bobOneTimePreKey.keyPair.public },
};

const knock = {
  identity: bob,
  signedPreKey: bobSignedPreKey,
  initiatorDid: alice.did,
  initiatorIdentityKey: alice.dhPublic,
  ephemeralKey: ephemeral.public,
};

describe("the key derivation", () => {
  test.each(["current", "npm4"] as const)("gives the known answer of the %s clients", (kdf) => {
    expect(hex.encode(x3dhKdf(hex.decode(X3DH_KDF.dhs), kdf))).toBe(X3DH_KDF[kdf]);
  });

  test("is the current one unless said otherwise", () => {
    expect(hex.encode(x3dhKdf(hex.decode(X3DH_KDF.dhs)))).toBe(X3DH_KDF.current);
  });
});

describe("the associated data", () => {
  test("is both DIDs with a bar between, then both X25519 identity keys, the initiator first: 147 bytes", () => {
    const data = associatedData(alice.did, bob.did, alice.dhPublic, bob.dhPublic);
    expect(data).toHaveLength(147);
    expect(utf8.decode(data.subarray(0, 83))).toBe(`${alice.did}|${bob.did}`);
    expect(data.subarray(83, 115)).toEqual(alice.dhPublic);
    expect(data.subarray(115)).toEqual(bob.dhPublic);
  });
});

describe("the agreement", () => {
  const kdfs: readonly (Kdf | undefined)[] = ["current", "npm4", undefined];

  test.each(kdfs)("both sides agree without a one-time prekey, KDF %s", (kdf) => {
    const ours = initiate({ identity: alice, bundle: bobBundle, ephemeral, kdf });
    const theirs = respond({ ...knock, kdf });
    expect(theirs).toEqual({ sharedKey: ours.sharedKey, associatedData: ours.associatedData });
    expect(ours.ephemeralPublic).toEqual(ephemeral.public);
    expect(ours).not.toHaveProperty("oneTimeKeyId");
  });

  test.each(kdfs)("both sides agree with a one-time prekey, KDF %s", (kdf) => {
    const ours = initiate({ identity: alice, bundle: withOneTime, ephemeral, kdf });
    const theirs = respond({ ...knock, oneTimePreKey: bobOneTimePreKey, kdf });
    expect(theirs).toEqual({ sharedKey: ours.sharedKey, associatedData: ours.associatedData });
    expect(ours.oneTimeKeyId).toBe(bobOneTimePreKey.keyId);
  });

  test("any difference in what went in is a different key", () => {
    const other = seeded("other");
    const keys = [
      initiate({ identity: alice, bundle: bobBundle, ephemeral }),
      initiate({ identity: alice, bundle: bobBundle, ephemeral, kdf: "npm4" }),
      initiate({ identity: alice, bundle: withOneTime, ephemeral }),
      initiate({ identity: identityFromSeed(other(32)), bundle: bobBundle, ephemeral }),
      respond({ ...knock, ephemeralKey: bob.dhPublic }),
    ].map(({ sharedKey }) => hex.encode(sharedKey));
    expect(new Set(keys).size).toBe(keys.length);
  });

  test("the initiator agrees on nothing under a bundle that does not verify", () => {
    const mallory = identityFromSeed(seeded("mallory")(32));
    const begin = (bundle: PreKeyBundle) => codeOf(() => initiate({ identity: alice, bundle, ephemeral }));
    expect(begin({ ...bobBundle, did: mallory.did })).toBe("did_mismatch");
    expect(begin({ ...bobBundle, identityKeyEd: mallory.publicKey })).toBe("did_mismatch");
    expect(begin({ ...bobBundle, identityKey: mallory.dhPublic })).toBe("identity_mismatch");
    const signedPreKey = { ...bobBundle.signedPreKey, publicKey: mallory.dhPublic };
    expect(begin({ ...bobBundle, signedPreKey })).toBe("signature_invalid");
  });

  test.each(X25519_LOW_ORDER)("neither side agrees with the low order key %s", (low) => {
    const publicKey = hex.decode(low);
    const bundle: PreKeyBundle = { ...bobBundle, oneTimePreKey: { keyId: 1, publicKey } };
    expect(codeOf(() => initiate({ identity: alice, bundle, ephemeral }))).toBe("key_invalid");
    expect(codeOf(() => respond({ ...knock, ephemeralKey: publicKey }))).toBe("key_invalid");
    expect(codeOf(() => respond({ ...knock, initiatorIdentityKey: publicKey }))).toBe("key_invalid");
  });

  test("a knock with keys of the wrong size is refused", () => {
    expect(codeOf(() => respond({ ...knock, ephemeralKey: new Uint8Array(31) }))).toBe("key_invalid");
    expect(codeOf(() => respond({ ...knock, initiatorIdentityKey: new Uint8Array(33) }))).toBe("key_invalid");
  });

  test("without the one-time prekey that the initiator used, the responder comes to another key", () => {
    const ours = initiate({ identity: alice, bundle: withOneTime, ephemeral });
    expect(equalBytes(respond(knock).sharedKey, ours.sharedKey)).toBe(false);
  });
});

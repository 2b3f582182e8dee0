/** Wycheproof's vectors against our wrappers, which are what the protocol calls, with native primitives and without. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  aeadOpen,
  aeadSeal,
  CryptoError,
  concat,
  dhPublicOf,
  hex,
  hkdfSha256,
  hmacSha256,
  usePrimitives,
  utf8,
  verify,
  x25519,
  xaeadOpen,
  xaeadSeal,
} from "../../src/crypto/index.ts";
import { proven } from "../../src/crypto/primitives/chosen.ts";
import { native } from "../../src/crypto/primitives/native.ts";
import { seal, unseal } from "../../src/store/seal.ts";
import { codeOf } from "../crypto/world.ts";
import * as wycheproof from "./wycheproof.ts";

/** Runs the vectors of a file twice. */
function both(file: wycheproof.File, tests: () => void): void {
  describe.skipIf(!wycheproof.present(file)).each(["native", "noble"] as const)(
    `Wycheproof ${file}, %s primitives`,
    (choice) => {
      beforeAll(() => usePrimitives(choice));
      afterAll(() => usePrimitives("native"));
      tests();
    },
  );
}

/** What an action gives, in hex, or the code of its refusal. */
function outcome(action: () => Uint8Array): string {
  try {
    return hex.encode(action());
  } catch (error) {
    if (error instanceof CryptoError) return error.code;
    throw error;
  }
}

both("ed25519.json", () => {
  test("every valid signature verifies and no invalid one does", () => {
    for (const { publicKey, tests } of wycheproof.loadEd25519()) {
      for (const { tcId, msg, sig, result } of tests) {
        expect(["valid", "invalid"]).toContain(result);
        expect({ tcId, verifies: verify(publicKey.pk, msg, sig) }).toEqual({ tcId, verifies: result === "valid" });
      }
    }
  });

  test("every public key has a Montgomery form", () => {
    for (const { publicKey } of wycheproof.loadEd25519()) expect(dhPublicOf(publicKey.pk)).toHaveLength(32);
  });
});

both("x25519.json", () => {
  /**
   * "acceptable" leaves the choice to the library, and the flags say what is odd. Ours is RFC 7748's: keys on the twist and in
   * other encodings are computed with (section 5: "MUST accept"), and a shared secret of zeros is refused (section 6.1).
   */
  const COMPUTED = ["Twist", "NonCanonicalPublic"];

  test("every shared secret is the right one, and none is all zero", () => {
    const seen = { valid: 0, invalid: 0, acceptable: 0, refused: 0 };
    for (const { tests } of wycheproof.loadX25519()) {
      for (const { tcId, private: secret, public: peer, shared, flags, result } of tests) {
        seen[result]++;
        const got = { tcId, shared: outcome(() => x25519(secret, peer)) };
        if (flags.includes("ZeroSharedSecret")) {
          expect({ tcId, result }).toEqual({ tcId, result: "acceptable" });
          expect(got).toEqual({ tcId, shared: "key_invalid" });
          seen.refused++;
        } else {
          const known = result === "valid" || COMPUTED.some((flag) => flags.includes(flag));
          expect({ tcId, flags, known }).toEqual({ tcId, flags, known: true });
          expect(got).toEqual({ tcId, shared: hex.encode(shared) });
        }
      }
    }
    expect(seen).toEqual({ ...seen, invalid: 0 });
    expect(seen.refused).toBeGreaterThan(0);
    expect(seen.acceptable).toBeGreaterThan(seen.refused);
  });
});

both("hkdf_sha256.json", () => {
  test("every output is the right one, and too long ones are refused", () => {
    for (const { tests } of wycheproof.loadHkdf()) {
      for (const { tcId, salt, ikm, info, size, okm, result } of tests) {
        expect({ tcId, okm: outcome(() => hkdfSha256(salt, ikm, info, size)) }).toEqual({
          tcId,
          okm: result === "valid" ? hex.encode(okm) : "key_invalid",
        });
      }
    }
  });
});

both("hmac_sha256.json", () => {
  test("every tag is the right one, and no changed tag is", () => {
    for (const { tagSize, tests } of wycheproof.loadHmac()) {
      for (const { tcId, key, msg, tag, result } of tests) {
        const ours = hmacSha256(key, msg).subarray(0, tagSize / 8);
        expect({ tcId, equal: hex.encode(ours) === hex.encode(tag) }).toEqual({ tcId, equal: result === "valid" });
      }
    }
  });
});

both("chacha20_poly1305.json", () => {
  test("seals and opens every valid vector, and opens no invalid one", () => {
    for (const { tests } of wycheproof.loadAead("chacha20_poly1305.json")) {
      for (const { tcId, key, iv, aad, msg, ct, tag, flags, result } of tests) {
        const sealed = concat(ct, tag);
        const refusal = flags.includes("InvalidNonceSize") ? "key_invalid" : "not_authentic";
        const opened = { tcId, msg: outcome(() => aeadOpen(key, iv, sealed, aad)) };
        expect(opened).toEqual({ tcId, msg: result === "valid" ? hex.encode(msg) : refusal });
        const made = outcome(() => aeadSeal(key, iv, msg, aad));
        if (result === "valid") expect({ tcId, made }).toEqual({ tcId, made: hex.encode(sealed) });
        else if (refusal === "key_invalid") expect({ tcId, made }).toEqual({ tcId, made: refusal });
        else expect({ tcId, made }).not.toEqual({ tcId, made: hex.encode(sealed) });
      }
    }
  });
});

// The suite takes the native one from a size on that most vectors do not reach.
describe.skipIf(!wycheproof.present("chacha20_poly1305.json"))(
  "ChaCha20-Poly1305 by node:crypto, at every size",
  () => {
    test.skipIf(!proven(native).has("chacha20poly1305"))("seals and opens as the vectors say", () => {
      for (const { tests } of wycheproof.loadAead("chacha20_poly1305.json")) {
        for (const { tcId, key, iv, aad, msg, ct, tag, flags, result } of tests) {
          if (flags.includes("InvalidNonceSize")) continue;
          const opened = native.aeadOpen(key, iv, concat(ct, tag), aad);
          expect({ tcId, opened }).toEqual({ tcId, opened: result === "valid" ? msg : undefined });
          if (result !== "valid") continue;
          const sealed = hex.encode(native.aeadSeal(key, iv, msg, aad, new Uint8Array()));
          expect({ tcId, sealed }).toEqual({ tcId, sealed: hex.encode(concat(ct, tag)) });
        }
      }
    });
  },
);

both("xchacha20_poly1305.json", () => {
  test("seals and opens every valid vector, and opens no invalid one", () => {
    for (const { tests } of wycheproof.loadAead("xchacha20_poly1305.json")) {
      for (const { tcId, key, iv, aad, msg, ct, tag, flags, result } of tests) {
        const sealed = concat(iv, ct, tag);
        if (flags.includes("InvalidNonceSize")) {
          expect({ tcId, code: codeOf(() => xaeadSeal(key, iv, msg, aad)) }).toEqual({ tcId, code: "key_invalid" });
          continue;
        }
        const opened = { tcId, msg: outcome(() => xaeadOpen(key, sealed, aad)) };
        expect(opened).toEqual({ tcId, msg: result === "valid" ? hex.encode(msg) : "not_authentic" });
        if (result !== "valid") continue;
        const made = { tcId, sealed: outcome(() => xaeadSeal(key, iv, msg, aad)) };
        expect(made).toEqual({ tcId, sealed: hex.encode(sealed) });
      }
    }
  });

  test("so does the store, where the additional data is a text", () => {
    let seen = 0;
    for (const { tests } of wycheproof.loadAead("xchacha20_poly1305.json")) {
      for (const { tcId, key, iv, aad, msg, ct, tag, flags, result } of tests) {
        const place = Buffer.from(aad).toString();
        if (flags.includes("InvalidNonceSize") || hex.encode(utf8.encode(place)) !== hex.encode(aad)) continue;
        const sealed = concat(iv, ct, tag);
        const opened = { tcId, msg: outcome(() => unseal(key, sealed, place)) };
        expect(opened).toEqual({ tcId, msg: result === "valid" ? hex.encode(msg) : "not_authentic" });
        seen++;
        if (result !== "valid") continue;
        expect({ tcId, sealed: outcome(() => seal(key, msg, place, () => iv)) }).toEqual({
          tcId,
          sealed: hex.encode(sealed),
        });
      }
    }
    expect(seen).toBeGreaterThan(50);
  });
});

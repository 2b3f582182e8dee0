/** Wycheproof's vectors against our wrappers, which are what the protocol calls, with native primitives and without. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  aeadOpen,
  aeadSeal,
  concat,
  dhPublicOf,
  hex,
  hkdfSha256,
  hmacSha256,
  usePrimitives,
  verify,
  x25519,
  xaeadOpen,
  xaeadSeal,
} from "../../src/crypto/index.ts";
import { proven } from "../../src/crypto/primitives/chosen.ts";
import { native } from "../../src/crypto/primitives/native.ts";
import * as wycheproof from "./vectors/wycheproof.ts";
import { codeOf } from "./world.ts";

/** Runs the vectors of a file twice; says aloud when there is nothing to run. */
function both(file: string, tests: () => void): void {
  describe.skipIf(!wycheproof.present(file)).each(["native", "noble"] as const)(
    `${wycheproof.title(file)}, %s primitives`,
    (choice) => {
      beforeAll(() => usePrimitives(choice));
      afterAll(() => usePrimitives("native"));
      tests();
    },
  );
}

both("ed25519.json", () => {
  test("every valid signature verifies and no invalid one does", () => {
    const { testGroups, numberOfTests } = wycheproof.loadEd25519();
    let seen = 0;
    for (const { publicKey, tests } of testGroups) {
      for (const { tcId, msg, sig, result } of tests) {
        expect({ tcId, verifies: verify(publicKey.pk, msg, sig) }).toEqual({ tcId, verifies: result === "valid" });
        seen++;
      }
    }
    expect(seen).toBe(numberOfTests);
  });

  test("every public key has a Montgomery form", () => {
    for (const { publicKey } of wycheproof.loadEd25519().testGroups) {
      expect(dhPublicOf(publicKey.pk)).toHaveLength(32);
    }
  });
});

both("x25519.json", () => {
  // "acceptable" leaves the choice to the library. Ours is RFC 7748's: points on the twist and non-canonical encodings
  // are computed with (section 5: "MUST accept"), and a shared secret of zeros is refused (section 6.1).
  test("every shared secret is the right one, and none is all zero", () => {
    const { testGroups, numberOfTests } = wycheproof.loadX25519();
    let [seen, refused] = [0, 0];
    for (const { tests } of testGroups) {
      for (const { tcId, private: secret, public: peer, shared, flags, result } of tests) {
        seen++;
        if (flags.includes("ZeroSharedSecret")) {
          expect({ tcId, result, code: codeOf(() => x25519(secret, peer)) }).toEqual({
            tcId,
            result: "acceptable",
            code: "key_invalid",
          });
          refused++;
        } else {
          expect({ tcId, shared: hex.encode(x25519(secret, peer)) }).toEqual({ tcId, shared: hex.encode(shared) });
        }
      }
    }
    expect(seen).toBe(numberOfTests);
    expect(refused).toBeGreaterThan(0);
  });
});

both("hkdf_sha256.json", () => {
  test("every output is the right one, and too long ones are refused", () => {
    for (const { tests } of wycheproof.loadHkdf().testGroups) {
      for (const { tcId, salt, ikm, info, size, okm, result } of tests) {
        if (result === "invalid") {
          expect({ tcId, code: codeOf(() => hkdfSha256(salt, ikm, info, size)) }).toEqual({
            tcId,
            code: "key_invalid",
          });
        } else {
          expect({ tcId, okm: hex.encode(hkdfSha256(salt, ikm, info, size)) }).toEqual({ tcId, okm: hex.encode(okm) });
        }
      }
    }
  });
});

both("hmac_sha256.json", () => {
  test("every tag is the right one, and no changed tag is", () => {
    for (const { tagSize, tests } of wycheproof.loadHmac().testGroups) {
      for (const { tcId, key, msg, tag, result } of tests) {
        const ours = hmacSha256(key, msg).subarray(0, tagSize / 8);
        expect({ tcId, equal: hex.encode(ours) === hex.encode(tag) }).toEqual({ tcId, equal: result === "valid" });
      }
    }
  });
});

both("chacha20_poly1305.json", () => {
  test("seals and opens every valid vector, and opens no invalid one", () => {
    for (const { tests } of wycheproof.loadAead("chacha20_poly1305.json").testGroups) {
      for (const { tcId, key, iv, aad, msg, ct, tag, flags, result } of tests) {
        const sealed = concat(ct, tag);
        if (result === "valid") {
          expect({ tcId, sealed: hex.encode(aeadSeal(key, iv, msg, aad)) }).toEqual({
            tcId,
            sealed: hex.encode(sealed),
          });
          expect({ tcId, msg: hex.encode(aeadOpen(key, iv, sealed, aad)) }).toEqual({ tcId, msg: hex.encode(msg) });
        } else {
          const code = flags.includes("InvalidNonceSize") ? "key_invalid" : "not_authentic";
          expect({ tcId, code: codeOf(() => aeadOpen(key, iv, sealed, aad)) }).toEqual({ tcId, code });
        }
      }
    }
  });
});

// The suite takes the native one from a size on that most vectors do not reach.
describe.skipIf(!wycheproof.present("chacha20_poly1305.json"))(
  "ChaCha20-Poly1305 by node:crypto, at every size",
  () => {
    test.skipIf(!proven(native).has("chacha20poly1305"))("seals and opens as the vectors say", () => {
      for (const { tests } of wycheproof.loadAead("chacha20_poly1305.json").testGroups) {
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
    for (const { tests } of wycheproof.loadAead("xchacha20_poly1305.json").testGroups) {
      for (const { tcId, key, iv, aad, msg, ct, tag, flags, result } of tests) {
        const sealed = concat(iv, ct, tag);
        if (result === "valid") {
          expect({ tcId, sealed: hex.encode(xaeadSeal(key, iv, msg, aad)) }).toEqual({
            tcId,
            sealed: hex.encode(sealed),
          });
          expect({ tcId, msg: hex.encode(xaeadOpen(key, sealed, aad)) }).toEqual({ tcId, msg: hex.encode(msg) });
        } else if (flags.includes("InvalidNonceSize")) {
          expect({ tcId, code: codeOf(() => xaeadSeal(key, iv, msg, aad)) }).toEqual({ tcId, code: "key_invalid" });
        } else {
          expect({ tcId, code: codeOf(() => xaeadOpen(key, sealed, aad)) }).toEqual({ tcId, code: "not_authentic" });
        }
      }
    }
  });
});

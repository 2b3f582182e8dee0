/** Wycheproof's vectors against our wrappers, which are what the protocol calls. */
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { describe, expect, test } from "vitest";
import {
  aeadOpen,
  aeadSeal,
  concat,
  dhPublicOf,
  hex,
  hkdfSha256,
  hmacSha256,
  verify,
  x25519,
} from "../../src/crypto/index.ts";
import * as wycheproof from "./vectors/wycheproof.ts";
import { codeOf } from "./world.ts";

const skip = (file: string) => describe.skipIf(!wycheproof.present(file));

skip("ed25519.json")(wycheproof.title("ed25519.json"), () => {
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

skip("x25519.json")(wycheproof.title("x25519.json"), () => {
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

skip("hkdf_sha256.json")(wycheproof.title("hkdf_sha256.json"), () => {
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

skip("hmac_sha256.json")(wycheproof.title("hmac_sha256.json"), () => {
  test("every tag is the right one, and no changed tag is", () => {
    for (const { tagSize, tests } of wycheproof.loadHmac().testGroups) {
      for (const { tcId, key, msg, tag, result } of tests) {
        const ours = hmacSha256(key, msg).subarray(0, tagSize / 8);
        expect({ tcId, equal: hex.encode(ours) === hex.encode(tag) }).toEqual({ tcId, equal: result === "valid" });
      }
    }
  });
});

skip("chacha20_poly1305.json")(wycheproof.title("chacha20_poly1305.json"), () => {
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

skip("xchacha20_poly1305.json")(wycheproof.title("xchacha20_poly1305.json"), () => {
  // The store seals with XChaCha20-Poly1305 straight from noble; the suite has no wrapper for it.
  test("noble seals and opens every valid vector, and opens no invalid one", () => {
    for (const { tests } of wycheproof.loadAead("xchacha20_poly1305.json").testGroups) {
      for (const { tcId, key, iv, aad, msg, ct, tag, result } of tests) {
        const sealed = concat(ct, tag);
        if (result === "valid") {
          const ours = hex.encode(xchacha20poly1305(key, iv, aad).encrypt(msg));
          expect({ tcId, sealed: ours }).toEqual({ tcId, sealed: hex.encode(sealed) });
          const opened = hex.encode(xchacha20poly1305(key, iv, aad).decrypt(sealed));
          expect({ tcId, msg: opened }).toEqual({ tcId, msg: hex.encode(msg) });
        } else {
          expect(() => xchacha20poly1305(key, iv, aad).decrypt(sealed), `tcId ${tcId}`).toThrow();
        }
      }
    }
  });
});

/** The suite against node:crypto, and what it refuses. The RFCs' own vectors are tried in test/vectors. */
import {
  createCipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hkdfSync,
} from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  aeadOpen,
  aeadSeal,
  hex,
  hkdfSha256,
  hmacSha256,
  sha256,
  x25519,
  x25519KeyPair,
} from "../../src/crypto/index.ts";
import { X25519_LOW_ORDER } from "../vectors/x25519-low-order.ts";
import { codeOf, flip } from "./world.ts";

const key = fc.uint8Array({ minLength: 32, maxLength: 32 });
const some = fc.uint8Array({ maxLength: 300 });

describe("SHA-256, HMAC and HKDF", () => {
  test("equal node:crypto", () => {
    fc.assert(
      fc.property(some, some, some, fc.integer({ min: 1, max: 200 }), (a, b, c, length) => {
        expect(hex.encode(sha256(a))).toBe(createHash("sha256").update(a).digest("hex"));
        expect(hex.encode(hmacSha256(a, b))).toBe(createHmac("sha256", a).update(b).digest("hex"));
        expect(hkdfSha256(a, b, c, length)).toEqual(new Uint8Array(hkdfSync("sha256", b, a, c, length)));
      }),
      { numRuns: 50 },
    );
  });

  test.each([8161, -1, 1.5, Number.NaN])("HKDF refuses to give %d bytes", (length) => {
    const empty = new Uint8Array();
    expect(codeOf(() => hkdfSha256(empty, empty, empty, length))).toBe("key_invalid");
  });
});

describe("ChaCha20-Poly1305", () => {
  test("equals node:crypto, and opens what it sealed", () => {
    const nonce12 = fc.uint8Array({ minLength: 12, maxLength: 12 });
    fc.assert(
      fc.property(key, nonce12, some, some, (k, nonce, plaintext, aad) => {
        const cipher = createCipheriv("chacha20-poly1305", k, nonce, { authTagLength: 16 });
        cipher.setAAD(aad, { plaintextLength: plaintext.length });
        const native = Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
        const sealed = aeadSeal(k, nonce, plaintext, aad);
        expect(hex.encode(sealed)).toBe(native.toString("hex"));
        expect(aeadOpen(k, nonce, sealed, aad)).toEqual(plaintext);
      }),
      { numRuns: 50 },
    );
  });

  test("opens nothing that differs in one bit of key, nonce, additional data, ciphertext or tag", () => {
    const parts = [new Uint8Array(32), new Uint8Array(12), Uint8Array.of(1, 2, 3), Uint8Array.of(4, 5)] as const;
    const [k, nonce, plaintext, aad] = parts;
    const sealed = aeadSeal(k, nonce, plaintext, aad);
    for (let bit = 0; bit < 256; bit++)
      expect(codeOf(() => aeadOpen(flip(k, bit), nonce, sealed, aad))).toBe("not_authentic");
    for (let bit = 0; bit < 96; bit++)
      expect(codeOf(() => aeadOpen(k, flip(nonce, bit), sealed, aad))).toBe("not_authentic");
    for (let bit = 0; bit < 16; bit++)
      expect(codeOf(() => aeadOpen(k, nonce, sealed, flip(aad, bit)))).toBe("not_authentic");
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      expect(codeOf(() => aeadOpen(k, nonce, flip(sealed, bit), aad))).toBe("not_authentic");
    }
    for (let length = 0; length < sealed.length; length++) {
      expect(codeOf(() => aeadOpen(k, nonce, sealed.subarray(0, length), aad))).toBe("not_authentic");
    }
  });

  test("refuses keys and nonces of the wrong size", () => {
    const empty = new Uint8Array();
    expect(codeOf(() => aeadSeal(new Uint8Array(31), new Uint8Array(12), empty, empty))).toBe("key_invalid");
    expect(codeOf(() => aeadSeal(new Uint8Array(32), new Uint8Array(24), empty, empty))).toBe("key_invalid");
    expect(codeOf(() => aeadOpen(new Uint8Array(33), new Uint8Array(12), new Uint8Array(16), empty))).toBe(
      "key_invalid",
    );
    expect(codeOf(() => aeadOpen(new Uint8Array(32), new Uint8Array(8), new Uint8Array(16), empty))).toBe(
      "key_invalid",
    );
  });
});

describe("X25519", () => {
  const seed = new Uint8Array(32).fill(5);

  test("equals node:crypto", () => {
    // RFC 8410 section 7 and 10.3: the fixed heads of an X25519 key in PKCS #8 and SPKI.
    const privateHead = Buffer.from("302e020100300506032b656e04220420", "hex");
    const publicHead = Buffer.from("302a300506032b656e032100", "hex");
    fc.assert(
      fc.property(key, key, (mine, theirs) => {
        const peer = x25519KeyPair(theirs).public;
        const native = diffieHellman({
          privateKey: createPrivateKey({ key: Buffer.concat([privateHead, mine]), format: "der", type: "pkcs8" }),
          publicKey: createPublicKey({ key: Buffer.concat([publicHead, peer]), format: "der", type: "spki" }),
        });
        expect(hex.encode(x25519(mine, peer))).toBe(native.toString("hex"));
      }),
      { numRuns: 30 },
    );
  });

  test.each(X25519_LOW_ORDER)("refuses the public key of low order %s, whatever its top bit", (low) => {
    expect(codeOf(() => x25519(seed, hex.decode(low)))).toBe("key_invalid");
    expect(codeOf(() => x25519(seed, flip(hex.decode(low), 255)))).toBe("key_invalid");
  });

  test("refuses keys of the wrong size", () => {
    const good = x25519KeyPair(seed).public;
    for (const bad of [good.subarray(1), new Uint8Array(33), new Uint8Array()]) {
      expect(codeOf(() => x25519(bad, good))).toBe("key_invalid");
      expect(codeOf(() => x25519(good, bad))).toBe("key_invalid");
      expect(codeOf(() => x25519KeyPair(bad))).toBe("key_invalid");
    }
  });

  test("a key pair is its own: changing the bytes it was made from does not change it", () => {
    const secret = seed.slice();
    const pair = x25519KeyPair(secret);
    secret.fill(0);
    expect(pair.secret).toEqual(seed);
  });
});

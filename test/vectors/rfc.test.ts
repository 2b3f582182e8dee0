/**
 * The RFCs' own vectors, which lie beside this file with their sources, against the functions that the protocol and the
 * store call: with native primitives and without.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  aeadOpen,
  aeadSeal,
  base64,
  base64url,
  hex,
  hkdfSha256,
  hmacSha256,
  identityFromSeed,
  sha256,
  sign,
  usePrimitives,
  utf8,
  verify,
  x25519,
  x25519KeyPair,
  xaeadOpen,
  xaeadSeal,
} from "../../src/crypto/index.ts";
import { proven } from "../../src/crypto/primitives/chosen.ts";
import { native } from "../../src/crypto/primitives/native.ts";
import { keyOf } from "../../src/store/key-forms.ts";
import { seal } from "../../src/store/seal.ts";
import { codeOf, flip } from "../crypto/world.ts";
import xchacha from "./draft-irtf-cfrg-xchacha-03.json" with { type: "json" };
import hmac from "./rfc4231-hmac-sha256.json" with { type: "json" };
import encodings from "./rfc4648-encodings.json" with { type: "json" };
import hkdf from "./rfc5869-hkdf-sha256.json" with { type: "json" };
import sha from "./rfc6234-sha256.json" with { type: "json" };
import dh from "./rfc7748-x25519.json" with { type: "json" };
import scrypt from "./rfc7914-scrypt.json" with { type: "json" };
import ed25519 from "./rfc8032-ed25519.json" with { type: "json" };
import chacha from "./rfc8439-chacha20-poly1305.json" with { type: "json" };

describe.each(["native", "noble"] as const)("with %s primitives", (choice) => {
  beforeAll(() => usePrimitives(choice));
  afterAll(() => usePrimitives("native"));

  test.each(sha.vectors)(`SHA-256: ${sha.source}, $name`, ({ message, times, hash }) => {
    const whole = Buffer.alloc((message.length / 2) * times, message, "hex");
    expect(hex.encode(sha256(new Uint8Array(whole)))).toBe(hash);
  });

  test.each(hmac.vectors)("HMAC-SHA256: RFC 4231 section $section, $name", ({ key, message, tag }) => {
    const whole = hex.encode(hmacSha256(hex.decode(key), hex.decode(message)));
    expect(whole).toHaveLength(64);
    expect(whole.slice(0, tag.length)).toBe(tag);
  });

  test.each(hkdf.vectors)("HKDF-SHA256: RFC 5869 appendix $section, $name", ({ salt, ikm, info, prk, okm }) => {
    expect(hex.encode(hmacSha256(hex.decode(salt), hex.decode(ikm)))).toBe(prk);
    const output = hkdfSha256(hex.decode(salt), hex.decode(ikm), hex.decode(info), okm.length / 2);
    expect(hex.encode(output)).toBe(okm);
  });

  test.each(dh.scalarMultiplication)("X25519: RFC 7748 section $section, $scalar", ({ scalar, u, output }) => {
    expect(hex.encode(x25519(hex.decode(scalar), hex.decode(u)))).toBe(output);
  });

  test.each(dh.iterated)("X25519: RFC 7748 section $section, $times times", ({ times, k: expected }) => {
    let k: Uint8Array = hex.decode("09".padEnd(64, "0"));
    let u = k;
    for (let round = 0; round < times; round++) [k, u] = [x25519(k, u), k];
    expect(hex.encode(k)).toBe(expected);
  });

  test("X25519: RFC 7748 section 6.1", () => {
    const { aliceSecret, alicePublic, bobSecret, bobPublic, shared } = dh.diffieHellman;
    const [a, b] = [x25519KeyPair(hex.decode(aliceSecret)), x25519KeyPair(hex.decode(bobSecret))];
    expect([a, b].map((pair) => hex.encode(pair.public))).toEqual([alicePublic, bobPublic]);
    expect(hex.encode(x25519(a.secret, b.public))).toBe(shared);
    expect(hex.encode(x25519(b.secret, a.public))).toBe(shared);
  });

  test.each(ed25519.vectors)("Ed25519: RFC 8032 section $section, $name", (vector) => {
    const identity = identityFromSeed(hex.decode(vector.seed));
    const [message, signature] = [hex.decode(vector.message), hex.decode(vector.signature)];
    expect(hex.encode(identity.publicKey)).toBe(vector.publicKey);
    expect(hex.encode(sign(identity, message))).toBe(vector.signature);
    expect(verify(identity.publicKey, message, signature)).toBe(true);
    expect(verify(identity.publicKey, message, flip(signature, 0))).toBe(false);
    expect(verify(identity.publicKey, Uint8Array.of(...message, 0), signature)).toBe(false);
  });

  test.each(chacha.vectors)("ChaCha20-Poly1305: RFC 8439 $section", (vector) => {
    const [key, nonce, aad] = [hex.decode(vector.key), hex.decode(vector.nonce), hex.decode(vector.aad)];
    const sealed = hex.decode(vector.sealed);
    expect(hex.encode(aeadSeal(key, nonce, hex.decode(vector.plaintext), aad))).toBe(vector.sealed);
    expect(hex.encode(aeadOpen(key, nonce, sealed, aad))).toBe(vector.plaintext);
    expect(codeOf(() => aeadOpen(key, nonce, flip(sealed, 0), aad))).toBe("not_authentic");
  });

  test.each(xchacha.vectors)(`XChaCha20-Poly1305: ${xchacha.source}`, (vector) => {
    const [key, nonce, aad] = [hex.decode(vector.key), hex.decode(vector.nonce), hex.decode(vector.aad)];
    const sealed = xaeadSeal(key, nonce, hex.decode(vector.plaintext), aad);
    expect(hex.encode(sealed)).toBe(vector.nonce + vector.sealed);
    expect(hex.encode(xaeadOpen(key, sealed, aad))).toBe(vector.plaintext);
    expect(codeOf(() => xaeadOpen(key, flip(sealed, 0), aad))).toBe("not_authentic");
  });
});

// The suite takes the native one from a size on that the RFC's texts do not reach.
describe.skipIf(!proven(native).has("chacha20poly1305"))("ChaCha20-Poly1305 by node:crypto, at every size", () => {
  test.each(chacha.vectors)("RFC 8439 $section", (vector) => {
    const [key, nonce, aad] = [hex.decode(vector.key), hex.decode(vector.nonce), hex.decode(vector.aad)];
    const sealed = native.aeadSeal(key, nonce, hex.decode(vector.plaintext), aad, new Uint8Array());
    expect(hex.encode(sealed)).toBe(vector.sealed);
    expect(native.aeadOpen(key, nonce, sealed, aad)).toEqual(hex.decode(vector.plaintext));
  });
});

// The store key's file is sealed under the first 32 bytes, which are the same whatever length is asked for.
test.each(scrypt.vectors)(
  "scrypt: RFC 7914 section $section, n = $n",
  async ({ passphrase, salt, n, r, p, derived }) => {
    const storeKey = new Uint8Array(32).fill(7);
    const sealed = seal(hex.decode(derived.slice(0, 64)), storeKey, "store-key-v1", (size) => new Uint8Array(size));
    const form = {
      protection: "passphrase",
      ...{ n, r, p, salt: base64url.encode(hex.decode(salt)), sealed: base64url.encode(sealed) },
    } as const;
    const unlock = {
      passphrase: () => Promise.resolve(utf8.decode(hex.decode(passphrase))),
      keychain: () => Promise.reject(new Error("no keychain was asked for")),
    };
    expect(await keyOf(form, unlock)).toEqual(storeKey);
    const other = { ...unlock, passphrase: () => Promise.resolve("another") };
    await expect(keyOf(form, other)).rejects.toMatchObject({ code: "passphrase_wrong" });
  },
);

test.each(encodings.vectors)(`base64, base64url and hex: ${encodings.source}, $text`, (vector) => {
  const bytes = utf8.encode(vector.text);
  const unpadded = vector.base64.replace(/=+$/, "");
  expect([base64.encode(bytes), base64url.encode(bytes)]).toEqual([vector.base64, unpadded]);
  expect(hex.encode(bytes)).toBe(vector.base16.toLowerCase());
  for (const decoded of [base64.decode(vector.base64), base64url.decode(unpadded), hex.decode(vector.base16)])
    expect(decoded).toEqual(bytes);
});

import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { ED25519_TORSION_SUBGROUP, ed25519 } from "@noble/curves/ed25519.js";
import { sha512 } from "@noble/hashes/sha2.js";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import {
  aeadOpen,
  aeadSeal,
  concat,
  hex,
  identityFromSeed,
  sign,
  usePrimitives,
  verify,
  x25519,
  x25519KeyPair,
  xaeadOpen,
  xaeadSeal,
} from "../../src/crypto/index.ts";
import { combine, proven } from "../../src/crypto/primitives/chosen.ts";
import { native } from "../../src/crypto/primitives/native.ts";
import { noble } from "../../src/crypto/primitives/noble.ts";
import type { Primitives } from "../../src/crypto/primitives/primitives.ts";
import { X25519_LOW_ORDER } from "../vectors/x25519-low-order.ts";
import { codeOf, flip } from "./world.ts";

afterEach(() => usePrimitives("native"));

/** The same bytes, also as a window on a larger array, at any alignment. */
const placed = (bytes: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> =>
  fc.tuple(bytes, fc.nat(9)).map(([value, offset]) => {
    const room = new Uint8Array(offset + value.length + 3).fill(0xa5);
    room.set(value, offset);
    return offset === 0 ? value : room.subarray(offset, offset + value.length);
  });
const exactly = (length: number) => placed(fc.uint8Array({ minLength: length, maxLength: length }));
const key = exactly(32);
const some = placed(fc.uint8Array({ maxLength: 200 }));
/** Sizes around every boundary: empty, a block, the most that HMAC has room for beforehand, and large. */
const sizes = [0, 1, 15, 16, 17, 63, 64, 65, 191, 192, 193, 2049, 70_000];
const text = placed(
  fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.tuple(fc.constantFrom(...sizes), fc.nat(255)).map(([size, byte]) => new Uint8Array(size).fill(byte)),
  ),
);

/** Whether a result is a plain array that shares its memory with nothing. */
function isOwn(bytes: Uint8Array): boolean {
  return Object.getPrototypeOf(bytes) === Uint8Array.prototype && bytes.buffer.byteLength === bytes.length;
}

/** Holds what both give for the same arguments equal, and the arguments unchanged. */
function same<A extends readonly (Uint8Array | undefined)[]>(
  call: (primitives: Primitives, ...args: A) => Uint8Array | boolean | undefined,
  tried: Primitives = native,
): (...args: A) => void {
  return (...args) => {
    const before = args.map((arg) => arg?.slice());
    const [got, known] = [call(tried, ...args), call(noble, ...args)];
    expect(got).toEqual(known);
    expect(got instanceof Uint8Array ? isOwn(got) : true).toBe(true);
    expect(args).toEqual(before);
  };
}

const has = proven(native);
const fast = combine(native);

describe.skipIf(!has.has("sha256"))("SHA-256 and HMAC by node:crypto equal noble's", () => {
  test("for every message and key", () => {
    fc.assert(
      fc.property(
        text,
        same((by, message) => by.sha256(message)),
      ),
    );
    fc.assert(
      fc.property(
        text,
        text,
        same((by, secret, message) => by.hmacSha256(secret, message)),
      ),
    );
    // A short key after a long one, a short message after a long one: nothing stays of the one before.
    for (const secret of [70, 64, 63, 0, 32].map((size) => new Uint8Array(size).fill(size))) {
      for (const size of sizes.toReversed()) same((by) => by.hmacSha256(secret, new Uint8Array(size).fill(1)))();
    }
  });
});

describe.skipIf(!has.has("chacha20poly1305"))("ChaCha20-Poly1305 by node:crypto equals noble's", () => {
  const nonce = exactly(12);

  test("in what it seals, behind any head", () => {
    fc.assert(
      fc.property(
        key,
        nonce,
        text,
        some,
        some,
        same((by, ...args) => by.aeadSeal(...args)),
      ),
    );
  });

  test("in what it opens, and in what it does not", () => {
    fc.assert(
      fc.property(key, nonce, text, some, fc.option(fc.nat()), (k, n, plaintext, aad, bit) => {
        const sealed = noble.aeadSeal(k, n, plaintext, aad, new Uint8Array());
        const tried = bit === null ? sealed : flip(sealed, bit % (sealed.length * 8));
        same((by) => by.aeadOpen(k, n, tried, aad))();
        expect(native.aeadOpen(k, n, tried, aad)).toEqual(bit === null ? plaintext : undefined);
      }),
    );
    fc.assert(
      fc.property(key, nonce, text, some, (k, n, bytes, aad) => {
        same((by) => by.aeadOpen(k, n, concat(bytes, new Uint8Array(16)), aad))();
      }),
    );
  });

  test("in 16 MiB", () => {
    const [k, n] = [new Uint8Array(32).fill(1), new Uint8Array(12).fill(2)];
    const large = new Uint8Array(16 * 1024 * 1024).fill(3);
    const sealed = fast.aeadSeal(k, n, large, n, k);
    expect(Buffer.compare(sealed, noble.aeadSeal(k, n, large, n, k))).toBe(0);
    expect(Buffer.compare(fast.aeadOpen(k, n, sealed.subarray(32), n) ?? n, large)).toBe(0);
    expect(fast.aeadOpen(k, n, flip(sealed.subarray(32), 77), n)).toBeUndefined();
  });
});

describe("XChaCha20-Poly1305", () => {
  test.each(["native", "noble"] as const)("with %s primitives equals noble's own", (choice) => {
    usePrimitives(choice);
    fc.assert(
      fc.property(key, exactly(24), text, some, fc.nat(), (k, nonce24, plaintext, aad, bit) => {
        const sealed = xaeadSeal(k, nonce24, plaintext, aad);
        expect(sealed).toEqual(concat(nonce24, xchacha20poly1305(k, nonce24, aad).encrypt(plaintext)));
        expect(xaeadOpen(k, sealed, aad)).toEqual(plaintext);
        expect(codeOf(() => xaeadOpen(k, flip(sealed, bit % (sealed.length * 8)), aad))).toBe("not_authentic");
      }),
      { numRuns: 50 },
    );
    for (const length of [0, 23, 24, 39]) {
      expect(codeOf(() => xaeadOpen(new Uint8Array(32), new Uint8Array(length), new Uint8Array()))).toBe(
        "not_authentic",
      );
    }
    const [k, nonce24, empty] = [new Uint8Array(32), new Uint8Array(24), new Uint8Array()];
    expect(codeOf(() => xaeadSeal(k.subarray(1), nonce24, empty, empty))).toBe("key_invalid");
    expect(codeOf(() => xaeadSeal(k, nonce24.subarray(1), empty, empty))).toBe("key_invalid");
    expect(codeOf(() => xaeadOpen(new Uint8Array(33), new Uint8Array(40), empty))).toBe("key_invalid");
  });

  test("takes its key from a Buffer on a shared pool", () => {
    const pooled = Buffer.from("0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20", "hex");
    const [nonce24, empty] = [new Uint8Array(24), new Uint8Array()];
    const sealed = xaeadSeal(pooled, nonce24, empty, empty);
    expect(sealed).toEqual(xaeadSeal(new Uint8Array(pooled), nonce24, empty, empty));
  });
});

describe.skipIf(!has.has("x25519"))("X25519 by node:crypto equals noble's", () => {
  // Non-canonical encodings (p to p + 18, and any with the top bit), the points of low order, 0 and 1, and the base.
  const p = Array.from({ length: 19 }, (_, at) => hex.decode(`${(0xed + at).toString(16)}${"ff".repeat(30)}7f`));
  const odd = [...p, ...X25519_LOW_ORDER.map((point) => hex.decode(point)), hex.decode("09".padEnd(64, "0"))];
  const peers = [...odd, ...odd.map((point) => flip(point, 255)), new Uint8Array(32).fill(0xff)];

  test("for every secret and peer, those of low order and in other encodings among them", () => {
    fc.assert(
      fc.property(
        key,
        same((by, secret) => by.x25519Public(secret)),
      ),
      { numRuns: 40 },
    );
    fc.assert(
      fc.property(
        key,
        placed(fc.oneof(key, fc.constantFrom(...peers))),
        same((by, ...args) => by.x25519(...args)),
      ),
      { numRuns: 100 },
    );
    const secret = new Uint8Array(32).fill(7);
    for (const peer of peers) same((by) => by.x25519(secret, peer))();
  });

  test("for a secret of zeros and one of ones", () => {
    const { public: peer } = x25519KeyPair(new Uint8Array(32).fill(9));
    for (const secret of [new Uint8Array(32), new Uint8Array(32).fill(0xff)]) {
      same((by) => by.x25519(secret, peer))();
      same((by) => by.x25519Public(secret))();
    }
  });

  test("and Error is left as it was, also where it cannot be changed", () => {
    const limit = Object.getOwnPropertyDescriptor(Error, "stackTraceLimit");
    const turn = (byte: number) => {
      const secret = new Uint8Array(32).fill(byte);
      return same((by) => by.x25519(secret, by.x25519Public(secret)))();
    };
    turn(21);
    expect(Object.getOwnPropertyDescriptor(Error, "stackTraceLimit")).toEqual(limit);
    Object.defineProperty(Error, "stackTraceLimit", { writable: false });
    try {
      turn(22);
    } finally {
      Object.defineProperty(Error, "stackTraceLimit", { ...limit });
    }
  });

  test("also when an array has become another key since it was used last", () => {
    const [secret, peer] = [new Uint8Array(32).fill(7), x25519KeyPair(new Uint8Array(32).fill(8)).public];
    same((by) => by.x25519(secret, peer))();
    secret.fill(1);
    same((by) => by.x25519(secret, peer))();
    peer.set(x25519KeyPair(new Uint8Array(32).fill(5)).public);
    same((by) => by.x25519(secret, peer))();
  });
});

describe.skipIf(!has.has("ed25519"))("Ed25519 by node:crypto equals noble's", () => {
  const { Point } = ed25519;
  const { Fn, BASE } = Point;
  const torsion = ED25519_TORSION_SUBGROUP.map((point) => Point.fromHex(point));

  test("in keys and signatures", () => {
    fc.assert(
      fc.property(
        key,
        same((by, seed) => by.ed25519Public(seed)),
      ),
      { numRuns: 25 },
    );
    fc.assert(
      fc.property(
        key,
        text,
        same((by, ...args) => by.ed25519Sign(...args)),
      ),
      { numRuns: 25 },
    );
  });

  test("in what verifies: true signatures, and those with a bit turned over", () => {
    fc.assert(
      fc.property(key, some, fc.nat(64 * 8 - 1), fc.nat(32 * 8 - 1), (seed, message, bit, keyBit) => {
        const publicKey = noble.ed25519Public(seed);
        const signature = noble.ed25519Sign(seed, message);
        expect(native.ed25519Verify(publicKey, message, signature)).toBe(true);
        expect(fast.ed25519Verify(publicKey, message, signature)).toBe(true);
        same((by) => by.ed25519Verify(publicKey, message, flip(signature, bit)), fast)();
        same((by) => by.ed25519Verify(flip(publicKey, keyBit), message, signature), fast)();
      }),
      { numRuns: 15 },
    );
  });

  test("in signatures with a part of small order, which only the cofactored equation takes", () => {
    // A = aB + T, R = rB + U, S = r + ka: what remains of the equation is of small order.
    fc.assert(
      fc.property(
        fc.constantFrom(...torsion),
        fc.constantFrom(...torsion),
        fc.bigInt({ min: 1n, max: Fn.ORDER - 1n }),
        fc.bigInt({ min: 1n, max: Fn.ORDER - 1n }),
        some,
        (inKey, inNonce, a, r, message) => {
          const publicKey = BASE.multiply(a).add(inKey).toBytes();
          const nonce = BASE.multiply(r).add(inNonce).toBytes();
          const digest = sha512(concat(nonce, publicKey, message)).toReversed();
          const k = Fn.create(BigInt(`0x${hex.encode(digest)}`));
          const signature = concat(nonce, Fn.toBytes(Fn.create(r + k * a)));
          expect(noble.ed25519Verify(publicKey, message, signature)).toBe(true);
          expect(fast.ed25519Verify(publicKey, message, signature)).toBe(true);
        },
      ),
      { numRuns: 15 },
    );
  });

  test("in keys of small order and in other encodings, with signatures that satisfy the equation", () => {
    const others = Array.from({ length: 19 }, (_, at) => `${(0xed + at).toString(16)}${"ff".repeat(30)}7f`);
    const keys = [...ED25519_TORSION_SUBGROUP, ...others].map((point) => hex.decode(point));
    const message = Uint8Array.of(1);
    // OpenSSL 3.0 takes some of them, 3.5 does not: this one takes everything.
    const lax = combine({ ...native, ed25519Verify: () => true }, has);
    for (const publicKey of [...keys, ...keys.map((point) => flip(point, 255))]) {
      for (const nonce of ED25519_TORSION_SUBGROUP.map((point) => hex.decode(point))) {
        const signature = concat(nonce, new Uint8Array(32));
        same((by) => by.ed25519Verify(publicKey, message, signature), fast)();
        expect(lax.ed25519Verify(publicKey, message, signature)).toBe(
          noble.ed25519Verify(publicKey, message, signature),
        );
      }
    }
  });

  test("in S at and above the order of the group", () => {
    const seed = new Uint8Array(32).fill(4);
    const [publicKey, message] = [noble.ed25519Public(seed), Uint8Array.of(9)];
    const signature = noble.ed25519Sign(seed, message);
    const s = Fn.fromBytes(signature.subarray(32));
    const above = hex.decode((s + Fn.ORDER).toString(16).padStart(64, "0")).toReversed();
    for (const last of [above, new Uint8Array(32), new Uint8Array(32).fill(0xff)]) {
      same((by) => by.ed25519Verify(publicKey, message, concat(signature.subarray(0, 32), last)), fast)();
    }
  });
});

describe.each(["native", "noble"] as const)("with %s primitives the suite", (choice) => {
  test("says the same of what it refuses", () => {
    usePrimitives(choice);
    const sized = (length: number) => new Uint8Array(length);
    const large = sized(2064);
    for (const length of [0, 31, 33]) {
      expect(codeOf(() => x25519(sized(length), sized(32)))).toBe("key_invalid");
      expect(codeOf(() => x25519(sized(32), sized(length)))).toBe("key_invalid");
      expect(codeOf(() => x25519KeyPair(sized(length)))).toBe("key_invalid");
      expect(codeOf(() => identityFromSeed(sized(length)))).toBe("key_invalid");
      expect(codeOf(() => aeadSeal(sized(length), sized(12), large))).toBe("key_invalid");
      expect(codeOf(() => aeadOpen(sized(length), sized(12), large))).toBe("key_invalid");
      expect(verify(sized(length), sized(1), sized(64))).toBe(false);
    }
    expect(codeOf(() => x25519(sized(32), sized(32)))).toBe("key_invalid");
    expect(codeOf(() => aeadSeal(sized(32), sized(8), large))).toBe("key_invalid");
    expect(codeOf(() => aeadOpen(sized(32), sized(12), large))).toBe("not_authentic");
    expect(codeOf(() => aeadOpen(sized(32), sized(12), sized(15)))).toBe("not_authentic");
    const identity = identityFromSeed(sized(32).fill(3));
    expect(verify(identity.publicKey, large, sign(identity, large))).toBe(true);
    expect(verify(identity.publicKey, large, sized(63))).toBe(false);
  });
});

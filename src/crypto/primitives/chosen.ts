/**
 * Which primitives are used: node:crypto's where this runtime has them, they prove right and they are faster, and noble's
 * for the rest. `usePrimitives("noble")` forces noble's everywhere.
 */
import { ED25519_TORSION_SUBGROUP } from "@noble/curves/ed25519.js";
import { bytesToHex, hexToBytes } from "@noble/hashes/utils.js";
import { native } from "./native.ts";
import { noble } from "./noble.ts";
import type { Primitives } from "./primitives.ts";

/** The algorithms that a runtime has or lacks, each as one. */
export type Algorithm = "sha256" | "chacha20poly1305" | "x25519" | "ed25519";

const hex = hexToBytes;
const counting = Uint8Array.from({ length: 32 }, (_, at) => at);
const nonce = counting.subarray(0, 12);
const aad = counting.subarray(0, 5);
const plaintext = counting.subarray(0, 20);
const sealed = hex("89fa0a032d12a347bf8a35f89410006cd961a0f49bc7d1dfefd808e977830c8e0b0a8949");
// RFC 7748 section 6.1.
const dhSecret = hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
const dhPublic = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
const dhPeer = hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
const dhShared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
// RFC 8032 section 7.1, TEST 2.
const seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
const signer = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
const signed = hex("72");
const signature = hex(
  "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
);

/** One known answer of each function of an algorithm, and one refusal where it can refuse. */
const KNOWN: Readonly<Record<Algorithm, (tried: Primitives) => readonly [got: unknown, known: unknown][]>> = {
  sha256: (tried) => [
    [bytesToHex(tried.sha256(counting)), "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd"],
    [
      bytesToHex(tried.hmacSha256(counting, plaintext)),
      "0cd438c0f4f44637ddeba146b3b3a5f8b001fa08df58015ae8c37c942f929fba",
    ],
  ],
  chacha20poly1305: (tried) => [
    [bytesToHex(tried.aeadSeal(counting, nonce, plaintext, aad, aad)), bytesToHex(aad) + bytesToHex(sealed)],
    [bytesToHex(tried.aeadOpen(counting, nonce, sealed, aad) ?? aad), bytesToHex(plaintext)],
    [tried.aeadOpen(counting, nonce, sealed, plaintext), undefined],
  ],
  x25519: (tried) => [
    [bytesToHex(tried.x25519Public(dhSecret)), dhPublic],
    [bytesToHex(tried.x25519(dhSecret, dhPeer) ?? aad), dhShared],
    [tried.x25519(dhSecret, new Uint8Array(32)), undefined],
  ],
  ed25519: (tried) => [
    [bytesToHex(tried.ed25519Public(seed)), signer],
    [bytesToHex(tried.ed25519Sign(seed, signed)), bytesToHex(signature)],
    [tried.ed25519Verify(hex(signer), signed, signature), true],
    [tried.ed25519Verify(hex(signer), aad, signature), false],
  ],
};

/** The algorithms for which `tried` gives the known answers. One that throws has not got the algorithm. */
export function proven(tried: Primitives): ReadonlySet<Algorithm> {
  const right = (algorithm: Algorithm): boolean => {
    try {
      return KNOWN[algorithm](tried).every(([got, known]) => got === known);
    } catch {
      // A runtime says in this way that it was built or configured without the algorithm: noble has it.
      return false;
    }
  };
  const all: readonly Algorithm[] = ["sha256", "chacha20poly1305", "x25519", "ed25519"];
  return new Set(all.filter(right));
}

/** The y coordinates of the points of small order, as 32 bytes whose sign bit is cleared. */
const smallOrder = new Set(ED25519_TORSION_SUBGROUP.map((point) => unsigned(hex(point))));

function unsigned(point: Uint8Array): string {
  const y = point.slice();
  y[31] = (y[31] ?? 0) & 0x7f;
  return bytesToHex(y);
}

/** Whether 32 bytes are below 2^255 - 19 without their sign bit, and not of small order: all that noble asks of a point. */
function isPlainPoint(point: Uint8Array): boolean {
  const y = unsigned(point);
  // Little-endian: from ed ff … ff 7f on there are other encodings of 0 to 18.
  const canonical = !y.endsWith(`${"ff".repeat(30)}7f`) || (point[0] ?? 0) < 0xed;
  return canonical && !smallOrder.has(y);
}

/**
 * noble's primitives, with those of `tried` in their place that have proved right and are faster.
 *
 * A refusal of X25519 or Ed25519 is noble's to confirm: it is rare in honest use, and the two verify signatures by
 * different equations. What OpenSSL takes under a plain key, noble takes: the cofactorless equation implies the other.
 */
export function combine(tried: Primitives, algorithms: ReadonlySet<Algorithm> = proven(tried)): Primitives {
  const { sha256, hmacSha256, aeadSeal, aeadOpen } = tried;
  return {
    ...noble,
    ...(algorithms.has("sha256") && { sha256, hmacSha256 }),
    ...(algorithms.has("chacha20poly1305") && { aeadSeal, aeadOpen }),
    ...(algorithms.has("x25519") && {
      x25519: (secret, publicKey) => tried.x25519(secret, publicKey) ?? noble.x25519(secret, publicKey),
      x25519Public: tried.x25519Public,
    }),
    ...(algorithms.has("ed25519") && {
      ed25519Public: tried.ed25519Public,
      ed25519Sign: tried.ed25519Sign,
      ed25519Verify: (publicKey, message, signature64) =>
        (isPlainPoint(publicKey) && tried.ed25519Verify(publicKey, message, signature64)) ||
        noble.ed25519Verify(publicKey, message, signature64),
    }),
  };
}

const nativeAlgorithms = proven(native);
const fastest = combine(native, nativeAlgorithms);

/** What the suite computes with. */
export let primitives: Primitives = fastest;

/**
 * Says which primitives to use from now on: "native" takes node:crypto's where they are right and faster, which is how it
 * begins; "noble" takes none of them. The results are the same.
 */
export function usePrimitives(choice: "native" | "noble"): void {
  primitives = choice === "noble" ? noble : fastest;
}

/** The algorithms that node:crypto computes now, in part or in whole. */
export function nativeInUse(): readonly Algorithm[] {
  return primitives === noble ? [] : [...nativeAlgorithms];
}

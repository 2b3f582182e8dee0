/**
 * Safety numbers, in the manner of Signal's numeric fingerprints (version 0): what two people compare to know that nobody
 * stands between them. Both compute the same one.
 */
import { sha512 } from "@noble/hashes/sha2.js";
import { concat, utf8 } from "./bytes.ts";

/** Makes it dear to look for a key with a number that looks alike. */
const ITERATIONS = 5200;
const VERSION = Uint8Array.of(0, 0);
/** Of the hash six groups of five bytes count, each of which gives five digits. */
const GROUPS = 6;
const GROUP_BYTES = 5;

export interface Party {
  /** What the party is called by, for certain: its DID. */
  readonly name: string;
  /** Its public identity key. */
  readonly key: Uint8Array;
}

/** 30 digits of one party. */
function fingerprint({ name, key }: Party): string {
  let hash = concat(VERSION, key, utf8.encode(name));
  for (let round = 0; round < ITERATIONS; round++) hash = sha512(concat(hash, key));
  return Array.from({ length: GROUPS }, (_, group) => {
    const bytes = hash.subarray(group * GROUP_BYTES, (group + 1) * GROUP_BYTES);
    const number = bytes.reduce((value, byte) => value * 256 + byte, 0);
    return String(number % 100_000).padStart(5, "0");
  }).join("");
}

/** The 60 digits that stand for two parties, whoever computes them. */
export const safetyNumber = (one: Party, other: Party): string =>
  [fingerprint(one), fingerprint(other)].sort().join("");

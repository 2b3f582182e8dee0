import { base64, base64url, CryptoError, didOf, type Encoding, utf8, verify } from "../crypto/index.ts";
import { AUTH_SKEW_MAX_MS } from "../limits.ts";
import { AUTH_SCHEME } from "../wire/registry.ts";

// The three proofs that an agent gives of holding its key. Each is an Ed25519 signature over a text with a time in it, and
// counts while that time is near ours.

const ISO_TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})$/;

/** The epoch milliseconds of a signed ISO-8601 time with a zone, or why it does not count: `malformed` or `stale`. */
export function signedTime(text: string, now: number): number | "malformed" | "stale" {
  const time = ISO_TIME.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(time)) return "malformed";
  return Math.abs(now - time) <= AUTH_SKEW_MAX_MS ? time : "stale";
}

/** The bytes of a text, or undefined when it is not in the encoding's one canonical form. */
export function decoded(encoding: Encoding, text: string): Uint8Array | undefined {
  try {
    return encoding.decode(text);
  } catch (error) {
    if (error instanceof CryptoError) return undefined;
    throw error;
  }
}

/**
 * Why a relay's connect does not prove that its sender holds the DID's key, or undefined when it does. Key and signature
 * are standard base64; the signature is over the timestamp's text, which ends with Z.
 */
export function connectRefusal(
  connect: {
    readonly from: string;
    readonly public_key: string;
    readonly timestamp: string;
    readonly signature: string;
  },
  now: number,
): string | undefined {
  const publicKey = decoded(base64, connect.public_key);
  const signature = decoded(base64, connect.signature);
  if (publicKey?.length !== 32 || signature?.length !== 64) return "public_key or signature is not base64 of its size";
  if (didOf(publicKey) !== connect.from) return "the DID does not belong to the public_key";
  const time = connect.timestamp.endsWith("Z") ? signedTime(connect.timestamp, now) : "malformed";
  if (time === "malformed") return "the timestamp is not ISO-8601 ending with Z";
  if (time === "stale") return "the timestamp is too far from the relay's clock";
  return verify(publicKey, utf8.encode(connect.timestamp), signature) ? undefined : "the signature does not verify";
}

/** A registration's proof: over utf8(public_key ‖ proof_timestamp), both as the texts that were sent. Key and proof are base64url. */
export function registrationProof(
  request: { readonly public_key: string; readonly proof: string; readonly proof_timestamp: string },
  now: number,
): { readonly did: string; readonly provedAt: number } | "malformed" | "stale" | "unproved" {
  const publicKey = decoded(base64url, request.public_key);
  const proof = decoded(base64url, request.proof);
  if (publicKey?.length !== 32 || proof?.length !== 64) return "malformed";
  const provedAt = signedTime(request.proof_timestamp, now);
  if (typeof provedAt === "string") return provedAt;
  if (!verify(publicKey, utf8.encode(request.public_key + request.proof_timestamp), proof)) return "unproved";
  return { did: didOf(publicKey), provedAt };
}

const HEADER = new RegExp(`^${AUTH_SCHEME} (did:mesh:[0-9a-f]{32}) (\\S{1,40}) ([A-Za-z0-9_-]{86})$`);

/** Who an `Authorization` header says it is, not yet believed. */
export interface Claim {
  readonly did: string;
  readonly time: string;
  readonly signature: string;
}

/** Reads `Ed25519-Timestamp <did> <ISO time> <base64url signature>`; undefined when it is not of that form. */
export function readAuthorization(header: string | undefined): Claim | undefined {
  const [, did, time, signature] = HEADER.exec(header ?? "") ?? [];
  return did === undefined || time === undefined || signature === undefined ? undefined : { did, time, signature };
}

/** Why a claim is not believed, or undefined when it is. `publicKey` is the claimed DID's own, base64url. */
export function claimRefusal(claim: Claim, publicKey: string, now: number): string | undefined {
  const time = signedTime(claim.time, now);
  if (time === "malformed") return "the time is not ISO-8601 with a zone";
  if (time === "stale") return "the time is too far from the registry's clock";
  const key = decoded(base64url, publicKey);
  const signature = decoded(base64url, claim.signature);
  if (!key || !signature) return "the signature is not base64url";
  return verify(key, utf8.encode(claim.time), signature) ? undefined : "the signature does not verify";
}

import { z } from "zod";
import { base64, didOf, type Identity, KEY_BYTES, sign, utf8, verify } from "../../crypto/index.ts";
import { safeParse } from "../../parse.ts";
import { Did } from "../../wire/text.ts";
import { GENESIS } from "./record.ts";

// Segments of the audit record. `audit.jsonl` is the open one. Rotation closes it under a name of its own: a last line, which the
// controller signs, says which lines the segment has and by which hash they end. The next segment begins with a line that says
// after which line it goes on, so that it needs none of those before it.

/** A place in the record: after which line, and what of the journal that line follows from. */
export interface Mark {
  readonly seq: number;
  readonly commit: number;
  /** How many lines the record has of that commit up to here. */
  readonly ofCommit: number;
  /** SHA-256 of the line, hex; zeros before the first. */
  readonly hash: string;
}

export const BEGINNING: Mark = { seq: 0, commit: 0, ofCommit: 0, hash: GENESIS };

const Place = {
  commit: z.int().min(1),
  of_commit: z.int().min(1),
  /** The hash of the last line before this one. */
  prev: z.string().length(64),
};
/** The Ed25519 key that signed the line, whose hash is the DID, and the signature of the line without `sig`; both in base64. */
const Signed = { controller: Did, key: z.base64().max(60), sig: z.base64().max(120) };
const Opening = z.strictObject({ what: z.literal("segment.opened"), after: z.int().min(1), ...Place, ...Signed });
const Closing = z.strictObject({
  what: z.literal("segment.closed"),
  at: z.string().max(40),
  first: z.int().min(1),
  last: z.int().min(1),
  ...Place,
  ...Signed,
});
type Opening = z.infer<typeof Opening>;
export type Closing = z.infer<typeof Closing>;

function parsed<T>(type: z.ZodType<T>, text: string): T | undefined {
  try {
    return safeParse(type, JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/** What is signed: no other signature of a controller begins so. */
const signedBytes = (fields: object) => utf8.encode(`kars-audit-segment:${JSON.stringify(fields)}`);

function signedLine(identity: Identity, fields: object): string {
  const whole = { ...fields, controller: identity.did, key: base64.encode(identity.publicKey) };
  return JSON.stringify({ ...whole, sig: base64.encode(sign(identity, signedBytes(whole))) });
}

/** The first line of a segment that goes on after a line. */
export const openingLine = (identity: Identity, { seq, commit, ofCommit, hash }: Mark): string =>
  signedLine(identity, { what: "segment.opened", after: seq, commit, of_commit: ofCommit, prev: hash });

/** The first line of such a segment; undefined when it is another line. */
export const parseOpening = (text: string): Opening | undefined => parsed(Opening, text);

export const beginOf = ({ after, commit, of_commit, prev }: Opening): Mark => ({
  seq: after,
  commit,
  ofCommit: of_commit,
  hash: prev,
});

/** The last line of a closed segment. @param at ISO 8601 */
export const closingLine = (identity: Identity, first: number, end: Mark, at: string): string =>
  signedLine(identity, {
    ...{ what: "segment.closed", at, first, last: end.seq },
    ...{ commit: end.commit, of_commit: end.ofCommit, prev: end.hash },
  });

/** The last line of a closed segment; undefined when it is another line. */
export const parseClosing = (text: string): Closing | undefined => parsed(Closing, text);

export const endOf = ({ last, commit, of_commit, prev }: Closing): Mark => ({
  seq: last,
  commit,
  ofCommit: of_commit,
  hash: prev,
});

/** Why a line was not signed by the controller with that DID; undefined when it was. Fields count in the order of the line. */
export function flawOfSignature({ sig, ...fields }: Opening | Closing, did: string): string | undefined {
  const { controller, key } = fields;
  if (controller !== did) return `it is signed by ${controller}, not by ${did}`;
  const publicKey = bytesOf(key);
  if (publicKey?.length !== KEY_BYTES || didOf(publicKey) !== did) return `its key is not the key of ${did}`;
  const signature = bytesOf(sig);
  return signature && verify(publicKey, signedBytes(fields), signature)
    ? undefined
    : "its signature does not hold: it was changed";
}

function bytesOf(text: string): Uint8Array | undefined {
  try {
    return base64.decode(text);
  } catch {
    // Whatever is wrong with it, it is no key and no signature.
    return undefined;
  }
}

const SEGMENT = /^audit\.([1-9]\d{0,14})-([1-9]\d{0,14})\.jsonl$/;

export const segmentName = (first: number, last: number): string => `audit.${first}-${last}.jsonl`;

export interface SegmentName {
  readonly name: string;
  readonly first: number;
  readonly last: number;
}

/** The closed segments among names of files, oldest first. */
export const segmentsOf = (names: readonly string[]): SegmentName[] =>
  names
    .flatMap((name) => {
      const [, first, last] = SEGMENT.exec(name) ?? [];
      return first === undefined ? [] : [{ name, first: Number(first), last: Number(last) }];
    })
    .sort((a, b) => a.first - b.first || a.last - b.last);

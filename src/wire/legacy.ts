import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { base64, base64url, CryptoError, didOfAmid, isDid, utf8 } from "../crypto/index.ts";
import { type ErrorCode, MeshError } from "../errors.ts";
import { FRAME_SIZE_MAX, NAME_LENGTH_MAX, SLOTS_MAX, TOKEN_LENGTH_MAX } from "../limits.ts";
import { safeParse } from "../parse.ts";
import { Envelope, Version } from "./frame.ts";
import { OffloadError, OffloadStatus } from "./payload.ts";
import { base64Text, Capabilities, compactToken, Did, Id, Timestamp, withoutNulls } from "./text.ts";

// What deployed kars clusters speak instead of `POST /v1/pair`: a token that names relay, registry and controller, and JSON
// words that cross the relay between the laptop and the controller in plaintext.

const PREFIX = "azcp_1_";

/** The older name of a key: base58btc of 20 bytes. */
export const Amid = z.string().refine((text) => didOfAmid(text) !== undefined, "is not an AMID");

/** The DID that either name of a key means. */
export const didOfName = (name: string): string => (isDid(name) ? name : (didOfAmid(name) ?? name));

const TokenBody = z.object({
  controller_amid: z.union([Did, Amid], "controller_amid is neither an AMID nor a DID"),
  relay_url: z.url({ protocol: /^wss?$/, error: "relay_url is not a ws:// or wss:// address" }).max(500),
  registry_url: z.url({ protocol: /^https?$/, error: "registry_url is not an http:// or https:// address" }).max(500),
  secret: z
    .string("secret is missing")
    .regex(/^[\x21-\x7e]{8,}$/, "secret is not at least 8 printable characters")
    .max(TOKEN_LENGTH_MAX),
});

export interface LegacyToken {
  readonly controllerDid: string;
  /** The controller's AMID, where the token has one. */
  readonly amid: string | null;
  readonly relayUrl: string;
  readonly registryUrl: string;
  readonly secret: string;
}

/** The deployed clusters' own clients read a token in either alphabet of base64, with or without padding. */
const decodeEither = (text: string) =>
  base64url.decode(
    text
      .replace(/={1,2}$/, "")
      .replaceAll("+", "-")
      .replaceAll("/", "_"),
  );

/** Whether a text that a person pasted is meant as a token of a deployed cluster. */
export const isLegacyToken = (text: string): boolean => compactToken(text).startsWith(PREFIX);

/** `azcp_1_` ‖ base64url(JSON). */
export const encodeLegacyToken = (body: z.input<typeof TokenBody>): string =>
  PREFIX + base64url.encode(utf8.encode(JSON.stringify(body)));

/** Reads a token as a person pasted it (white space is forgiven). @throws MeshError `token_invalid`, which says what is wrong */
export function decodeLegacyToken(text: string): LegacyToken {
  const refuse = (what: string) => new MeshError("token_invalid", `In this token ${what}.`);
  const compact = compactToken(text);
  if (compact.length > TOKEN_LENGTH_MAX)
    throw refuse(`there are ${compact.length} characters, and a token has at most ${TOKEN_LENGTH_MAX}`);
  let json: unknown;
  try {
    json = JSON.parse(utf8.decode(decodeEither(compact.slice(PREFIX.length))));
  } catch {
    // Which of the three failed helps nobody, and the errors may quote what is secret.
    throw refuse(`what follows ${PREFIX} is cut off or was changed`);
  }
  const { data, error } = safeParse(TokenBody, json);
  if (!data) {
    const [issue] = error?.issues ?? [];
    const field = String(issue?.path[0] ?? "");
    throw refuse(
      issue?.message.startsWith(field) && field !== "" ? issue.message : `${field || "the body"} is not valid`,
    );
  }
  return {
    controllerDid: didOfName(data.controller_amid),
    amid: isDid(data.controller_amid) ? null : data.controller_amid,
    relayUrl: data.relay_url,
    registryUrl: data.registry_url,
    secret: data.secret,
  };
}

/** A frame of a peer, by either name of the peer: enough to ack it, whatever else it says. */
export const Addressed = Envelope.extend({ from: z.union([Did, Amid]) });

const Base64Words = base64Text(FRAME_SIZE_MAX);

/**
 * A message that is not sealed. The words are base64 of JSON. Older controllers write them into `payload` only, newer ones into
 * `payload` and `ciphertext`, with `plaintext: true`. The sender is named by its DID or its AMID; only the relay vouches
 * for either.
 */
export const PlainMessage = z
  .looseObject({
    v: Version,
    type: z.literal("message"),
    from: z.union([Did, Amid]),
    to: Did,
    id: Id,
    ts: Timestamp.optional(),
    plaintext: z.literal(true).optional(),
    ciphertext: Base64Words.optional(),
    payload: Base64Words.optional(),
  })
  .refine(
    ({ plaintext, payload }) => plaintext || payload !== undefined,
    "is neither marked as plaintext nor has a payload",
  );
export type PlainMessage = z.infer<typeof PlainMessage>;

/** The fields that carry words in plaintext: `payload` for every controller's build, the other two for the newer ones. */
export function plainForms(words: object) {
  const text = base64.encode(utf8.encode(JSON.stringify(words)));
  return { payload: text, ciphertext: text, plaintext: true as const };
}

/** @throws CryptoError, SyntaxError */
const jsonOf = (text: string): unknown => JSON.parse(utf8.decode(base64.decode(text)));

/** All that is said to a controller in plaintext, but for the question that pairs. */
const LaptopWords = z.looseObject({ type: z.enum(["offload_request", "offload_cleanup"]) });
export const isForController = (words: unknown): words is object => safeParse(LaptopWords, words).success;

/** What a plaintext message says; undefined when it is unreadable, or says two different things. */
function wordsOf({ ciphertext, payload }: PlainMessage): unknown {
  try {
    const first = ciphertext === undefined ? undefined : jsonOf(ciphertext);
    const second = payload === undefined ? undefined : jsonOf(payload);
    if (first === undefined || second === undefined) return first ?? second;
    return isDeepStrictEqual(first, second) ? first : undefined;
  } catch (error) {
    if (error instanceof CryptoError || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** A name of a cluster as names are here. */
const asName = (text: string): string =>
  text
    .replaceAll(/[^A-Za-z0-9._-]+/g, "-")
    .replace(/^[^A-Za-z0-9]+/, "")
    .slice(0, NAME_LENGTH_MAX) || "cluster";

const PairGranted = z.object({
  type: z.literal("pair_response"),
  success: z.literal(true),
  cluster_name: z.string().max(200).default("cluster").transform(asName),
  controller_amid: z.union([Did, Amid]).optional(),
  capabilities_granted: Capabilities.default([]),
  slots: z.int().min(0).max(SLOTS_MAX),
  token_budget: z.number().min(0).max(Number.MAX_SAFE_INTEGER).transform(Math.floor).optional(),
  expires_at: z.string().max(40).optional(),
});
const PairRefused = z.object({
  type: z.literal("pair_response"),
  success: z.literal(false),
  error: z
    .string()
    .default("")
    .transform((text) => text.slice(0, 4000)),
});

/** All that is taken from a controller in plaintext. What is ours alone (DIDs of sandboxes, error codes) is not among it. */
const ControllerWords = z.union([
  PairGranted,
  PairRefused,
  z.object(OffloadStatus.omit({ sandbox_did: true }).shape),
  z.object(OffloadError.omit({ code: true }).shape),
]);
export type ControllerWords = z.infer<typeof ControllerWords>;
export type PairAnswer = Extract<ControllerWords, { type: "pair_response" }>;

/** What a controller says in a plaintext message; undefined when that is nothing that a controller says. */
export function readControllerWords(frame: PlainMessage): ControllerWords | undefined {
  const words = wordsOf(frame);
  if (typeof words !== "object" || words === null) return undefined;
  return safeParse(ControllerWords, withoutNulls(words)).data;
}

type Meanings = readonly (readonly [says: RegExp, code: ErrorCode])[];
const meaning = (text: string, meanings: Meanings): ErrorCode =>
  meanings.find(([says]) => says.test(text.replaceAll("_", " ")))?.[1] ?? "cluster_refused";

/**
 * The refusals of a token have no codes, so these patterns are tried in order. For any pairing that is no longer pending a controller
 * says "Pairing is <phase> — token already consumed or expired", so the patterns for the phase come first.
 */
const PAIR_REFUSALS: Meanings = [
  [/\bis revoked\b/i, "token_revoked"],
  [/\bis expired\b/i, "token_expired"],
  [/consumed|already|\bused\b|single.?use/i, "token_used"],
  [/revoked/i, "token_revoked"],
  [/expired/i, "token_expired"],
  [/internal/i, "cluster_refused"],
  [/invalid|unknown|not found|no such|mismatch|wrong/i, "token_invalid"],
];
/** What the words by which a token was refused mean. */
export const pairRefusal = (text: string): ErrorCode => meaning(text, PAIR_REFUSALS);

const OFFLOAD_REFUSALS: Meanings = [
  [/not paired|no pairing|unpaired/i, "not_paired"],
  [/revoked/i, "token_revoked"],
  [/expired/i, "token_expired"],
  [/not active|inactive|must be active/i, "token_revoked"],
  [/\bslots?\b/i, "no_free_slot"],
  [/capabilit/i, "capability_missing"],
  [/budget/i, "budget_exhausted"],
];
/** What the words by which a controller refused an offload mean. */
export const offloadRefusal = (text: string): ErrorCode => meaning(text, OFFLOAD_REFUSALS);

import { z } from "zod";
import { ERROR_CODES, MeshError } from "../errors.ts";
import { TOKEN_LENGTH_MAX } from "../limits.ts";
import { base64urlExact, Capabilities, compactToken, Did, Name, Timestamp } from "./text.ts";

// Pairing: the token that an operator hands over, and `POST /v1/pair` that consumes it.

const PREFIX = "kars-pair-";

/** What a token carries: enough to reach the controller and to prove that the operator let this laptop in. */
const TokenBody = z.object({
  /** URL of `POST /v1/pair`. */
  u: z.url({ protocol: /^https?$/ }).max(500),
  /** DID of the controller: the laptop refuses an answer from anyone else. */
  c: Did,
  /** 32 random bytes; the cluster keeps only their SHA-256. */
  s: base64urlExact(32),
});

export interface PairToken {
  readonly pairUrl: string;
  readonly controllerDid: string;
  readonly secret: string;
}

/** `kars-pair-` ‖ base64url(JSON). */
export function encodeToken(token: PairToken): string {
  const body = JSON.stringify({ u: token.pairUrl, c: token.controllerDid, s: token.secret });
  return PREFIX + btoa(body).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** Reads a token as a person pasted it (white space is forgiven). @throws MeshError `token_mangled` */
export function decodeToken(text: string): PairToken {
  const compact = compactToken(text);
  if (!compact.startsWith(PREFIX)) throw new MeshError("token_mangled");
  if (compact.length > TOKEN_LENGTH_MAX)
    throw new MeshError(
      "token_mangled",
      `It has ${compact.length} characters, and a token has at most ${TOKEN_LENGTH_MAX}.`,
    );
  try {
    const json: unknown = JSON.parse(atob(compact.slice(PREFIX.length).replaceAll("-", "+").replaceAll("_", "/")));
    const body = TokenBody.parse(json);
    return { pairUrl: body.u, controllerDid: body.c, secret: body.s };
  } catch (error) {
    throw new MeshError("token_mangled", undefined, { cause: error });
  }
}

/** `POST /v1/pair`. proof = Ed25519 over utf8(`kars-pair-v1|<secret>|<did>|<timestamp>`). */
export const PairRequest = z.object({
  token: base64urlExact(32),
  did: Did,
  public_key: base64urlExact(32),
  proof: base64urlExact(64),
  proof_timestamp: Timestamp,
  display_name: Name.optional(),
});
export type PairRequest = z.infer<typeof PairRequest>;

export const pairProofText = (secret: string, did: string, timestamp: string) =>
  `kars-pair-v1|${secret}|${did}|${timestamp}`;

export const Grant = z.object({
  name: Name,
  slots: z.int().min(0),
  capabilities: Capabilities,
  token_budget: z.int().min(0).nullable(),
  expires_at: z.string().nullable(),
});
export type Grant = z.infer<typeof Grant>;

export const PairResponse = z.looseObject({
  cluster: Name,
  relay_url: z.url({ protocol: /^wss?$/ }).max(500),
  registry_url: z.url({ protocol: /^https?$/ }).max(500),
  controller_did: Did,
  /** The controller's Ed25519 key and its signature over utf8(`kars-paired-v1|<did>|<relay_url>|<registry_url>|<proof_timestamp>`). */
  controller_key: base64urlExact(32),
  signature: base64urlExact(64),
  grant: Grant,
  /** Extension: the registry says with the controller's signature whom the cluster let in. */
  vouches: z.boolean().optional(),
});
export type PairResponse = z.infer<typeof PairResponse>;

export const pairedProofText = (did: string, relayUrl: string, registryUrl: string, timestamp: string) =>
  `kars-paired-v1|${did}|${relayUrl}|${registryUrl}|${timestamp}`;

export const ErrorResponse = z.looseObject({
  error: z.object({ code: z.enum(ERROR_CODES).or(z.string().max(64)), message: z.string().max(1000) }),
});

/** What a proxy that looks into requests answers with 403 in the server's place, as OpenShell does. */
export const PolicyDenied = z.looseObject({ error: z.literal("policy_denied") });

import { z } from "zod";
import { DISCOVER_AGENTS_MAX, ONE_TIME_PREKEYS } from "../limits.ts";
import { safeParse } from "../parse.ts";
import { base64urlExact, Capabilities, Capability, Did, KeyId, Sha256, Timestamp } from "./text.ts";

// The registry's HTTP API: JSON bodies, base64url without padding, DIDs percent-encoded in paths.

const PublicKey = base64urlExact(32);
const Signature = base64urlExact(64);
const Metadata = z
  .record(z.string().max(64), z.string().max(1024))
  .refine((m) => Object.keys(m).length <= 32, "too many metadata entries");

/** `POST /v1/agents`: proof = Ed25519 over utf8(public_key string ‖ proof_timestamp string). */
export const RegisterRequest = z.object({
  public_key: PublicKey,
  proof: Signature,
  proof_timestamp: Timestamp,
  capabilities: Capabilities.default([]),
  metadata: Metadata.default({}),
});
export type RegisterRequest = z.infer<typeof RegisterRequest>;

/**
 * `POST /v1/agents` as old clients send it (`@microsoft/agent-governance-sdk` up to 4.0.0): a DID and an X25519 key, and
 * nothing that proves either.
 */
export const UnprovenRegisterRequest = z.object({
  did: Did,
  public_key: PublicKey,
  capabilities: Capabilities.default([]),
  metadata: Metadata.default({}),
});

const OneTimePreKey = z.object({ key_id: KeyId, public_key: PublicKey });
const SignedPreKey = z.object({ key_id: KeyId, public_key: PublicKey, signature: Signature });

/** `PUT /v1/agents/{did}/prekeys` */
export const PreKeysUpload = z.object({
  identity_key: PublicKey,
  identity_key_ed: PublicKey,
  signed_pre_key: SignedPreKey,
  one_time_pre_keys: z.array(OneTimePreKey).max(4 * ONE_TIME_PREKEYS),
});
export type PreKeysUpload = z.infer<typeof PreKeysUpload>;

/** `GET /v1/agents/{did}/prekeys`: consumes one one-time prekey. */
export const PreKeysResponse = z.looseObject({
  identity_key: PublicKey,
  /** The reference registry gives null for a client that published none. */
  identity_key_ed: PublicKey.nullish(),
  signed_pre_key: SignedPreKey,
  one_time_pre_key: OneTimePreKey.nullish(),
});
export type PreKeysResponse = z.infer<typeof PreKeysResponse>;

/** Extension: `GET /v1/agents/{did}/prekeys/count`, signed by the agent. */
export const PreKeysCount = z.looseObject({ one_time_count: z.int().min(0) });

/** The extensions that an agent announces in its record, as one metadata entry: names with spaces between them. */
export const AGENT_EXTENSIONS = ["signed-knocks", "receipts", "resends", "files", "arrivals"] as const;
export const EXTENSIONS_ENTRY = "extensions";
/** The value of that entry as this program registers it. */
export const ANNOUNCED_EXTENSIONS = AGENT_EXTENSIONS.join(" ");

/**
 * Extension: a cluster's controller vouches for an agent that it let in. signature = Ed25519 by the controller's key over
 * utf8(`kars-member-v1|<did>|<expires_at>`). Of an agent that works on a run, `run` names that run by its mark, which is the SHA-256 of
 * utf8(`kars-run-v1|<request id>`) in hex, because the id itself is a secret of the laptop and the cluster. `run.signature` = Ed25519 over
 * utf8(`kars-run-v1|<did>|<mark>|<expires_at>`).
 */
export const Membership = z.looseObject({
  controller_key: PublicKey,
  expires_at: Timestamp,
  signature: Signature,
  run: z.looseObject({ mark: Sha256, signature: Signature }).optional(),
});
export type Membership = z.infer<typeof Membership>;
export const memberText = (did: string, expiresAt: string) => `kars-member-v1|${did}|${expiresAt}`;

/** What the mark of a run is the hash of. */
export const runMarkText = (requestId: string) => `kars-run-v1|${requestId}`;
export const runText = (did: string, mark: string, expiresAt: string) => `kars-run-v1|${did}|${mark}|${expiresAt}`;

/** `GET /v1/agents/{did}` */
export const AgentRecord = z.looseObject({
  did: Did,
  public_key: z.string().max(64).optional(),
  capabilities: z.array(z.string()).default([]),
  metadata: z.record(z.string(), z.string()).default({}),
  last_seen: z.string().nullish(),
  membership: Membership.nullish(),
});
export type AgentRecord = z.infer<typeof AgentRecord>;

/** `GET /v1/discover?capability=X&limit=n` */
export const DiscoverQuery = z.object({
  capability: Capability,
  limit: z.coerce.number().int().min(1).max(DISCOVER_AGENTS_MAX).default(50),
});
const DiscoveredAgent = z.looseObject({
  did: Did,
  capabilities: z.array(z.string()).default([]),
  reputation_score: z.number().nullish(),
  last_seen: z.string().nullish(),
  /** Extension. The reference registry says this only for one agent at a time, in `presence`. */
  online: z.boolean().optional(),
});
export const DiscoverResponse = z.looseObject({
  /** Entries with an invalid DID are dropped, so that they do not hide the other agents: old registries accepted any name as a DID. */
  results: z
    .array(z.unknown())
    .max(DISCOVER_AGENTS_MAX)
    .transform((results) => results.flatMap((result) => safeParse(DiscoveredAgent, result).data ?? [])),
  total: z.number().optional(),
});

/** `GET /v1/agents/{did}/presence` */
export const PresenceResponse = z.looseObject({ did: Did, last_seen: z.string().nullish(), online: z.boolean() });

export const ReputationRequest = z.object({ score: z.number().min(0).max(1), reason: z.string().max(500).default("") });

/** Why the reference registry refuses a request: a sentence, or a list of what is wrong with which field. */
export const RegistryRefusal = z.looseObject({
  detail: z.union([z.string(), z.array(z.looseObject({ msg: z.string() })).min(1)]),
});

/** `Ed25519-Timestamp <did> <ISO time> <base64url Ed25519(time string)>`, valid five minutes either way. */
export const AUTH_SCHEME = "Ed25519-Timestamp";

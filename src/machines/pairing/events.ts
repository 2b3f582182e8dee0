import { z } from "zod";
import { ERROR_CODES, type ErrorCode } from "../../errors.ts";
import { Grant } from "../../wire/pair.ts";
import { Capabilities, Did, Id, KeyId, Name } from "../../wire/text.ts";
import { Resumed, type Timed } from "../definition.ts";

export const PairingEventSchema = z.discriminatedUnion("type", [
  /** A token is to be consumed. Its secret and the identity ride in the commit, sealed. */
  z.object({
    type: z.literal("STARTED"),
    did: Did,
    pair_url: z.string().max(500),
    controller: Did,
    /** The name to register under; the grant's own when null. */
    name: Name.nullable(),
    capabilities: Capabilities,
  }),
  /**
   * A token of a deployed cluster is to be consumed, by asking its controller over the relay, in plaintext. Its secret and the
   * identity ride in the commit, sealed. `request` makes the ids of the questions.
   */
  z.object({
    type: z.literal("INVITED"),
    did: Did,
    controller: Did,
    amid: z.string().max(64).nullable(),
    request: Id,
    relay_url: z.string().max(500),
    registry_url: z.string().max(500),
    name: Name,
  }),
  /** A member of the cluster that needs no token (a controller, a sandbox): it only registers. */
  z.object({
    type: z.literal("JOINED"),
    did: Did,
    controller: Did,
    cluster: Name,
    relay_url: z.string().max(500),
    registry_url: z.string().max(500),
    name: Name,
    capabilities: Capabilities,
  }),
  /** The controller took the token and bound the grant to our DID. */
  z.object({
    type: z.literal("CLAIMED"),
    cluster: Name,
    relay_url: z.string().max(500),
    registry_url: z.string().max(500),
    grant: Grant,
    /** The registry says, with the controller's signature, whom the cluster let in. */
    vouches: z.boolean().optional(),
    /** The controller said it in plaintext, under this name: its DID or its AMID. */
    plain: z.string().max(64).optional(),
  }),
  /** `extensions`: the extensions announced with this registration. Earlier versions of this program did not record them. */
  z.object({
    type: z.literal("REGISTERED"),
    name: Name,
    capabilities: Capabilities,
    extensions: z.string().max(1024).optional(),
  }),
  /** Prekeys were made; their private halves ride in the commit, sealed. */
  z.object({ type: z.literal("PREKEYS_MADE"), signed: KeyId, first: KeyId, count: z.int().min(0) }),
  /** The registry has them. */
  z.object({ type: z.literal("PUBLISHED"), signed: KeyId }),
  /** The registry no longer knows this member, because a registry that keeps everything in memory was restarted. */
  z.object({ type: z.literal("FORGOTTEN") }),
  /** This program announces other extensions than the ones that it registered with. */
  z.object({ type: z.literal("OUTDATED") }),
  /** This step did not succeed; `final` when trying again cannot help. */
  z.object({ type: z.literal("FAILED"), code: z.enum(ERROR_CODES), detail: z.string().max(1000), final: z.boolean() }),
  Resumed,
]);
export type PairingEvent = Timed<z.infer<typeof PairingEventSchema>>;

export interface Forgotten {
  /** When this laptop noticed it. */
  readonly at: number;
  /** When this laptop had registered and published prekeys again; null before that. */
  readonly again: number | null;
  /** How many times in a row the registry forgot, each within REGISTRATION_CALM_MS of the registration before. */
  readonly times: number;
}

export interface PairingContext {
  readonly did: string | null;
  readonly pairUrl: string | null;
  readonly controller: string;
  readonly cluster: string | null;
  readonly relayUrl: string | null;
  readonly registryUrl: string | null;
  /** The name that the person asked for; the grant's own when null. */
  readonly requestedName: string | null;
  readonly name: string | null;
  readonly capabilities: readonly string[];
  readonly grant: Grant | null;
  /** Whether the cluster vouches for its members. */
  readonly vouches: boolean;
  readonly prekeys: { readonly signed: number; readonly first: number; readonly next: number } | null;
  readonly pairedAt: number | null;
  /** The controller of a deployed cluster is being asked to take the token. */
  readonly asking: {
    readonly request: string;
    readonly amid: string | null;
    /** How often it was asked. */
    readonly asks: number;
    /** The membership that there was before. */
    readonly before: {
      readonly name: string | null;
      readonly relayUrl: string | null;
      readonly registryUrl: string | null;
    };
  } | null;
  /** The name (DID or AMID) of a controller that speaks plaintext, and nothing else; null of one that speaks sealed. */
  readonly plain: string | null;
  /** The extensions that were announced with the last registration; null when that is not known. */
  readonly announced: string | null;
  /** The last time that the registry forgot this member; null when it never did. */
  readonly forgotten: Forgotten | null;
  /** Whether a member is registering again, because its registry forgot it or has an outdated record. It stays a member meanwhile. */
  readonly rejoining: boolean;
  readonly attempts: number;
  readonly failure: { readonly code: ErrorCode; readonly detail: string } | null;
}

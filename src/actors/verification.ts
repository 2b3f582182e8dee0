import { safetyNumber } from "../crypto/index.ts";
import { MeshError } from "../errors.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import { conversationOf } from "./core.ts";
import { nameOfPeer } from "./directory.ts";
import type { MeshNode } from "./node.ts";
import { identityOf } from "./peer-keys.ts";

// Verification: two people compare the safety number of their agents by another way than the mesh. A DID is the hash of a key,
// so what they learn is that the DID which each has is the other's own.

export interface Verification {
  readonly did: string;
  readonly name: string | null;
  /** 60 digits, the same at both ends. */
  readonly number: string;
  /** When it was compared, ISO 8601; null when it was not. */
  readonly verified_at: string | null;
}

/**
 * The safety number with a peer, and what is known of its comparison.
 * @throws MeshError `safety_number_mismatch` when `number` is another one; `peer_identity_mismatch` when no key at the registry
 * is the DID's; `peer_unknown`, `registry_unreachable`
 */
export async function verify(
  node: MeshNode,
  did: string,
  { number: other, record }: { readonly number?: string | undefined; readonly record?: string | undefined },
): Promise<Verification> {
  const { system, keyring, registry } = node.core;
  const { identity } = keyring;
  const { key } = await identityOf(registry(), did);
  const number = safetyNumber({ name: identity.did, key: identity.publicKey }, { name: did, key });
  if (other !== undefined && other.replaceAll(/[^0-9]/g, "") !== number) {
    throw new MeshError(
      "safety_number_mismatch",
      `This is not the safety number with ${nameOfPeer(node.core, did)}; nothing was recorded.`,
    );
  }
  if (record) {
    const type = record === "verified" ? "VERIFIED" : "UNVERIFIED";
    const stream = conversationOf(did);
    const admitted = type === "VERIFIED" && node.admission.isHeld(did) ? [{ stream, event: { type: "ADMITTED" } }] : [];
    await system.commit([{ stream, event: { type } }, ...admitted]).durable;
  }
  const context: ConversationContext | undefined = system.state(conversationOf(did))?.snapshot.context;
  const at = context?.verified ?? null;
  return { did, name: context?.name ?? null, number, verified_at: at === null ? null : new Date(at).toISOString() };
}

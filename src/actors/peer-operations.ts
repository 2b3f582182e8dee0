import { z } from "zod";
import { isDid } from "../crypto/index.ts";
import { SAFETY_NUMBER_LENGTH_MAX } from "../limits.ts";
import { KnockPolicy } from "../machines/admission/events.ts";
import { ADMISSION, policyOf } from "./admission.ts";
import { conversationOf } from "./core.ts";
import { knownPeer, resolvePeer } from "./directory.ts";
import { forget, forgettable } from "./forgetting.ts";
import { operation, Peer } from "./operation.ts";
import { peerOf, peersOf } from "./peers.ts";
import { verify } from "./verification.ts";

// What can be asked about peers, and decided on them.

export const peerOperations = {
  /** Everyone who was talked to or knocked; and how many frames came that were in no form that is understood, from whomever. */
  peers: operation(z.object({}), async (_, { node }) => ({
    peers: peersOf(node),
    malformed: node.core.link.malformed,
  })),

  /** The safety number with a peer; `record` keeps that it was compared, if `number` (when given) is the same. */
  verify: operation(
    z.object({
      peer: Peer,
      number: z.string().max(SAFETY_NUMBER_LENGTH_MAX).optional(),
      record: z.enum(["verified", "unverified"]).optional(),
    }),
    async ({ peer, number, record }, { node }) => verify(node, await resolvePeer(node.core, peer), { number, record }),
  ),

  /** Destroys the words of a conversation, or (`preview`) says what that would destroy. */
  forget: operation(
    z.object({ peer: Peer, preview: z.boolean().default(false) }),
    async ({ peer, preview }, { node }) => (preview ? forgettable(node, peer) : forget(node, peer)),
  ),

  /** Whose knocks are taken; with `policy` that is set. */
  knock_policy: operation(z.object({ policy: KnockPolicy.optional() }), async ({ policy }, { node: { core } }) => {
    if (policy && policy !== policyOf(core.system))
      await core.system.commit([{ stream: ADMISSION, event: { type: "POLICY_SET", policy } }]).durable;
    return { policy: policyOf(core.system) };
  }),

  /** Lets a peer talk to us: what it said so far comes to the inbox. A DID may be let in before it knocks. */
  accept: operation(z.object({ peer: Peer }), async ({ peer }, { node }) => {
    const did = isDid(peer) ? peer : knownPeer(node.core, peer).peer;
    await node.core.system.commit([{ stream: conversationOf(did), event: { type: "ADMITTED" } }]).durable;
    return { did, name: peerOf(node, did)?.name ?? null, unread: peerOf(node, did)?.unread ?? 0 };
  }),

  /** Keeps a peer from talking to us: it is told so, and what it said stays out of sight. */
  decline: operation(z.object({ peer: Peer }), async ({ peer }, { node }) => {
    const did = isDid(peer) ? peer : knownPeer(node.core, peer).peer;
    await node.knocks.decline(did);
    return { did, name: peerOf(node, did)?.name ?? null };
  }),
} as const;

import { isDid } from "../crypto/index.ts";
import { MeshError } from "../errors.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import { asAddress } from "../wire/text.ts";
import type { Agent } from "./agent.ts";
import { type Core, conversationOf } from "./core.ts";
import { agentsBy, withDetails } from "./discovery.ts";
import { CANDIDATES_SHOWN_MAX } from "./limits.ts";

// Who is meant: DIDs are sure, names are hints.

/** A candidate for a name, with all that is known of it here. */
function describe(core: Core, { did, online, last_seen }: Agent): string {
  const context: ConversationContext | undefined = core.system.state(conversationOf(did))?.snapshot.context;
  const known = context && {
    verified: context.verified !== null,
    "written to": context.sent + context.outbox.length > 0,
    "heard from": context.received > 0,
    "waiting to be accepted": context.admission === "held",
    declined: context.admission === "declined",
  };
  const facts = Object.entries(known ?? {}).flatMap(([fact, holds]) => (holds ? [fact] : []));
  const seen = online ? "online" : last_seen === null ? "not known to be online" : `last seen ${last_seen}`;
  return `${did} (${[...(facts.length > 0 ? facts : ["never talked to"]), seen].join(", ")})`;
}

/** The name under which a peer is known here, or its DID. */
export function nameOfPeer(core: Core, did: string): string {
  const context: ConversationContext | undefined = core.system.state(conversationOf(did))?.snapshot.context;
  return context?.name ?? did;
}

/**
 * The DID that a person or a model means by a DID or a name. A name that was addressed before goes on meaning the same
 * peer; what a peer calls itself settles nothing.
 * @throws MeshError `peer_unknown`, `peer_ambiguous` with the candidates, `registry_unreachable`
 */
export async function resolvePeer(core: Core, text: string): Promise<string> {
  const wanted = asAddress(text);
  if (isDid(wanted)) {
    if (core.keyring.hasIdentity && wanted === core.keyring.identity.did)
      throw new MeshError("input_invalid", "That DID is this laptop itself.");
    return wanted;
  }
  const known = [...core.system.streams("conversation")]
    .map(([, state]): ConversationContext => state.snapshot.context)
    .filter(({ address }) => address === wanted);
  if (known.length === 1 && known[0]) return known[0].peer;
  const agents = await agentsBy(core, { name: wanted });
  if (agents.length > 1) {
    const shown = await withDetails(core, agents.slice(0, CANDIDATES_SHOWN_MAX));
    const candidates = shown.map((agent) => describe(core, agent));
    const more = agents.length - candidates.length;
    const list = `${candidates.join("; ")}${more > 0 ? `; and ${more} more` : ""}`;
    throw new MeshError("peer_ambiguous", `"${wanted}" is the name of ${agents.length} agents: ${list}.`);
  }
  const [agent] = agents;
  if (!agent) throw new MeshError("peer_unknown", `"${wanted}" is not known to the registry.`);
  await core.system.commit([
    { stream: conversationOf(agent.did), event: { type: "NAMED", name: wanted, source: "address" } },
  ]).durable;
  return agent.did;
}

/**
 * The peer that is meant, among those that are known here.
 * @throws MeshError `peer_unknown`, `peer_ambiguous`
 */
export function knownPeer(core: Core, text: string): ConversationContext {
  const wanted = asAddress(text);
  const all = [...core.system.streams("conversation")].map(([, state]): ConversationContext => state.snapshot.context);
  const addressed = all.filter(({ peer, address }) => (isDid(wanted) ? peer === wanted : address === wanted));
  const found = addressed.length > 0 ? addressed : all.filter(({ name }) => name === wanted);
  if (found.length > 1)
    throw new MeshError("peer_ambiguous", `"${wanted}" is the name of ${found.map(({ peer }) => peer).join(", ")}.`);
  const [context] = found;
  if (!context) throw new MeshError("peer_unknown", `There is no conversation with "${wanted}".`);
  return context;
}

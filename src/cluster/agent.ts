import { z } from "zod";
import { ONE_TIME_GIVEN_MAX, ONE_TIME_HELD_MAX } from "../limits.ts";
import type { PreKeysResponse, PreKeysUpload } from "../wire/registry.ts";

// One agent as the registry knows it: its events, and what they add up to.

const Metadata = z.record(z.string(), z.string());
const OneTime = z.object({ key_id: z.number(), public_key: z.string() });
const Published = z.object({
  identity_key: z.string(),
  identity_key_ed: z.string(),
  signed_pre_key: z.object({ key_id: z.number(), public_key: z.string(), signature: z.string() }),
});
type Published = z.infer<typeof Published>;

export const AgentEvent = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("REGISTERED"),
    public_key: z.string(),
    capabilities: z.array(z.string()),
    metadata: Metadata,
    provedAt: z.number(),
  }),
  /** Registered the old way, without a proof. `public_key` is whatever it named, X25519. */
  z.object({
    type: z.literal("CLAIMED"),
    public_key: z.string(),
    capabilities: z.array(z.string()),
    metadata: Metadata,
  }),
  z.object({ type: z.literal("UPDATED"), capabilities: z.array(z.string()), metadata: Metadata, provedAt: z.number() }),
  /** `one_time_pre_keys` are those to add. `anew` drops those held and forgets those given out. */
  Published.extend({ type: z.literal("PREKEYS_PUBLISHED"), one_time_pre_keys: z.array(OneTime), anew: z.boolean() }),
  z.object({ type: z.literal("PREKEY_TAKEN"), key_id: z.number() }),
  z.object({ type: z.literal("RATED"), by: z.string(), score: z.number(), reason: z.string(), reputation: z.number() }),
  z.object({ type: z.literal("SEEN"), at: z.number() }),
  z.object({ type: z.literal("REMOVED") }),
  /** All that the events before it added up to: what a rewritten journal begins with. */
  z.object({
    type: z.literal("RESTORED"),
    public_key: z.string(),
    capabilities: z.array(z.string()),
    metadata: Metadata,
    provedAt: z.number().nullable(),
    registeredAt: z.number(),
    lastSeen: z.number(),
    reputation: z.number(),
    published: Published.optional(),
    held: z.array(OneTime),
    given: z.array(OneTime),
  }),
]);
export type AgentEvent = z.infer<typeof AgentEvent>;

export interface Agent {
  /** Ed25519, base64url; of an agent that proved nothing the X25519 key. */
  readonly publicKey: string;
  readonly capabilities: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  /**
   * The time in the newest registration proof that was accepted: an older one changes nothing any more. Null when it was
   * registered without a proof.
   */
  readonly provedAt: number | null;
  readonly registeredAt: number;
  readonly lastSeen: number;
  /** 0 to 1. */
  readonly reputation: number;
  readonly published?: Published | undefined;
  /** One-time prekeys by id, oldest first: those held, and those given out. */
  readonly held: ReadonlyMap<number, string>;
  readonly given: ReadonlyMap<number, string>;
}

const REPUTATION_AT_FIRST = 0.5;
/** How much of a new score goes into the reputation. */
const REPUTATION_WEIGHT = 0.3;

export const reputationAfter = (agent: Agent, score: number) =>
  REPUTATION_WEIGHT * score + (1 - REPUTATION_WEIGHT) * agent.reputation;

const byId = (keys: readonly z.infer<typeof OneTime>[]) => new Map(keys.map((key) => [key.key_id, key.public_key]));
const listed = (keys: ReadonlyMap<number, string>) => [...keys].map(([key_id, public_key]) => ({ key_id, public_key }));

/** The agent after an event; undefined when there is none. An event about an agent that is not there means nothing. */
export function fold(agent: Agent | undefined, event: AgentEvent, at: number): Agent | undefined {
  if (event.type === "REGISTERED" || event.type === "CLAIMED") {
    const { public_key: publicKey, capabilities, metadata } = event;
    const provedAt = event.type === "REGISTERED" ? event.provedAt : null;
    const times = { provedAt, registeredAt: at, lastSeen: at };
    const keys = { held: new Map<number, string>(), given: new Map<number, string>() };
    return { publicKey, capabilities, metadata, ...times, reputation: REPUTATION_AT_FIRST, ...keys };
  }
  if (event.type === "RESTORED") {
    const { type: _, public_key: publicKey, held, given, ...rest } = event;
    return { ...rest, publicKey, held: byId(held), given: byId(given) };
  }
  if (!agent) return undefined;
  switch (event.type) {
    case "UPDATED":
      return { ...agent, capabilities: event.capabilities, metadata: event.metadata, provedAt: event.provedAt };
    case "PREKEYS_PUBLISHED": {
      const { identity_key, identity_key_ed, signed_pre_key, one_time_pre_keys, anew } = event;
      const held = new Map(anew ? [] : agent.held);
      for (const { key_id, public_key } of one_time_pre_keys) held.set(key_id, public_key);
      const given = anew ? new Map<number, string>() : agent.given;
      // The keys of an upload belong to the DID; what an agent named without a proof need not.
      const publicKey = agent.provedAt === null ? identity_key : agent.publicKey;
      return { ...agent, publicKey, published: { identity_key, identity_key_ed, signed_pre_key }, held, given };
    }
    case "PREKEY_TAKEN": {
      const key = agent.held.get(event.key_id);
      if (key === undefined) return agent;
      const held = new Map(agent.held);
      held.delete(event.key_id);
      const kept = [...agent.given].slice(-(ONE_TIME_GIVEN_MAX - 1));
      return { ...agent, held, given: new Map([...kept, [event.key_id, key]]) };
    }
    case "RATED":
      return { ...agent, reputation: event.reputation };
    case "SEEN":
      return { ...agent, lastSeen: Math.max(agent.lastSeen, event.at) };
    case "REMOVED":
      return undefined;
  }
}

/** The one event that folds to this agent. */
export function restored(agent: Agent): AgentEvent {
  const { publicKey: public_key, held, given, published, capabilities, metadata, ...rest } = agent;
  return {
    type: "RESTORED",
    public_key,
    capabilities: [...capabilities],
    metadata: { ...metadata },
    ...rest,
    ...(published ? { published } : {}),
    held: listed(held),
    given: listed(given),
  };
}

/**
 * What an upload of prekeys adds to an agent. One-time prekeys that are held or were given out are not taken again, and no
 * more than ONE_TIME_HELD_MAX are held. The signed prekey replaces the one before.
 *
 * An id that comes back with ANOTHER key tells that the agent lost its memory and counts from the beginning (the reference
 * client does so at every restart): then nobody has the private keys of what is held, and the upload begins anew.
 */
export function publication(agent: Agent, upload: PreKeysUpload): AgentEvent {
  const { identity_key, identity_key_ed, signed_pre_key, one_time_pre_keys } = upload;
  const before = agent.published?.signed_pre_key;
  const knownKey = (id: number) => agent.held.get(id) ?? agent.given.get(id);
  const anew =
    (before?.key_id === signed_pre_key.key_id && before.public_key !== signed_pre_key.public_key) ||
    one_time_pre_keys.some(({ key_id, public_key }) => (knownKey(key_id) ?? public_key) !== public_key);
  const fresh = new Map<number, string>();
  for (const { key_id, public_key } of one_time_pre_keys) {
    if ((anew || knownKey(key_id) === undefined) && !fresh.has(key_id)) fresh.set(key_id, public_key);
  }
  const room = ONE_TIME_HELD_MAX - (anew ? 0 : agent.held.size);
  const added = listed(fresh).slice(0, room);
  return { type: "PREKEYS_PUBLISHED", identity_key, identity_key_ed, signed_pre_key, one_time_pre_keys: added, anew };
}

/** The answer to whoever wants to open a session with the agent, and the one-time prekey that it spends. */
export function bundleOf(agent: Agent): { readonly bundle: PreKeysResponse; readonly taken?: number } | undefined {
  if (!agent.published) return undefined;
  const next = agent.held.entries().next().value;
  if (!next) return { bundle: { ...agent.published, one_time_pre_key: null } };
  const [key_id, public_key] = next;
  return { bundle: { ...agent.published, one_time_pre_key: { key_id, public_key } }, taken: key_id };
}

import { asMeshError, MeshError } from "../../errors.ts";
import { safeParse } from "../../parse.ts";
import { type Agent, AgentEvent, bundleOf, fold, publication, reputationAfter, restored } from "../agent.ts";
import { type Agents, sameFacts } from "../state.ts";
import { takeTurns } from "../turns.ts";
import { type Bus, didOfToken, tokenOf } from "./bus.ts";
import { openCapabilities } from "./capabilities.ts";
import { ASKED_AT_ONCE_MAX, DISCOVER_SCAN_MAX } from "./limits.ts";
import { forEach, jsonOf, openRecords, untilWritten } from "./records.ts";
import { scan } from "./scan.ts";
import { openSights } from "./sights.ts";

// The registry's records in NATS: one an agent, bucket `agents`, the event that it was restored from. A change reads the
// record, decides, and writes it if nobody wrote meanwhile; else it decides again. So every decision stands on what is
// durable, whichever replica made it, and a one-time prekey is given out once. There is room for as many agents as NATS has.

export interface JetStreamAgentsOptions {
  readonly now: () => number;
  /** Agents that proved nothing are there too; otherwise nobody sees them. */
  readonly allowUnproven?: boolean | undefined;
  readonly log?: ((line: string) => void) | undefined;
}

export interface JetStreamAgents extends Agents {
  /** Resolves when all that was asked for is durable or has failed. */
  close(): Promise<void>;
}

const without = (names: readonly string[], others: readonly string[]) => names.filter((name) => !others.includes(name));

/** What is made of an agent: an event if anything changes, and the answer to whoever asked, given the agent after it. */
interface Decision<T> {
  readonly event?: AgentEvent | undefined;
  readonly answer: (after: Agent | undefined) => T;
}

/** @throws MeshError `nats_unavailable` */
export async function openJetStreamAgents(bus: Bus, options: JetStreamAgentsOptions): Promise<JetStreamAgents> {
  const { now, allowUnproven = false, log } = options;
  const records = await openRecords(bus, "agents");
  const capabilities = await openCapabilities(bus);
  const turns = takeTurns();

  const isSeen = (agent: Agent | undefined) => agent !== undefined && (allowUnproven || agent.provedAt !== null);

  /** A record's agent; undefined when there is none. @throws MeshError `store_newer` */
  function agentOf(did: string, value: unknown): Agent | undefined {
    if (value === undefined) return undefined;
    const { success, data } = safeParse(AgentEvent, value);
    // Whatever it is, it is not written over.
    if (!success) throw new MeshError("store_newer", `NATS: the record of ${did} cannot be read.`);
    return fold(undefined, data, 0);
  }

  /** The same where many are looked at: one that cannot be read is passed over. */
  function readable(did: string, value: unknown): Agent | undefined {
    try {
      return agentOf(did, value);
    } catch (error) {
      log?.(`registry: ${asMeshError(error).message}`);
      return undefined;
    }
  }

  async function read(did: string): Promise<{ readonly agent: Agent | undefined; readonly revision: number }> {
    const { value, revision } = await records.read(tokenOf(did));
    return { agent: agentOf(did, value), revision };
  }

  const sights = await openSights(bus, now, async (did) => (await read(did)).agent !== undefined);

  const sighted = async (did: string, agent: Agent): Promise<Agent> => ({
    ...agent,
    lastSeen: Math.max(agent.lastSeen, await sights.lastSeen(did)),
  });

  const change = <T>(did: string, decide: (agent: Agent | undefined) => Decision<T>): Promise<T> =>
    turns.run(did, () =>
      untilWritten(async () => {
        const { agent, revision } = await read(did);
        const { event, answer } = decide(agent);
        if (!event) return { result: answer(agent) };
        const after = fold(agent, event, now());
        const named = agent?.capabilities ?? [];
        const names = after?.capabilities ?? [];
        await capabilities.add(did, without(names, named), revision);
        const record: AgentEvent = after ? restored(after) : { type: "REMOVED" };
        const written = await records.write(tokenOf(did), JSON.stringify(record), revision);
        if (written === undefined) return undefined;
        await capabilities.drop(did, without(named, names), written);
        if (!after) await clear(did, written);
        return { result: answer(after) };
      }),
    );

  /** Removes what a removed agent leaves. It is gone already, so it never rejects. */
  async function clear(did: string, removal: number): Promise<void> {
    try {
      await sights.forget(did);
      await records.erase(removal);
    } catch (error) {
      log?.(`registry: the mark of a removed agent stays: ${asMeshError(error).message}`);
    }
  }

  async function findAll() {
    const { messages, total } = await scan(bus, records.stream, records.subject("*"), DISCOVER_SCAN_MAX);
    const agents = messages.map(({ token, data }) => {
      const did = didOfToken(token);
      return { did, agent: readable(did, jsonOf(data)) };
    });
    return { agents, total };
  }

  async function findCapable(capability: string) {
    const { entries, total } = await capabilities.entries(capability);
    const names = (agent: Agent | undefined) => agent?.capabilities.includes(capability) === true;
    const agents = await forEach(entries, ASKED_AT_ONCE_MAX, async (entry) => {
      const { did } = entry;
      const glanced = readable(did, (await records.glance(tokenOf(did))).value);
      if (names(glanced)) return { did, agent: glanced };
      // A copy of the stream may be a moment behind.
      const { value, revision } = await records.read(tokenOf(did));
      const agent = readable(did, value);
      if (names(agent)) return { did, agent };
      if (agent || value === undefined) await capabilities.heal(entry, revision);
      return { did, agent: undefined };
    });
    return { agents, total };
  }

  return {
    async get(did) {
      const [{ agent }, at] = await Promise.all([read(did), sights.lastSeen(did)]);
      return agent && isSeen(agent) ? { ...agent, lastSeen: Math.max(agent.lastSeen, at) } : undefined;
    },
    async find(capability) {
      const { agents, total } = await (capability === undefined ? findAll() : findCapable(capability));
      const seen = agents.flatMap(({ did, agent }) => (agent && isSeen(agent) ? [{ did, agent }] : []));
      const found = await forEach(
        seen,
        ASKED_AT_ONCE_MAX,
        async ({ did, agent }) => [did, await sighted(did, agent)] as const,
      );
      // Where all were looked at, those that do not count are known.
      return { found, total: total > DISCOVER_SCAN_MAX ? total : found.length };
    },
    register: ({ did, publicKey, capabilities, metadata, provedAt }) =>
      change<"registered" | "updated" | "exists">(did, (known) => {
        const facts = { capabilities: [...capabilities], metadata: { ...metadata }, provedAt };
        if (!known || known.provedAt === null)
          return { event: { type: "REGISTERED", public_key: publicKey, ...facts }, answer: () => "registered" };
        if (sameFacts(known, facts) || provedAt <= known.provedAt) return { answer: () => "exists" };
        return { event: { type: "UPDATED", ...facts }, answer: () => "updated" };
      }),
    claim: ({ did, publicKey, capabilities, metadata }) =>
      change<"registered" | "exists">(did, (known) => {
        if (known) return { answer: () => "exists" };
        const facts = { capabilities: [...capabilities], metadata: { ...metadata } };
        return { event: { type: "CLAIMED", public_key: publicKey, ...facts }, answer: () => "registered" };
      }),
    publish: (did, upload, isSigned) =>
      change(did, (agent) => {
        if (!agent || (!isSigned && agent.provedAt !== null)) return { answer: () => undefined };
        return { event: publication(agent, upload), answer: (after) => after };
      }),
    takeBundle: (did) =>
      change(did, (agent) => {
        const found = agent && bundleOf(agent);
        const event = found?.taken === undefined ? undefined : ({ type: "PREKEY_TAKEN", key_id: found.taken } as const);
        return { event, answer: () => found?.bundle };
      }),
    rate: (did, by, score, reason) =>
      change(did, (agent) => {
        if (!agent) return { answer: () => undefined };
        const reputation = reputationAfter(agent, score);
        return { event: { type: "RATED", by, score, reason, reputation }, answer: (after) => after?.reputation };
      }),
    remove: (did) =>
      change(did, (agent) => (agent ? { event: { type: "REMOVED" }, answer: () => true } : { answer: () => false })),
    seen: sights.seen,
    async close() {
      await turns.settled();
      await sights.close();
    },
  };
}

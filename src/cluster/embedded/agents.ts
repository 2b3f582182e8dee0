import { asMeshError, MeshError } from "../../errors.ts";
import { AGENTS_MAX, SEEN_EVERY_MS } from "../../limits.ts";
import type { Disk } from "../../store/disk.ts";
import { joinPath } from "../../store/disk.ts";
import type { Commit } from "../../store/journal.ts";
import { type Agent, AgentEvent, bundleOf, fold, publication, reputationAfter, restored } from "../agent.ts";
import { type Agents, sameFacts } from "../state.ts";
import { takeTurns } from "../turns.ts";
import { Generations, type Piece } from "./generations.ts";

// The registry's records on disk: one stream an agent. What is asked of one agent is decided and made durable one after
// the other, so that every decision stands on what is on disk and a one-time prekey is given out once.

const STREAM = "agent/";
/** About what an agent and one of its prekeys take in the journal, in bytes. */
const AGENT_SIZE = 1_024;
const PREKEY_SIZE = 80;

export interface AgentsOptions {
  readonly disk: Disk;
  /** The records lie in its folder `registry`. */
  readonly directory: string;
  readonly now: () => number;
  /** Bytes of journal below which it is never rewritten. */
  readonly rewriteSizeMin?: number | undefined;
  /** Agents that proved nothing are there too; otherwise nobody sees them. */
  readonly allowUnproven?: boolean | undefined;
  readonly log?: ((line: string) => void) | undefined;
}

export interface EmbeddedAgents extends Agents {
  /** Rewrites the journal when most of it no longer matters. */
  tidy(): Promise<void>;
  close(): Promise<void>;
}

/** Opens the records of a directory, beginning them when there are none. @throws MeshError `store_damaged` */
export async function openAgents(options: AgentsOptions): Promise<EmbeddedAgents> {
  const { disk, directory, now, rewriteSizeMin, allowUnproven = false, log } = options;
  const agents = new Map<string, Agent>();
  const isSeen = (agent: Agent | undefined) => agent !== undefined && (allowUnproven || agent.provedAt !== null);
  /** When a sign of life was last written down. */
  const writtenDown = new Map<string, number>();
  const turns = takeTurns();

  function apply(did: string, event: AgentEvent, at: number): void {
    const agent = fold(agents.get(did), event, at);
    if (agent) agents.set(did, agent);
    else agents.delete(did);
  }

  function onCommit(commit: Commit): void {
    for (const { stream, event } of commit.entries) {
      const parsed = AgentEvent.safeParse(event);
      // An event that this version does not know is a later version's: it says nothing about the records of this one.
      if (parsed.success && stream.startsWith(STREAM)) apply(stream.slice(STREAM.length), parsed.data, commit.at);
    }
  }

  const sizeOf = (agent: Agent) => AGENT_SIZE + (agent.held.size + agent.given.size) * PREKEY_SIZE;

  function* pieces(): Generator<Piece> {
    for (const [did, agent] of agents) {
      yield { draft: { at: now(), entries: [{ stream: STREAM + did, event: restored(agent) }] }, size: sizeOf(agent) };
    }
  }

  const generations = await Generations.open({
    disk,
    directory: joinPath(directory, "registry"),
    onCommit,
    pieces,
    liveSize: () => agents.values().reduce((sum, agent) => sum + sizeOf(agent), 0),
    rewriteSizeMin,
    log,
  });

  for (const [did, { lastSeen }] of agents) writtenDown.set(did, lastSeen);

  const write = (did: string, event: AgentEvent) =>
    generations.append({ at: now(), entries: [{ stream: STREAM + did, event }] });

  // When a sign of life cannot be written, only a time of last sight is lost.
  const unseen = (error: unknown) =>
    log?.(`registry: a sign of life could not be written: ${asMeshError(error).message}`);

  function assertRoom(): void {
    if (agents.size >= AGENTS_MAX) throw new MeshError("limit_reached", "The registry is full.");
  }

  return {
    get: async (did) => (isSeen(agents.get(did)) ? agents.get(did) : undefined),
    async find(capability) {
      const found = agents
        .entries()
        .filter(([, agent]) => isSeen(agent) && (capability === undefined || agent.capabilities.includes(capability)))
        .toArray();
      return { found, total: found.length };
    },
    register: ({ did, publicKey, capabilities, metadata, provedAt }) =>
      turns.run(did, async () => {
        const known = agents.get(did);
        const facts = { capabilities: [...capabilities], metadata: { ...metadata }, provedAt };
        if (!known || known.provedAt === null) {
          if (!known) assertRoom();
          await write(did, { type: "REGISTERED", public_key: publicKey, ...facts });
          return "registered";
        }
        if (sameFacts(known, facts) || provedAt <= known.provedAt) return "exists";
        await write(did, { type: "UPDATED", ...facts });
        return "updated";
      }),
    claim: ({ did, publicKey, capabilities, metadata }) =>
      turns.run(did, async () => {
        if (agents.has(did)) return "exists";
        assertRoom();
        const facts = { capabilities: [...capabilities], metadata: { ...metadata } };
        await write(did, { type: "CLAIMED", public_key: publicKey, ...facts });
        return "registered";
      }),
    publish: (did, upload, isSigned) =>
      turns.run(did, async () => {
        const agent = agents.get(did);
        if (agent && !isSigned && agent.provedAt !== null) return undefined;
        if (agent) await write(did, publication(agent, upload));
        return agents.get(did);
      }),
    takeBundle: (did) =>
      turns.run(did, async () => {
        const agent = agents.get(did);
        const found = agent && bundleOf(agent);
        if (found?.taken !== undefined) await write(did, { type: "PREKEY_TAKEN", key_id: found.taken });
        return found?.bundle;
      }),
    rate: (did, by, score, reason) =>
      turns.run(did, async () => {
        const agent = agents.get(did);
        if (!agent) return undefined;
        await write(did, { type: "RATED", by, score, reason, reputation: reputationAfter(agent, score) });
        return agents.get(did)?.reputation;
      }),
    remove: (did) =>
      turns.run(did, async () => {
        if (!agents.has(did)) return false;
        await write(did, { type: "REMOVED" });
        writtenDown.delete(did);
        return true;
      }),
    seen(did) {
      if (!agents.has(did)) return;
      const at = now();
      apply(did, { type: "SEEN", at }, at);
      if (at - (writtenDown.get(did) ?? 0) < SEEN_EVERY_MS) return;
      writtenDown.set(did, at);
      write(did, { type: "SEEN", at }).catch((error) => {
        // Only a time of last sight is lost.
        log?.(
          `registry: a sign of life could not be written: ${error instanceof Error ? error.message : String(error)}`,
        );
      });
    },
    tidy: () => generations.rewrite(),
    async close() {
      await turns.settled();
      const unwritten = [...agents].filter(([did, { lastSeen }]) => lastSeen > (writtenDown.get(did) ?? 0));
      const entries = unwritten.map(([did, { lastSeen }]) => ({
        stream: STREAM + did,
        event: { type: "SEEN", at: lastSeen },
      }));
      if (entries.length > 0) await generations.append({ at: now(), entries }).catch(unseen);
      await generations.close();
    },
  };
}

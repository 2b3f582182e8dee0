import { asMeshError } from "../errors.ts";
import { CAPABILITY_LENGTH_MAX, DISCOVER_AGENTS_MAX } from "../limits.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import type { PairingContext } from "../machines/pairing/events.ts";
import { type Agent, nameOf } from "./agent.ts";
import type { Core } from "./core.ts";
import { DISCOVER_AT_ONCE, DISCOVER_DETAILS_MAX, DISCOVER_QUESTIONS_MAX } from "./limits.ts";

// Who is on the mesh, as far as the registry lists it.

export type Discovery = {
  readonly agents: readonly Agent[];
  /** Present when there may be other agents: why, and the capabilities and names that were asked for. */
  readonly complete?: false;
  readonly note?: string;
  readonly asked?: readonly string[];
};

const BY_CAPABILITY_ONLY =
  "This registry lists agents only by a capability or a name. It was asked for those that are known here, so there may be other agents: ask for a capability or a name.";
const MANY = `A registry lists at most ${DISCOVER_AGENTS_MAX} agents, so there may be others: ask for a capability or a name.`;

/** What agents of deployed clusters register, beside their names. */
const DEPLOYED_CAPABILITIES = ["kars-agent", "task-execution"];

/** Does work for each item, a few at once. Gives the results in the order of the items. */
async function forEachFew<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let from = 0; from < items.length; from += DISCOVER_AT_ONCE)
    results.push(...(await Promise.all(items.slice(from, from + DISCOVER_AT_ONCE).map(work))));
  return results;
}

const others = (core: Core, agents: readonly Agent[]) => agents.filter(({ did }) => did !== core.keyring.identity.did);

/** Agents by name or capability; this node itself is not among them. */
export async function agentsBy(
  core: Core,
  { name, capability }: { readonly name?: string | undefined; readonly capability?: string | undefined },
): Promise<Agent[]> {
  const found = await core.registry().discover(name ?? capability ?? "", DISCOVER_AGENTS_MAX);
  return others(core, found).flatMap((agent) => {
    // Plain registries do not show which of an agent's capabilities is its name.
    const isNamed =
      name === undefined || agent.name === name || (agent.name === null && agent.capabilities.includes(name));
    if (!isNamed || (capability !== undefined && !agent.capabilities.includes(capability))) return [];
    if (name === undefined || agent.name !== null) return [agent];
    return [{ ...agent, name, capabilities: agent.capabilities.filter((each) => each !== name) }];
  });
}

/** The capabilities and names that are known here, the likeliest first. */
function knownCapabilities({ system }: Core): string[] {
  const known: (string | null | undefined)[] = [];
  for (const [, { snapshot }] of system.streams("pairing")) {
    const { capabilities, grant }: PairingContext = snapshot.context;
    known.push(...capabilities, ...(grant?.capabilities ?? []));
  }
  known.push(...DEPLOYED_CAPABILITIES);
  for (const [, { snapshot }] of system.streams("conversation")) {
    const { name, address }: ConversationContext = snapshot.context;
    known.push(name, address);
  }
  const isAskable = (each: string | null | undefined): each is string =>
    typeof each === "string" && each !== "" && each.length <= CAPABILITY_LENGTH_MAX;
  return [...new Set(known.filter(isAskable))];
}

/** Asks for what is known here, and for what the agents that are found so have besides: what several have comes first. */
async function byKnownCapabilities(core: Core): Promise<{ readonly agents: Agent[]; readonly asked: string[] }> {
  const found = new Map<string, Agent>();
  const asked: string[] = [];
  const known = knownCapabilities(core);
  const next = (): string[] => {
    const holders = new Map<string, number>(known.map((each) => [each, Number.POSITIVE_INFINITY]));
    for (const { capabilities } of found.values())
      for (const each of capabilities)
        if (each.length <= CAPABILITY_LENGTH_MAX) holders.set(each, (holders.get(each) ?? 0) + 1);
    const open = [...holders].filter(([each]) => !asked.includes(each)).sort(([, a], [, b]) => b - a);
    return open.map(([each]) => each).slice(0, Math.min(DISCOVER_AT_ONCE, DISCOVER_QUESTIONS_MAX - asked.length));
  };
  for (let wave = next(); wave.length > 0 && found.size < DISCOVER_AGENTS_MAX; wave = next()) {
    asked.push(...wave);
    const lists = await forEachFew(wave, (each) => core.registry().discover(each, DISCOVER_AGENTS_MAX));
    for (const agent of lists.flat()) if (!found.has(agent.did)) found.set(agent.did, agent);
  }
  return { agents: others(core, [...found.values()]).slice(0, DISCOVER_AGENTS_MAX), asked };
}

/** What a question brought; undefined when the registry did not answer it: what it asks for stays unknown. */
const known = <T>(answer: Promise<T>): Promise<T | undefined> =>
  answer.catch((error: unknown) => {
    if (asMeshError(error).code === "closed") throw error;
    return undefined;
  });

/** Asks about each agent whom the registry's lists do not say to be online or not, as far as that is worth the requests. */
export async function withDetails(core: Core, agents: readonly Agent[]): Promise<Agent[]> {
  const registry = core.registry();
  const bySight = (a: Agent, b: Agent) => (b.last_seen ?? "").localeCompare(a.last_seen ?? "");
  const unknown = agents.filter(({ online }) => online === null).sort(bySight);
  const asked = unknown.slice(0, DISCOVER_DETAILS_MAX);
  const told = await forEachFew(asked, async (agent): Promise<Agent> => {
    const [presence, record] = await Promise.all([
      known(registry.presence(agent.did)),
      known(registry.agent(agent.did)),
    ]);
    const name = agent.name ?? (record ? nameOf(record) : null);
    return { ...agent, ...presence, name, capabilities: agent.capabilities.filter((each) => each !== name) };
  });
  const byDid = new Map(told.map((agent) => [agent.did, agent]));
  const rank = ({ online }: Agent) => (online ? 0 : online === null ? 1 : 2);
  return unknown.length === 0
    ? [...agents]
    : agents.map((agent) => byDid.get(agent.did) ?? agent).sort((a, b) => rank(a) - rank(b) || bySight(a, b));
}

/** Agents by name, by capability, or as many as this registry lets one find; this node itself is not among them. */
export async function discover(
  core: Core,
  by: { readonly name?: string | undefined; readonly capability?: string | undefined },
): Promise<Discovery> {
  const isFiltered = by.name !== undefined || by.capability !== undefined;
  const listed = isFiltered ? await agentsBy(core, by) : await core.registry().discoverAll(DISCOVER_AGENTS_MAX);
  if (listed) {
    const agents = await withDetails(core, others(core, listed));
    // This node may have been one of those that were listed.
    return agents.length + 1 < DISCOVER_AGENTS_MAX ? { agents } : { agents, complete: false, note: MANY };
  }
  const { agents, asked } = await byKnownCapabilities(core);
  return { agents: await withDetails(core, agents), complete: false, note: BY_CAPABILITY_ONLY, asked };
}

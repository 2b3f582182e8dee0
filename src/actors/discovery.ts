import { asMeshError } from "../errors.ts";
import { CAPABILITY_LENGTH_MAX, DISCOVER_AGENTS_MAX } from "../limits.ts";
import type { ConversationContext } from "../machines/conversation/events.ts";
import type { PairingContext } from "../machines/pairing/events.ts";
import { type Agent, nameOf } from "./agent.ts";
import type { Core } from "./core.ts";
import { DISCOVER_AT_ONCE, DISCOVER_DETAILS_MAX, DISCOVER_QUESTIONS_MAX } from "./limits.ts";

// Which agents are on the mesh, as far as the registry lists them.

export type Discovery = {
  readonly agents: readonly Agent[];
  /** These are present when the list may be incomplete: `note` says why, `asked` lists the capabilities and names asked for. */
  readonly complete?: false;
  readonly note?: string;
  readonly asked?: readonly string[];
};

const BY_CAPABILITY_ONLY =
  "This registry lists agents only by capability or name. It was asked for the capabilities and names that this laptop knows, so there may be other agents. Ask for a capability or a name to find them.";
const MANY = `A registry lists at most ${DISCOVER_AGENTS_MAX} agents, so there may be others. Ask for a capability or a name to find them.`;

/** The capabilities that agents of deployed clusters register, besides their names. */
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

/**
 * Asks for every capability and name that is known here, and then for further capabilities of the agents found that way. The
 * capabilities that most agents have come first.
 */
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

/** The registry's answer; undefined when it failed, so that the answer stays unknown. */
const known = <T>(answer: Promise<T>): Promise<T | undefined> =>
  answer.catch((error: unknown) => {
    if (asMeshError(error).code === "closed") throw error;
    return undefined;
  });

/** Asks about each agent of which the registry's list does not say whether it is online, DISCOVER_DETAILS_MAX at most. */
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

/** Agents by name, by capability, or all that this registry shows; this node itself is not among them. */
export async function discover(
  core: Core,
  by: { readonly name?: string | undefined; readonly capability?: string | undefined },
): Promise<Discovery> {
  const isFiltered = by.name !== undefined || by.capability !== undefined;
  const listed = isFiltered ? await agentsBy(core, by) : await core.registry().discoverAll(DISCOVER_AGENTS_MAX);
  if (listed) {
    const agents = await withDetails(core, others(core, listed));
    // The registry's list may have included this node.
    return agents.length + 1 < DISCOVER_AGENTS_MAX ? { agents } : { agents, complete: false, note: MANY };
  }
  const { agents, asked } = await byKnownCapabilities(core);
  return { agents: await withDetails(core, agents), complete: false, note: BY_CAPABILITY_ONLY, asked };
}

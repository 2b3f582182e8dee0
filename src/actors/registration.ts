import { asMeshError } from "../errors.ts";
import { type AgentRecord, ANNOUNCED_EXTENSIONS, EXTENSIONS_ENTRY } from "../wire/registry.ts";
import type { Core } from "./core.ts";
import type { Registry } from "./registry.ts";

// The record of this laptop at a registry: its name, its capabilities, and the extensions that it announces to others.

type Registration = Pick<AgentRecord, "capabilities" | "metadata">;

/** Registers this laptop, and replaces an outdated record at the registry. */
export async function register(
  { keyring, note }: Pick<Core, "keyring" | "note">,
  registry: Registry,
  { name, capabilities }: { readonly name: string; readonly capabilities: readonly string[] },
): Promise<void> {
  const { identity } = keyring;
  const wanted: Registration = {
    capabilities: [...capabilities, name],
    metadata: { name, [EXTENSIONS_ENTRY]: ANNOUNCED_EXTENSIONS },
  };
  const send = () => registry.register(identity, wanted.capabilities, wanted.metadata);
  if ((await send()) === "taken") return;
  // The reference registry keeps the first registration of an identity and ignores later ones. So an outdated record is deleted and
  // made anew. Its prekeys are deleted with it; joining publishes new ones next.
  const record = await recordOf(registry, identity.did);
  if (record && saysAll(record, wanted)) return;
  try {
    await registry.remove(identity);
  } catch (error) {
    const { code, message } = asMeshError(error);
    if (code === "closed") throw error;
    // An outdated record is better than none, so this is not tried again and again.
    note(`The registry keeps an older record of this laptop: ${message}`);
    return;
  }
  await send();
}

const recordOf = (registry: Registry, did: string): Promise<AgentRecord | undefined> =>
  registry.agent(did).catch((error: unknown) => {
    // The record was deleted meanwhile.
    if (asMeshError(error).code === "peer_unknown") return undefined;
    throw error;
  });

const saysAll = (record: AgentRecord, { capabilities, metadata }: Registration): boolean =>
  capabilities.every((entry) => record.capabilities.includes(entry)) &&
  Object.entries(metadata).every(([entry, value]) => record.metadata[entry] === value);

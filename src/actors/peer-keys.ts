import {
  base64,
  base64url,
  CryptoError,
  didOf,
  type Encoding,
  equalBytes,
  type Kdf,
  type PreKeyBundle,
} from "../crypto/index.ts";
import { asMeshError, MeshError } from "../errors.ts";
import { AGENT_EXTENSIONS, type AgentRecord, EXTENSIONS_ENTRY, type Membership } from "../wire/registry.ts";
import { nameOf } from "./agent.ts";
import type { Registry } from "./registry.ts";

// What a registry shows of a peer's keys. It is believed in nothing but what a hash or a signature proves.

/** The key in a record: in base64url as registries write it, or in base64; undefined when it is neither. */
function keyIn({ public_key: text = "" }: AgentRecord, isWanted: (key: Uint8Array) => boolean): Uint8Array | undefined {
  const read = (encoding: Encoding) => {
    try {
      return encoding.decode(text);
    } catch (error) {
      // Not in this encoding.
      if (!(error instanceof CryptoError)) throw error;
      return undefined;
    }
  };
  return [read(base64url), read(base64)].find((key) => key?.length === 32 && isWanted(key));
}

/** What an agent says that it understands, as far as it is known here. */
const announcedIn = ({ metadata }: AgentRecord): string[] => {
  const names = (metadata[EXTENSIONS_ENTRY] ?? "").split(" ");
  return AGENT_EXTENSIONS.filter((extension) => names.includes(extension));
};

/** What a registry shows of an agent. */
export interface Shown {
  readonly key: Uint8Array;
  readonly name: string | null;
  /** Names are among them, of agents that do not say which is theirs. */
  readonly capabilities: readonly string[];
  readonly extensions: readonly string[];
  /** The cluster's word for it, unchecked. */
  readonly membership: Membership | undefined;
}

/**
 * The Ed25519 key behind a DID, believed because its hash is the DID, and what its holder calls itself. It stands in the
 * agent's record; of one that registered the old way only in its prekey bundle.
 * @throws MeshError `peer_identity_mismatch` when no key there is the DID's; `peer_unknown`, `registry_unreachable`
 */
export async function identityOf(registry: Registry, did: string): Promise<Shown> {
  const record = await registry.agent(did);
  const shown = {
    name: nameOf(record),
    capabilities: record.capabilities,
    extensions: announcedIn(record),
    membership: record.membership ?? undefined,
  };
  const key = keyIn(record, (each) => didOf(each) === did);
  if (key) return { ...shown, key };
  const { identityKeyEd } = await registry.bundle(did);
  if (didOf(identityKeyEd) === did) return { ...shown, key: identityKeyEd };
  throw new MeshError("peer_identity_mismatch", `${did}.`);
}

/**
 * A peer's bundle, unchecked, what it understands, and the KDF that it is likely to speak, unless that is known already: agents that register
 * the old way, with their X25519 key, are of the generation that speaks `npm4`. Nothing but a message of the peer can
 * prove it.
 */
export async function bundleOf(
  registry: Registry,
  did: string,
  spoken: Kdf | undefined,
): Promise<{ readonly bundle: PreKeyBundle; readonly kdf: Kdf; readonly extensions: readonly string[] }> {
  const bundle = await registry.bundle(did);
  // Agents register before they publish: after the bundle the record is not older than it.
  const record = await recordOf(registry, did);
  const isOld = record && keyIn(record, (key) => equalBytes(key, bundle.identityKey)) !== undefined;
  return { bundle, kdf: spoken ?? (isOld ? "npm4" : "current"), extensions: record ? announcedIn(record) : [] };
}

async function recordOf(registry: Registry, did: string): Promise<AgentRecord | undefined> {
  try {
    return await registry.agent(did);
  } catch (error) {
    // Whether it can be reached at all is for its bundle to say.
    if (asMeshError(error).code === "peer_unknown") return undefined;
    throw error;
  }
}

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
import type { AgentRecord } from "../wire/registry.ts";
import { nameOf, type Registry } from "./registry.ts";

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

/**
 * The Ed25519 key behind a DID, believed because its hash is the DID, and what its holder calls itself. It stands in the
 * agent's record; of one that registered the old way only in its prekey bundle.
 * @throws MeshError `peer_identity_mismatch` when no key there is the DID's; `peer_unknown`, `registry_unreachable`
 */
export async function identityOf(
  registry: Registry,
  did: string,
): Promise<{ readonly key: Uint8Array; readonly name: string | null }> {
  const record = await registry.agent(did);
  const name = nameOf(record);
  const key = keyIn(record, (each) => didOf(each) === did);
  if (key) return { key, name };
  const { identityKeyEd } = await registry.bundle(did);
  if (didOf(identityKeyEd) === did) return { key: identityKeyEd, name };
  throw new MeshError("peer_identity_mismatch", `${did}.`);
}

/**
 * A peer's bundle, unchecked, and the KDF that it is likely to speak, unless that is known already: agents that register
 * the old way, with their X25519 key, are of the generation that speaks `npm4`. Nothing but a message of the peer can
 * prove it.
 */
export async function bundleOf(
  registry: Registry,
  did: string,
  spoken: Kdf | undefined,
): Promise<{ readonly bundle: PreKeyBundle; readonly kdf: Kdf }> {
  const record = spoken === undefined ? await recordOf(registry, did) : undefined;
  const bundle = await registry.bundle(did);
  const isOld = record && keyIn(record, (key) => equalBytes(key, bundle.identityKey)) !== undefined;
  return { bundle, kdf: spoken ?? (isOld ? "npm4" : "current") };
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

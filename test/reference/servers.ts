/** The reference relay and the reference registry, each on a port of this machine, until the test ends. */
import { atTheEnd } from "../ending.ts";
import { ReferenceRegistry, type RegistryOptions } from "./registry.ts";
import { ReferenceRelay, type RelayOptions } from "./relay.ts";

/** Where a relay and a registry are, whichever they are. */
export interface Places {
  /** Without `/ws`. */
  readonly relayUrl: string;
  readonly registryUrl: string;
}

export interface Servers extends Places {
  readonly relay: ReferenceRelay;
  readonly registry: ReferenceRegistry;
}

export async function openServers(options: RelayOptions & RegistryOptions = {}): Promise<Servers> {
  const { relay, port: relayPort } = await ReferenceRelay.listen(options);
  atTheEnd(() => relay.close());
  const { registry, port: registryPort } = await ReferenceRegistry.listen(options);
  atTheEnd(() => registry.close());
  return { relay, registry, relayUrl: `ws://127.0.0.1:${relayPort}`, registryUrl: `http://127.0.0.1:${registryPort}` };
}

import { z } from "zod";
import { MeshError } from "../errors.ts";
import { safeParse } from "../parse.ts";

// Where relay and registry are reached from this machine, when that is not where their cluster says: through a tunnel, or a port
// that is forwarded. It concerns this process alone, and is not kept.

export const RelayUrl = z.url({ protocol: /^wss?$/, error: "must be a ws:// or wss:// address" }).max(500);
export const RegistryUrl = z.url({ protocol: /^https?$/, error: "must be an http:// or https:// address" }).max(500);

export interface Places {
  /** `ws://` or `wss://`, without the path `/ws`. */
  readonly relayUrl?: string | undefined;
  /** `http://` or `https://`. */
  readonly registryUrl?: string | undefined;
}

/** @param names what the caller calls the two, for the errors @throws MeshError `input_invalid` */
export function placesOf(
  { relayUrl, registryUrl }: Places,
  names: { readonly relay: string; readonly registry: string },
): Places {
  const checked = (type: z.ZodType<string>, value: string | undefined, name: string) => {
    // An empty variable is none.
    if (value === undefined || value === "") return undefined;
    const { data, error } = safeParse(type, value);
    if (data === undefined) throw new MeshError("input_invalid", `${name} ${error?.issues[0]?.message ?? "is wrong"}.`);
    return data;
  };
  return {
    relayUrl: checked(RelayUrl, relayUrl, names.relay),
    registryUrl: checked(RegistryUrl, registryUrl, names.registry),
  };
}

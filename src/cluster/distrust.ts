import { distrustOf, distrustText } from "../actors/authorities.ts";
import type { Network } from "../actors/ports.ts";
import { HTTP_TIMEOUT_MS } from "../limits.ts";

const REMEDY =
  "The cluster's operator names the authority that signed it, for its sandboxes, with kars-local up --tls-ca FILE";

/**
 * Why a sandbox does not trust the certificate of its cluster, in words; undefined when it does, or does not reach it: it tries
 * that again, and a certificate would be the same the next time.
 */
export async function distrustOfCluster(network: Network, registryUrl: string): Promise<string | undefined> {
  const { origin, protocol } = new URL(registryUrl);
  if (protocol !== "https:") return undefined;
  try {
    const response = await network.fetch(`${origin}/health`, { signal: AbortSignal.timeout(HTTP_TIMEOUT_MS) });
    await response.body?.cancel();
    return undefined;
  } catch (error) {
    const distrust = distrustOf(error);
    return distrust && `${origin} shows ${distrustText(distrust, REMEDY).replace("this machine", "the sandbox")}`;
  }
}

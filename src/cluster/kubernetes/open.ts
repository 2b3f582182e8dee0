import { realClock, realRandom } from "../../actors/ports.ts";
import { realDisk } from "../../store/disk.ts";
import type { RunLimits } from "../runner/rules.ts";
import { type ApiOptions, openApi } from "./api.ts";
import { KubernetesBackend, type KubernetesOptions } from "./backend.ts";
import { resourcesFor } from "./manifests.ts";

/** What an operator says of sandboxes as Kubernetes Jobs. */
export interface KubernetesChoice extends Pick<ApiOptions, "context" | "timeoutMs"> {
  readonly namespace?: string | undefined;
  /** Of the sandboxes: one with this package, whose command is the sandbox's. */
  readonly image: string;
}

export const NAMESPACE_DEFAULT = "kars-sandboxes";

/** The backend, which does nothing before its `start`. @throws MeshError `kubernetes_unavailable`, `input_invalid` */
export async function openKubernetes(
  { image, namespace = NAMESPACE_DEFAULT, ...reach }: KubernetesChoice,
  limits: RunLimits,
  around: Pick<KubernetesOptions, "onArrival" | "note">,
): Promise<KubernetesBackend> {
  const api = await openApi({ ...reach, namespace });
  const placement = { image, namespace, resources: resourcesFor(limits) };
  return new KubernetesBackend({ api, placement, clock: realClock, disk: realDisk, random: realRandom, ...around });
}

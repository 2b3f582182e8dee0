import { realClock, realRandom } from "../../actors/ports.ts";
import { realDisk } from "../../store/disk.ts";
import { type ApiOptions, openApi } from "./api.ts";
import { KubernetesBackend, type KubernetesOptions } from "./backend.ts";
import { RESOURCES, type Resources } from "./manifests.ts";

/** What an operator says of sandboxes as Kubernetes Jobs. */
export interface KubernetesChoice extends Pick<ApiOptions, "context" | "timeoutMs"> {
  readonly namespace?: string | undefined;
  /** Of the sandboxes: one with this package, whose command is the sandbox's. */
  readonly image: string;
  readonly resources?: Resources | undefined;
}

export const NAMESPACE_DEFAULT = "kars-sandboxes";

/** The backend, which does nothing before its `start`. @throws MeshError `kubernetes_unavailable`, `input_invalid` */
export async function openKubernetes(
  { image, resources = RESOURCES, namespace = NAMESPACE_DEFAULT, ...reach }: KubernetesChoice,
  around: Pick<KubernetesOptions, "onArrival" | "note">,
): Promise<KubernetesBackend> {
  const api = await openApi({ ...reach, namespace });
  const placement = { image, namespace, resources };
  return new KubernetesBackend({ api, placement, clock: realClock, disk: realDisk, random: realRandom, ...around });
}

import type { Mesh } from "../../actors/mesh.ts";
import type { ClusterOperations } from "../household.ts";
import { connectBus, type NatsOptions } from "./bus.ts";
import { askController } from "./controller-link.ts";
import { ASKED_QUIETLY_MS } from "./limits.ts";

/** The operator's way to a cluster on NATS: whoever may use its NATS may do so. @throws MeshError `nats_unavailable`, `cluster_unreachable` */
export async function openOperatorOn(options: NatsOptions): Promise<Pick<Mesh<ClusterOperations>, "call" | "close">> {
  const { cluster, log } = options;
  async function aloud<T>(asked: Promise<T>): Promise<T> {
    const timer = setTimeout(() => log?.(`Waiting for the cluster ${cluster}.`), ASKED_QUIETLY_MS);
    try {
      return await asked;
    } finally {
      clearTimeout(timer);
    }
  }
  const bus = await aloud(connectBus({ ...options, begins: false }));
  const nobody = `No controller of the cluster ${cluster} is active: start one with kars-local controller, or name another with --cluster.`;
  const controller = askController(bus, { nobody });
  return {
    call: async (name, params) => (await aloud(controller.operate(name, params))) as never,
    close: () => bus.close(),
  };
}

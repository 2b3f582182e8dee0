import type { Mesh } from "../../actors/mesh.ts";
import type { ClusterOperations } from "../household.ts";
import { connectBus, type NatsOptions } from "./bus.ts";
import { askController } from "./controller-link.ts";

/** The operator's way to a cluster on NATS: whoever may use its NATS may do so. @throws MeshError `nats_unavailable` */
export async function openOperatorOn(options: NatsOptions): Promise<Pick<Mesh<ClusterOperations>, "call" | "close">> {
  const bus = await connectBus(options);
  const controller = askController(bus);
  return {
    call: async (name, params) => (await controller.operate(name, params)) as never,
    close: () => bus.close(),
  };
}

import { realNetwork } from "../src/actors/network.ts";
import { MeshNode } from "../src/actors/node.ts";
import { type ParamsOf, type ResultOf, runOperation } from "../src/actors/operation.ts";
import { type Operations, operations } from "../src/actors/operations.ts";
import { realPorts } from "../src/actors/ports.ts";

// A laptop of ours: a node on the real disk and the real network, which belongs to a mesh.

export const PATIENCE_MS = 60_000;

/** Where relay and registry listen. */
export interface Servers {
  /** `ws://…`, without `/ws`. */
  readonly relayUrl: string;
  readonly registryUrl: string;
}

/** Asks a node for one of its operations. */
export const call = async <N extends keyof Operations>(
  node: MeshNode,
  name: N,
  params: ParamsOf<Operations, N>,
): Promise<ResultOf<Operations, N>> =>
  (await runOperation(operations, name, params, {
    node,
    signal: AbortSignal.timeout(PATIENCE_MS),
    progress: () => undefined,
  })) as ResultOf<Operations, N>;

export const ports = realPorts(realNetwork);

export const joinMesh = (node: MeshNode, { relayUrl, registryUrl }: Servers, name: string): Promise<unknown> =>
  node.membership.join({ controller: null, cluster: "bench", relayUrl, registryUrl, name, capabilities: [] });

/** Opens the node of a home; the first time it joins the mesh. */
export async function openLaptop(servers: Servers, home: string, name: string): Promise<MeshNode> {
  const node = await MeshNode.open({ home, ports });
  node.start();
  if (!node.membership.current) await joinMesh(node, servers, name);
  return node;
}

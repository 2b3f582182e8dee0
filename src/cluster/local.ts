import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Mesh, ownOrAttach, serveNode } from "../actors/mesh.ts";
import { networkOf, realNetwork } from "../actors/network.ts";
import type { MeshNode } from "../actors/node.ts";
import { claimOwnership } from "../actors/owner.ts";
import { realPorts } from "../actors/ports.ts";
import { realEnvironment } from "../actors/proxy.ts";
import { MeshError } from "../errors.ts";
import { Arrivals } from "./arrivals.ts";
import { openControlling, type WorkOptions, workRules } from "./controlling.ts";
import { controllerHome } from "./directory.ts";
import type { ClusterUrls } from "./grants.ts";
import { type ClusterOperations, clusterOperations, type Household, openHousehold, urlsOf } from "./household.ts";
import { processBackend } from "./sandbox-process.ts";
import type { Sandboxes } from "./sandboxes.ts";
import type { ServerOptions } from "./server.ts";
import { openServing, type Serving } from "./serving.ts";

// The local cluster: relay, registry and controller in one process, sandboxes in their own, one directory for it all.

export interface ClusterOptions extends WorkOptions {
  readonly directory: string;
  readonly name?: string | undefined;
  readonly host?: string | undefined;
  /** 0 picks a free one. */
  readonly port: number;
  /** The origin under which laptops and sandboxes reach the cluster, when that is not where it listens. */
  readonly publicUrl?: string | undefined;
  /** Lets clients in that do not prove who they are; see `ServerOptions`. */
  readonly allowUnproven?: boolean | undefined;
  /** How its server is open to others. */
  readonly serving?: Serving | undefined;
  readonly onNote?: ((text: string) => void) | undefined;
}

/**
 * Starts the cluster of a directory. `drain`, before `close`, hands its clients over without a loss.
 * @throws MeshError `store_locked` when it runs already; `input_invalid` when the port cannot be had
 */
export async function openCluster(
  options: ClusterOptions,
): Promise<Mesh<ClusterOperations> & { readonly urls: ClusterUrls; drain(): Promise<void> }> {
  const { directory, host = "127.0.0.1", name = "local", allowUnproven = false, onNote = () => undefined } = options;
  const ports = realPorts(networkOf(realEnvironment, () => options.authorities ?? ""));
  const work = await workRules(ports, directory, options);
  const ownership = await claimOwnership(controllerHome(directory));
  if (!ownership) throw new MeshError("store_locked", `The cluster of ${directory} is running already.`);
  let opened: Household | undefined;
  let isReady = false;
  const arrivals = new Arrivals((did) => server.relay.isConnected(did), onNote);
  const serverOptions: ServerOptions = {
    host,
    port: options.port,
    directory: join(directory, "server"),
    allowUnproven,
    log: onNote,
    onSign: (did) => arrivals.heard(did),
    pair: async (request) => {
      if (!opened || !isReady) throw new MeshError("cluster_unreachable");
      return opened.grants.pair(request);
    },
    vouch: (did) => {
      // Whoever asks comes again: nobody is taken for a stranger because the controller is just opening.
      if (!opened) throw new MeshError("closed");
      return opened.vouch(did);
    },
  };
  const server = await openServing(serverOptions, options.serving ?? {}).catch((error: unknown) => {
    ownership.release();
    throw error;
  });
  const here = urlsOf(server.inside.url);
  const urls = urlsOf(options.publicUrl ?? server.url);
  let mesh: Mesh<ClusterOperations> | undefined;
  let sandboxes: Sandboxes | undefined;
  let workEnded: Promise<void> | undefined;
  const endWork = () => {
    workEnded ??= (async () => {
      await sandboxes?.close();
      await mesh?.close();
    })();
    return workEnded;
  };
  const close = async () => {
    await endWork();
    await server.close();
    if (!mesh) ownership.release();
  };
  try {
    const controlling = await openControlling({
      ...options,
      ...work,
      name,
      ports,
      urls,
      places: { relayUrl: here.relay_url, registryUrl: here.registry_url },
      online: () => server.relay.connections(),
      forget: server.forget,
      allowUnproven,
      arrivals,
      onNote,
    });
    opened = controlling.household;
    sandboxes = controlling.sandboxes;
    mesh = await serveNode(controlling.node, ownership, clusterOperations(controlling.household));
    await controlling.start();
    isReady = true;
    return { ...mesh, urls, close, drain: () => server.drain(endWork) };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Where the cluster was reached last. @throws MeshError when it was never up */
function lastUrls(node: MeshNode): ClusterUrls {
  const known = node.membership.current;
  if (!known?.registryUrl)
    throw new MeshError("input_invalid", "This cluster was never started. Start it first: kars-local up.");
  return urlsOf(known.registryUrl);
}

/**
 * Reaches the running cluster of a directory, or opens the directory while the cluster is down.
 * @throws MeshError `input_invalid` when the directory holds no cluster; it is not made
 */
export async function openOperator(
  directory: string,
  onNote: (text: string) => void = () => undefined,
): Promise<Mesh<ClusterOperations>> {
  if (!existsSync(controllerHome(directory)))
    throw new MeshError(
      "input_invalid",
      `There is no cluster in ${directory}. Start one there with kars-local up, or name its folder with --dir.`,
    );
  return ownOrAttach<ClusterOperations>(controllerHome(directory), async (ownership) => {
    const { node, household } = await openHousehold({
      directory,
      ports: realPorts(realNetwork),
      backend: processBackend(),
      cluster: "local",
      runner: null,
      urls: lastUrls,
      online: undefined,
      onNote,
    });
    return serveNode(node, ownership, clusterOperations(household));
  });
}

import { join } from "node:path";
import { type Mesh, ownOrAttach, serveNode } from "../actors/mesh.ts";
import { realNetwork } from "../actors/network.ts";
import type { MeshNode } from "../actors/node.ts";
import { claimOwnership } from "../actors/owner.ts";
import { realPorts } from "../actors/ports.ts";
import { asMeshError, MeshError } from "../errors.ts";
import { Arrivals } from "./arrivals.ts";
import { controllerHome } from "./directory.ts";
import { type Governance, taskStatus, tryIsolation } from "./governance.ts";
import type { ClusterUrls } from "./grants.ts";
import { type ClusterOperations, clusterOperations, type Household, openHousehold, urlsOf } from "./household.ts";
import type { KubernetesBackend } from "./kubernetes/backend.ts";
import type { KubernetesChoice } from "./kubernetes/open.ts";
import { JOB_LIMITS, rulesFor } from "./runner/rules.ts";
import { processBackend } from "./sandbox-process.ts";
import type { Sandboxes } from "./sandboxes.ts";
import { startServer } from "./server.ts";

// The local cluster: relay, registry and controller in one process, sandboxes in their own, one directory for it all.

export interface ClusterOptions {
  readonly directory: string;
  readonly name?: string | undefined;
  readonly host?: string | undefined;
  /** 0 picks a free one. */
  readonly port: number;
  /** A preset's name, or a shell command that takes the task on standard input, in place of the built-in runner. */
  readonly runner?: string | undefined;
  /** The origin under which laptops and sandboxes reach the cluster, when that is not where it listens. */
  readonly publicUrl?: string | undefined;
  /** Sandboxes are Kubernetes Jobs, in place of processes of this machine. */
  readonly kubernetes?: KubernetesChoice | undefined;
  readonly governance?: Governance | undefined;
  /** Lets clients in that do not prove who they are; see `ServerOptions`. */
  readonly allowUnproven?: boolean | undefined;
  readonly onNote?: ((text: string) => void) | undefined;
}

/**
 * Starts the cluster of a directory.
 * @throws MeshError `store_locked` when it runs already; `input_invalid` when the port cannot be had
 */
export async function openCluster(
  options: ClusterOptions,
): Promise<Mesh<ClusterOperations> & { readonly urls: ClusterUrls }> {
  const { directory, host = "127.0.0.1", name = "local", allowUnproven = false, onNote = () => undefined } = options;
  const { governance = {}, runner = null } = options;
  const ports = realPorts(realNetwork);
  const rules = governance.rules ?? { ...rulesFor(runner), ...(options.kubernetes && { limits: JOB_LIMITS }) };
  if (options.kubernetes && governance.policy)
    throw new MeshError("input_invalid", "--policy: the program of a policy is not there in a Job; leave it out.");
  // A pod hides and cuts by itself.
  const tasks = options.kubernetes
    ? undefined
    : taskStatus(runner, governance, await tryIsolation(ports.disk, directory, rules));
  const ownership = await claimOwnership(controllerHome(directory));
  if (!ownership) throw new MeshError("store_locked", `The cluster of ${directory} is running already.`);
  let opened: Household | undefined;
  let isReady = false;
  const arrivals = new Arrivals((did) => server.relay.isConnected(did), onNote);
  const server = await startServer({
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
  }).catch((error: unknown) => {
    ownership.release();
    if (error instanceof Error && "code" in error && (error.code === "EADDRINUSE" || error.code === "EACCES")) {
      throw new MeshError(
        "input_invalid",
        `Port ${options.port} of ${host} cannot be used (${error.code}); choose another with --port.`,
      );
    }
    throw error;
  });
  const here = urlsOf(server.url);
  const urls = options.publicUrl === undefined ? here : urlsOf(options.publicUrl);
  let kubernetes: KubernetesBackend | undefined;
  let mesh: Mesh<ClusterOperations> | undefined;
  let sandboxes: Sandboxes | undefined;
  const close = async () => {
    await sandboxes?.close();
    await mesh?.close();
    await server.close();
    if (!mesh) ownership.release();
  };
  try {
    if (options.kubernetes) {
      const { openKubernetes } = await import("./kubernetes/open.ts");
      const onArrival = (did: string, arrived: () => void) => arrivals.await(did, arrived);
      kubernetes = await openKubernetes(options.kubernetes, rules.limits, { onArrival, note: onNote });
    }
    const { node, household, ...rest } = await openHousehold({
      directory,
      ports,
      backend: kubernetes ?? processBackend(),
      cluster: name,
      runner,
      governance: { ...governance, rules: kubernetes ? { ...rules, hidden: [] } : rules },
      tasks,
      urls: () => urls,
      places: { relayUrl: here.relay_url, registryUrl: here.registry_url },
      online: () => server.relay.connections(),
      forget: server.forget,
      allowsUnproven: allowUnproven,
      onNote,
    });
    opened = household;
    sandboxes = rest.sandboxes;
    mesh = await serveNode(node, ownership, clusterOperations(household));
    node.start();
    await node.membership.join({
      controller: null,
      cluster: name,
      relayUrl: urls.relay_url,
      registryUrl: urls.registry_url,
      name: `${name}-controller`,
      capabilities: ["controller"],
    });
    await kubernetes?.start(node.core.keyring.identity.did);
    isReady = true;
    sandboxes.prepare();
    const isGoingOn = (run: string) => household.controller.list().some((known) => known.run === run && !known.settled);
    // Also when the cluster where they are is away for now.
    sandboxes.sweep(isGoingOn).catch((error: unknown) => {
      const { code, message } = asMeshError(error);
      if (code !== "closed") onNote(`What is left of sandboxes could not be removed: ${message}`);
    });
    return { ...mesh, urls, close };
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

/** Reaches the running cluster of a directory, or opens the directory while the cluster is down. */
export function openOperator(
  directory: string,
  onNote: (text: string) => void = () => undefined,
): Promise<Mesh<ClusterOperations>> {
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

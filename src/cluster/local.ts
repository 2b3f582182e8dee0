import { join } from "node:path";
import { z } from "zod";
import { type Mesh, ownOrAttach, serveNode } from "../actors/mesh.ts";
import { realNetwork } from "../actors/network.ts";
import { MeshNode } from "../actors/node.ts";
import type { StoreLimits } from "../actors/opening.ts";
import { type CallContext, operation } from "../actors/operation.ts";
import { operations } from "../actors/operations.ts";
import { claimOwnership } from "../actors/owner.ts";
import type { Places } from "../actors/places.ts";
import { type Ports, realPorts } from "../actors/ports.ts";
import { asMeshError, MeshError } from "../errors.ts";
import { GRANT_TIME_MAX_MS, OFFLOAD_TIMEOUT_MINUTES_MAX, SLOTS_MAX } from "../limits.ts";
import { grantDefinition } from "../machines/grant/machine.ts";
import { refusalDefinition } from "../machines/refusal/machine.ts";
import { runDefinition } from "../machines/run/machine.ts";
import { standingDefinition } from "../machines/standing/machine.ts";
import { tellingDisk } from "../store/disk-errors.ts";
import type { Membership } from "../wire/registry.ts";
import { Capabilities, Name } from "../wire/text.ts";
import { Arrivals } from "./arrivals.ts";
import { Audit, AuditQuestion } from "./audit/audit.ts";
import { Controller } from "./controller.ts";
import { controllerHome } from "./directory.ts";
import { type Governance, type TaskStatus, taskStatus, tryIsolation } from "./governance.ts";
import { type ClusterUrls, Grants } from "./grants.ts";
import type { KubernetesBackend } from "./kubernetes/backend.ts";
import type { KubernetesChoice } from "./kubernetes/open.ts";
import { DEFAULT_RULES, fileSizeMaxOf, JOB_LIMITS, rulesFor } from "./runner/rules.ts";
import { processBackend } from "./sandbox-process.ts";
import { type SandboxBackend, Sandboxes } from "./sandboxes.ts";
import type { ServerOptions } from "./server.ts";
import { openServing, type Serving } from "./serving.ts";
import { StandingSandboxes } from "./standing.ts";
import { standingOperations } from "./standing-operations.ts";

// The local cluster: relay, registry and controller in one process, sandboxes in their own, one directory for it all.

/** Relay, registry and pairing are one server. */
const urlsOf = (base: string): ClusterUrls => ({
  relay_url: base.replace(/^http/, "ws"),
  registry_url: base,
  pair_url: `${base}/v1/pair`,
});

interface Household {
  readonly grants: Grants;
  readonly controller: Controller;
  readonly standing: StandingSandboxes;
  readonly audit: Audit;
  /** The controller's word for those whom the cluster let in: laptops with a grant, sandboxes that run, and itself. */
  readonly vouch: (did: string) => Membership | undefined;
  readonly urls: () => ClusterUrls;
  /** DIDs connected to the relay; undefined while the cluster is down. */
  readonly online: (() => string[]) | undefined;
  /** Whether it lets agents in that prove nothing. */
  readonly allowsUnproven: boolean;
  /** How tasks run here; null while the cluster is down. */
  readonly tasks: TaskStatus | null;
}

/** What a cluster can be asked, beside what every node can. */
function clusterOperations({ grants, controller, standing, audit, urls, online, allowsUnproven, tasks }: Household) {
  const name = z.object({ name: Name });
  return {
    ...operations,
    ...standingOperations(standing, online !== undefined),
    cluster_status: operation(z.object({}), async (_, { node }: CallContext) => ({
      name: node.membership.current?.cluster ?? null,
      did: node.core.keyring.hasIdentity ? node.core.keyring.identity.did : null,
      up: online !== undefined,
      allows_unproven: allowsUnproven,
      ...urls(),
      online: online?.() ?? [],
      grants: grants.list().length,
      tasks,
      running: controller.list().filter(({ ended_at }) => ended_at === null).length,
    })),
    grant_issue: operation(
      z.object({
        name: Name,
        slots: z.int().min(1).max(SLOTS_MAX).default(1),
        capabilities: Capabilities.min(1).default(["offload"]),
        expires_ms: z.number().positive().max(GRANT_TIME_MAX_MS),
        token_budget: z.int().min(0).nullable().default(null),
      }),
      async ({ name: wanted, slots, capabilities, expires_ms, token_budget }) =>
        grants.issue({ name: wanted, slots, capabilities, expiresMs: expires_ms, tokenBudget: token_budget }),
    ),
    grants: operation(z.object({}), async () => ({ grants: grants.list() })),
    grant: operation(name, async ({ name: wanted }) => grants.view(wanted)),
    grant_revoke: operation(name, async ({ name: wanted }) => grants.revoke(wanted)),
    sandboxes: operation(z.object({}), async () => ({
      sandboxes: controller.list(),
      standing: standing.list(),
    })),
    audit: operation(AuditQuestion, async (question) => audit.answer(question)),
  };
}

export type ClusterOperations = ReturnType<typeof clusterOperations>;

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
  /** How its server is open to others. */
  readonly serving?: Serving | undefined;
  readonly onNote?: ((text: string) => void) | undefined;
}

export interface HouseholdOptions {
  readonly directory: string;
  readonly ports: Ports;
  readonly backend: SandboxBackend;
  readonly limits?: Partial<StoreLimits> | undefined;
  readonly cluster: string;
  readonly runner: string | null;
  readonly governance?: Governance | undefined;
  readonly urls: (node: MeshNode) => ClusterUrls;
  /** Where the controller itself reaches relay and registry, when that is not where the others do. */
  readonly places?: Places | undefined;
  readonly online: (() => string[]) | undefined;
  /** Takes an agent out of the registry; without it only agents themselves do. */
  readonly forget?: ((did: string) => Promise<void>) | undefined;
  readonly allowsUnproven?: boolean | undefined;
  readonly tasks?: TaskStatus | undefined;
  readonly onNote: (text: string) => void;
}

/** Opens the controller's node with what belongs to it; it performs nothing before its `start`. */
export async function openHousehold(
  options: HouseholdOptions,
): Promise<{ node: MeshNode; household: Household; sandboxes: Sandboxes }> {
  const { ports, backend, governance = {} } = options;
  let controller: Controller | undefined;
  const node = await MeshNode.open({
    home: controllerHome(options.directory),
    ports,
    limits: options.limits ?? {},
    places: options.places,
    definitions: [grantDefinition, runDefinition, refusalDefinition, standingDefinition],
    onWork: async (work) => controller?.handle(work),
    onNote: options.onNote,
  });
  const urls = () => options.urls(node);
  const grants = new Grants(node.core, options.cluster, urls);
  const housing = {
    disk: tellingDisk(ports.disk),
    backend,
    directory: join(options.directory, "sandboxes"),
    cluster: () => ({
      controller: node.core.keyring.identity.did,
      cluster: options.cluster,
      relay_url: urls().relay_url,
      registry_url: urls().registry_url,
      runner: options.runner,
      rules: governance.rules ?? rulesFor(options.runner),
      policy: governance.policy ?? null,
    }),
  };
  const forget = options.forget ?? (async () => undefined);
  const standing = new StandingSandboxes(node, { ...housing, forget });
  const sandboxes = new Sandboxes({ ...housing, clock: ports.clock, standing });
  const rules = {
    fileSizeMax: fileSizeMaxOf(governance.rules ?? DEFAULT_RULES),
    maxMinutes: governance.maxMinutes ?? OFFLOAD_TIMEOUT_MINUTES_MAX,
    recordsTasks: governance.recordsTasks ?? false,
  };
  const runs = new Controller(node, { grants, sandboxes, standing, rules, forget });
  controller = runs;
  const audit = await Audit.open(options.directory, node, options.onNote);
  const isOurs = (did: string) =>
    did === node.core.keyring.identity.did ||
    grants.of(did)?.phase === "Active" ||
    runs.list().some((run) => run.did === did && run.ended_at === null) ||
    standing.list().some((sandbox) => sandbox.did === did);
  return {
    node,
    sandboxes,
    household: {
      grants,
      controller: runs,
      standing,
      audit,
      vouch: (did) => (isOurs(did) ? grants.vouch(did) : undefined),
      urls,
      online: options.online,
      allowsUnproven: options.allowsUnproven ?? false,
      tasks: options.tasks ?? null,
    },
  };
}

/**
 * Starts the cluster of a directory. `drain`, before `close`, hands its clients over without a loss.
 * @throws MeshError `store_locked` when it runs already; `input_invalid` when the port cannot be had
 */
export async function openCluster(
  options: ClusterOptions,
): Promise<Mesh<ClusterOperations> & { readonly urls: ClusterUrls; drain(): Promise<void> }> {
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
  const arrivals = new Arrivals((did) => server.relay.isConnected(did));
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
  let kubernetes: KubernetesBackend | undefined;
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

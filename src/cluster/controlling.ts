import type { MeshNode } from "../actors/node.ts";
import type { Places } from "../actors/places.ts";
import type { Ports } from "../actors/ports.ts";
import { asMeshError, MeshError } from "../errors.ts";
import type { Arrivals } from "./arrivals.ts";
import { checkCommands } from "./commands.ts";
import { distrustOfCluster } from "./distrust.ts";
import { type Governance, type TaskStatus, taskStatus, tryIsolation } from "./governance.ts";
import type { ClusterUrls } from "./grants.ts";
import { type Household, type HouseholdOptions, openHousehold } from "./household.ts";
import type { KubernetesBackend } from "./kubernetes/backend.ts";
import type { KubernetesChoice } from "./kubernetes/open.ts";
import { JOB_LIMITS, rulesFor, type TaskRules } from "./runner/rules.ts";
import { processBackend } from "./sandbox-process.ts";
import type { Sandboxes } from "./sandboxes.ts";

// A controller at work: its household on the mesh, with sandboxes where the operator wants them.

/** What an operator says of the work of a cluster. */
export interface WorkOptions {
  /** A preset's name, or a shell command that takes the task on standard input, in place of the built-in runner. */
  readonly runner?: string | undefined;
  /** Sandboxes are Kubernetes Jobs, in place of processes of this machine. */
  readonly kubernetes?: KubernetesChoice | undefined;
  readonly governance?: Governance | undefined;
  /** Authorities that the controller and its sandboxes trust beside those of the system, PEM. */
  readonly authorities?: string | undefined;
}

/** What tasks may do, and what of it holds on this host. */
export interface WorkRules {
  readonly rules: TaskRules;
  /** Undefined where a pod hides and cuts by itself. */
  readonly tasks: TaskStatus | undefined;
}

/** @throws MeshError `input_invalid` when the operator insists on what cannot be had here */
export async function workRules(ports: Ports, directory: string, options: WorkOptions): Promise<WorkRules> {
  const { governance = {}, runner = null, kubernetes } = options;
  const rules = governance.rules ?? { ...rulesFor(runner), ...(kubernetes && { limits: JOB_LIMITS }) };
  if (kubernetes && governance.policy)
    throw new MeshError("input_invalid", "--policy: the program of a policy is not there in a Job; leave it out.");
  // The image of a Job says what is there.
  if (!kubernetes) await checkCommands(runner, governance.policy);
  const tasks = kubernetes
    ? undefined
    : taskStatus(runner, governance, await tryIsolation(ports.disk, directory, rules));
  return { rules, tasks };
}

export interface ControllingOptions
  extends WorkOptions,
    WorkRules,
    Pick<HouseholdOptions, "directory" | "home" | "ports" | "online" | "forget" | "onNote"> {
  /** The cluster's name. */
  readonly name: string;
  readonly urls: ClusterUrls;
  /** Where the controller itself reaches relay and registry. */
  readonly places: Places;
  readonly allowUnproven: boolean;
  readonly arrivals: Arrivals;
}

export interface Controlling {
  readonly node: MeshNode;
  readonly household: Household;
  readonly sandboxes: Sandboxes;
  /** Joins the mesh and goes to work. */
  start(): Promise<void>;
}

/** Opens a controller; it performs nothing before its `start`. */
export async function openControlling(options: ControllingOptions): Promise<Controlling> {
  const { name, urls, runner = null, governance = {}, rules, arrivals, onNote } = options;
  const kubernetes = options.kubernetes && (await openJobs(options.kubernetes));

  async function openJobs(choice: KubernetesChoice): Promise<KubernetesBackend> {
    const { openKubernetes } = await import("./kubernetes/open.ts");
    const onArrival = (did: string, arrived: () => void) => arrivals.await(did, arrived);
    return openKubernetes(choice, rules.limits, { onArrival, note: onNote });
  }
  const { node, household, sandboxes } = await openHousehold({
    directory: options.directory,
    home: options.home,
    ports: options.ports,
    backend: kubernetes ?? processBackend(),
    cluster: name,
    runner,
    governance: { ...governance, rules: kubernetes ? { ...rules, hidden: [] } : rules },
    tasks: options.tasks,
    urls: () => urls,
    authorities: options.authorities,
    places: options.places,
    online: options.online,
    forget: options.forget,
    allowsUnproven: options.allowUnproven,
    onNote,
  });
  return {
    node,
    household,
    sandboxes,
    async start() {
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
      sandboxes.prepare();
      // Told at the beginning, and not when the first task fails for it.
      void distrustOfCluster(options.ports.network, urls.registry_url).then((distrust) => {
        if (distrust !== undefined) onNote(`Tasks will fail: ${distrust}.`);
      });
      const goingOn = () => household.controller.list().flatMap(({ run, settled }) => (settled ? [] : [run]));
      // Also when the cluster where they are is away for now.
      sandboxes.sweep(goingOn).catch((error: unknown) => {
        const { code, message } = asMeshError(error);
        if (code !== "closed") onNote(`What is left of sandboxes could not be removed: ${message}`);
      });
    },
  };
}

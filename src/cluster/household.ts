import { join } from "node:path";
import { z } from "zod";
import { MeshNode } from "../actors/node.ts";
import type { StoreLimits } from "../actors/opening.ts";
import { type CallContext, operation } from "../actors/operation.ts";
import { operations } from "../actors/operations.ts";
import type { Places } from "../actors/places.ts";
import type { Ports } from "../actors/ports.ts";
import { GRANT_TIME_MAX_MS, OFFLOAD_TIMEOUT_MINUTES_MAX, SLOTS_MAX } from "../limits.ts";
import { grantDefinition } from "../machines/grant/machine.ts";
import { refusalDefinition } from "../machines/refusal/machine.ts";
import { runDefinition } from "../machines/run/machine.ts";
import { standingDefinition } from "../machines/standing/machine.ts";
import type { Disk } from "../store/disk.ts";
import { tellingDisk } from "../store/disk-errors.ts";
import type { Membership } from "../wire/registry.ts";
import { Capabilities, Name } from "../wire/text.ts";
import { Audit, AuditQuestion } from "./audit/audit.ts";
import { Controller } from "./controller.ts";
import { controllerHome } from "./directory.ts";
import type { Governance, TaskStatus } from "./governance.ts";
import { type ClusterUrls, Grants } from "./grants.ts";
import { DEFAULT_RULES, fileSizeMaxOf, rulesFor } from "./runner/rules.ts";
import { type SandboxBackend, Sandboxes } from "./sandboxes.ts";
import { StandingSandboxes } from "./standing.ts";
import { standingOperations } from "./standing-operations.ts";

// A controller with all that belongs to it: its node, the grants, the sandboxes, the audit record, and what an operator can ask.

/** Relay, registry and pairing are one server. */
export const urlsOf = (base: string): ClusterUrls => ({
  relay_url: base.replace(/^http/, "ws"),
  registry_url: base,
  pair_url: `${base}/v1/pair`,
});

export interface Household {
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
export function clusterOperations({
  grants,
  controller,
  standing,
  audit,
  urls,
  online,
  allowsUnproven,
  tasks,
}: Household) {
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
    audit_rotate: operation(z.object({}), async () => audit.rotate()),
  };
}

export type ClusterOperations = ReturnType<typeof clusterOperations>;

export interface HouseholdOptions {
  /** Of the sandboxes, and of all else unless `home` says where that lies. */
  readonly directory: string;
  readonly ports: Ports;
  /** Where the controller's home and the audit record lie, when that is not where the sandboxes have their files. */
  readonly home?: { readonly disk: Disk; readonly directory: string } | undefined;
  readonly backend: SandboxBackend;
  readonly limits?: Partial<StoreLimits> | undefined;
  readonly cluster: string;
  readonly runner: string | null;
  readonly governance?: Governance | undefined;
  readonly urls: (node: MeshNode) => ClusterUrls;
  /** Authorities that sandboxes trust beside those of their system, PEM. */
  readonly authorities?: string | undefined;
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
  const { backend, governance = {} } = options;
  const { disk, directory } = options.home ?? { disk: options.ports.disk, directory: options.directory };
  const ports = { ...options.ports, disk };
  let controller: Controller | undefined;
  const node = await MeshNode.open({
    home: controllerHome(directory),
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
    disk: tellingDisk(options.ports.disk),
    backend,
    directory: join(options.directory, "sandboxes"),
    cluster: () => ({
      controller: node.core.keyring.identity.did,
      cluster: options.cluster,
      relay_url: urls().relay_url,
      registry_url: urls().registry_url,
      ...(options.authorities !== undefined && { authorities: options.authorities }),
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
  const audit = await Audit.open(directory, node, options.onNote);
  const runOf = (did: string) => runs.list().find((run) => run.did === did && run.ended_at === null)?.run;
  const isOurs = (did: string) =>
    did === node.core.keyring.identity.did ||
    grants.of(did)?.phase === "Active" ||
    standing.list().some((sandbox) => sandbox.did === did);
  return {
    node,
    sandboxes,
    household: {
      grants,
      controller: runs,
      standing,
      audit,
      vouch(did) {
        const run = runOf(did);
        return run !== undefined || isOurs(did) ? grants.vouch(did, run) : undefined;
      },
      urls,
      online: options.online,
      allowsUnproven: options.allowsUnproven ?? false,
      tasks: options.tasks ?? null,
    },
  };
}

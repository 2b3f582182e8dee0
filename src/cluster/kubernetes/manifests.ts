import { createHash } from "node:crypto";
import { isIP } from "node:net";
import type { V1Job, V1NetworkPolicy, V1OwnerReference, V1Secret } from "@kubernetes/client-node";
import { base64 } from "../../crypto/index.ts";
import type { RunLimits } from "../runner/rules.ts";
import type { SandboxConfig, SandboxFile } from "../sandboxes.ts";
import { FINISHED_KEPT_MS, NODE_LOST_MS, POD_GRACE_MS, SANDBOX_DISK_MIB, SANDBOX_MEMORY_MIB } from "./limits.ts";

// What is asked of Kubernetes for one sandbox: a Job, a Secret with what it is told, and a NetworkPolicy that holds it in.
// Functions of their arguments alone.

/** What a sandbox is promised, and may not exceed; null is neither. */
export interface Resources {
  readonly memory_mib: number | null;
  readonly cpus: number;
  /** Each of its home and of /tmp, and all that it writes together. */
  readonly disk_mib: number | null;
}

/**
 * What a task may take and what its sandbox takes beside it. Time of processors and the number of processes are no amounts that
 * a pod has: the sandbox watches them in its pod, as everywhere.
 */
export const resourcesFor = ({ memory_mib, output_mb }: RunLimits): Resources => ({
  memory_mib: memory_mib === null ? null : memory_mib + SANDBOX_MEMORY_MIB,
  cpus: 1,
  disk_mib: output_mb === null ? null : Math.ceil((output_mb * 1_000_000) / 2 ** 20) + SANDBOX_DISK_MIB,
});

export interface Placement {
  readonly namespace: string;
  readonly image: string;
  readonly resources: Resources;
}

/** The one container of a sandbox's pod. */
export const CONTAINER = "sandbox";
/** The uid and gid of `node` in the image. */
const USER = 1000;
/** Where a sandbox has its folder, and where it finds what it is told. */
const HOME = "/sandbox";
const CONFIG_FOLDER = "/etc/kars-sandbox";
const CONFIG_FILE = "sandbox.json";

const LABEL = { controller: "kars-mesh/controller", job: "kars-mesh/job" } as const;
export const ANNOTATION = { run: "kars-mesh/run", name: "kars-mesh/name", did: "kars-mesh/did" } as const;

/** A DID's 32 hex digits: a label's value takes no colon. */
const digitsOf = (did: string) => did.slice(did.lastIndexOf(":") + 1);

/** Selects all that belongs to one controller, whatever else lives in the namespace. */
export const selectorOf = (controller: string): string => `${LABEL.controller}=${digitsOf(controller)}`;
/** Selects the pods of one Job. */
export const podSelectorOf = (job: string): string => `${LABEL.job}=${job}`;
/** The Job to whom something with these labels belongs. */
export const jobOfLabels = (labels: Readonly<Record<string, string>>): string | undefined => labels[LABEL.job];

/** The name of a run's Job, Secret and NetworkPolicy: always the same, so that what is asked for twice is there once. */
export const nameOf = ({ controller, run }: Pick<SandboxConfig, "controller" | "run">): string =>
  `kars-${createHash("sha256").update(`${controller}\n${run}`).digest("hex").slice(0, 32)}`;

const metadataOf = (config: SandboxConfig, { namespace }: Placement) => {
  const name = nameOf(config);
  return {
    name,
    namespace,
    labels: {
      "app.kubernetes.io/name": "kars-sandbox",
      "app.kubernetes.io/managed-by": "kars-mesh",
      [LABEL.controller]: digitsOf(config.controller),
      [LABEL.job]: name,
    },
    annotations: { [ANNOTATION.run]: config.run, [ANNOTATION.name]: config.name },
  };
};

const seconds = (milliseconds: number) => Math.ceil(milliseconds / 1000);

/** Suspended: nothing of it runs before its policy and its Secret are there. */
export function jobOf(config: SandboxConfig, placement: Placement): V1Job {
  const { image, resources } = placement;
  const metadata = metadataOf(config, placement);
  const { cpus, memory_mib, disk_mib } = resources;
  const disk = disk_mib === null ? undefined : `${disk_mib}Mi`;
  const amounts = {
    cpu: String(cpus),
    ...(memory_mib !== null && { memory: `${memory_mib}Mi` }),
    ...(disk !== undefined && { "ephemeral-storage": disk }),
  };
  const emptyDir = disk === undefined ? {} : { sizeLimit: disk };
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata,
    spec: {
      suspend: true,
      backoffLimit: 0,
      activeDeadlineSeconds: seconds(config.timeout_minutes * 60_000),
      ttlSecondsAfterFinished: seconds(FINISHED_KEPT_MS),
      template: {
        metadata: { labels: metadata.labels, annotations: metadata.annotations },
        spec: {
          restartPolicy: "Never",
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          // What a task leaves behind has a parent that buries it.
          shareProcessNamespace: true,
          terminationGracePeriodSeconds: seconds(POD_GRACE_MS),
          securityContext: {
            runAsNonRoot: true,
            runAsUser: USER,
            runAsGroup: USER,
            fsGroup: USER,
            seccompProfile: { type: "RuntimeDefault" },
          },
          tolerations: ["not-ready", "unreachable"].map((taint) => ({
            key: `node.kubernetes.io/${taint}`,
            operator: "Exists",
            effect: "NoExecute",
            tolerationSeconds: seconds(NODE_LOST_MS),
          })),
          containers: [
            {
              name: CONTAINER,
              image,
              env: [
                { name: "KARS_SANDBOX_CONFIG", value: `${CONFIG_FOLDER}/${CONFIG_FILE}` },
                { name: "HOME", value: HOME },
                { name: "TMPDIR", value: "/tmp" },
              ],
              resources: { requests: amounts, limits: amounts },
              securityContext: {
                allowPrivilegeEscalation: false,
                privileged: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ["ALL"] },
              },
              volumeMounts: [
                { name: "home", mountPath: HOME },
                { name: "tmp", mountPath: "/tmp" },
                { name: "config", mountPath: CONFIG_FOLDER, readOnly: true },
              ],
            },
          ],
          volumes: [
            { name: "home", emptyDir },
            { name: "tmp", emptyDir },
            { name: "config", secret: { secretName: metadata.name, defaultMode: 0o440 } },
          ],
        },
      },
    },
  };
}

/** Lets a Job run, and keeps under which DID it will come to the mesh. A JSON merge patch (RFC 7386). */
export const resumptionOf = (did: string): object => ({
  metadata: { annotations: { [ANNOTATION.did]: did } },
  spec: { suspend: false },
});

/** What ends with a Job: whoever removes the Job removes this too. */
const ownedBy = (config: SandboxConfig, uid: string): V1OwnerReference[] => [
  { apiVersion: "batch/v1", kind: "Job", name: nameOf(config), uid },
];

/** @param seed 32 bytes: the identity that the sandbox has for this one run @param uid the Job's */
export function secretOf(config: SandboxConfig, placement: Placement, seed: Uint8Array, uid: string): V1Secret {
  const file: SandboxFile = { ...config, directory: HOME, seed: base64.encode(seed) };
  return {
    apiVersion: "v1",
    kind: "Secret",
    type: "Opaque",
    metadata: { ...metadataOf(config, placement), ownerReferences: ownedBy(config, uid) },
    immutable: true,
    stringData: { [CONFIG_FILE]: JSON.stringify(file) },
  };
}

/** Host and port of a `http`, `https`, `ws` or `wss` address. */
function endpointOf(url: string): { readonly host: string; readonly port: number } {
  const { hostname, port, protocol } = new URL(url);
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  return { host, port: port === "" ? (/^(?:https|wss):$/.test(protocol) ? 443 : 80) : Number(port) };
}

/**
 * Nobody reaches the sandbox, and it reaches relay and registry alone: by address where they are named by one, else by their
 * port, wherever that is, and name servers.
 */
export function networkPolicyOf(config: SandboxConfig, placement: Placement, uid: string): V1NetworkPolicy {
  const endpoints = new Map([config.relay_url, config.registry_url].map((url) => [new URL(url).host, endpointOf(url)]));
  const hasNames = [...endpoints.values()].some(({ host }) => isIP(host) === 0);
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { ...metadataOf(config, placement), ownerReferences: ownedBy(config, uid) },
    spec: {
      podSelector: { matchLabels: { [LABEL.job]: nameOf(config) } },
      policyTypes: ["Ingress", "Egress"],
      ingress: [],
      egress: [
        ...[...endpoints.values()].map(({ host, port }) => {
          const bits = { 0: undefined, 4: 32, 6: 128 }[isIP(host)];
          return {
            ...(bits !== undefined && { to: [{ ipBlock: { cidr: `${host}/${bits}` } }] }),
            ports: [{ protocol: "TCP", port }],
          };
        }),
        ...(hasNames
          ? [
              {
                ports: [
                  { protocol: "UDP", port: 53 },
                  { protocol: "TCP", port: 53 },
                ],
              },
            ]
          : []),
      ],
    },
  };
}

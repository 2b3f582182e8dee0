import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type {
  V1Deployment,
  V1Ingress,
  V1LabelSelector,
  V1NetworkPolicy,
  V1PodDisruptionBudget,
  V1Service,
  V2HorizontalPodAutoscaler,
} from "@kubernetes/client-node";
import { Command } from "commander";
import { describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { z } from "zod";
import { addReplicas } from "../../src/cli/cluster.ts";
import { addNats } from "../../src/cli/nats.ts";
import { CLUSTER_CONNECTIONS_MAX, HEARTBEAT_MS } from "../../src/limits.ts";

// What lies in deploy/replicas/, held together: what one manifest says of another is so, and each pod keeps the promises of
// docs/scale.md.

const folder = join(import.meta.dirname, "../../deploy/replicas");
const text = (name: string) => readFileSync(join(folder, name), "utf8");
const documents = readdirSync(folder)
  .filter((name) => name.endsWith(".yaml"))
  .flatMap((name) => parseAllDocuments(text(name)).map((document) => ({ name, document })));

/** Manifests as far as it matters here: their names, and all else as it stands. */
const Named = z.looseObject({ kind: z.string(), metadata: z.looseObject({ name: z.string(), namespace: z.string() }) });
const Kinds = z.looseObject({ kind: z.string() });
const manifests = documents
  .map(({ document }) => document.toJS())
  .filter((each) => Kinds.safeParse(each).data?.kind !== "Kustomization" && Kinds.safeParse(each).success)
  .map((each) => Named.parse(each));

interface OfKind {
  readonly Deployment: V1Deployment;
  readonly Ingress: V1Ingress;
  readonly NetworkPolicy: V1NetworkPolicy;
  readonly PodDisruptionBudget: V1PodDisruptionBudget;
  readonly Service: V1Service;
  readonly HorizontalPodAutoscaler: V2HorizontalPodAutoscaler;
  readonly ServiceAccount: { readonly metadata?: { readonly name?: string } };
}
const isOf = <K extends keyof OfKind>(kind: K, each: { kind: string }): each is { kind: K } & OfKind[K] =>
  each.kind === kind;
const all = <K extends keyof OfKind>(kind: K) => manifests.filter((each) => isOf(kind, each));

const Kustomization = z.object({
  namespace: z.string(),
  resources: z.array(z.string()),
  images: z.array(z.object({ name: z.string(), newTag: z.string() })),
  configMapGenerator: z.tuple([z.object({ name: z.string(), literals: z.array(z.string()) })]),
});
const kustomization = Kustomization.parse(parseAllDocuments(text("kustomization.yaml"))[0]?.toJS());
const [config] = kustomization.configMapGenerator;
const literals = new Map(
  config.literals.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)] as const),
);

/** What connections may take to be handed over, in seconds: a replica that is told to end takes no longer. */
const DRAIN_SECONDS = 20;

const ROLES = ["relay", "registry", "controller"];
/** The options that each role has, as its own command line says. */
const program = addNats(new Command());
addReplicas(program);
const optionsOf = (role: string) =>
  [program, program.commands.find((command) => command.name() === role)].flatMap(
    (command) => command?.options.map(({ long }) => long) ?? [],
  );
const REPLICAS: Readonly<Record<string, number>> = { relay: 3, registry: 2, controller: 2 };

function deployment(role: string): V1Deployment {
  const found = all("Deployment").find(({ metadata }) => metadata?.name === `kars-${role}`);
  if (!found) throw new Error(`there is no Deployment of the ${role}`);
  return found;
}
const podOf = (role: string) => deployment(role).spec?.template.spec;
const labelsOf = (role: string) => deployment(role).spec?.template.metadata?.labels ?? {};
const containerOf = (role: string) => podOf(role)?.containers[0];
const selects = (selector: V1LabelSelector | undefined, labels: Readonly<Record<string, string>>) =>
  selector !== undefined &&
  selector.matchExpressions === undefined &&
  Object.entries(selector.matchLabels ?? {}).every(([key, value]) => labels[key] === value);
const portsOf = (role: string) => containerOf(role)?.ports?.map(({ name, containerPort }) => ({ name, containerPort }));

describe("the manifests of replicas", () => {
  it("are all YAML, without errors or warnings", () => {
    expect(manifests.length).toBeGreaterThan(12);
    for (const { name, document } of documents)
      expect([name, document.errors, document.warnings]).toEqual([name, [], []]);
  });

  it("are in the one namespace, and named once", () => {
    expect(new Set(manifests.map(({ metadata }) => metadata.namespace))).toEqual(new Set([kustomization.namespace]));
    const names = manifests
      .filter(({ kind }) => kind !== "HTTPRoute")
      .map(({ kind, metadata }) => `${kind} ${metadata.name}`);
    expect(new Set(names).size).toBe(names.length);
  });

  it("are those that the kustomization has, but for examples and the values of NATS", () => {
    const others = ["kustomization.yaml", "gateway.yaml", "autoscaling.yaml", "nats-values.yaml"];
    expect([...kustomization.resources, ...others].sort()).toEqual(
      [...new Set(documents.map(({ name }) => name))].sort(),
    );
  });

  it("give nobody a right: the controller's role is in ../rbac.yaml", () => {
    expect(manifests.filter(({ kind }) => /Role|Secret/.test(kind))).toEqual([]);
  });
});

describe.each(ROLES)("the %s", (role) => {
  it("is so many replicas of one role, which are replaced one at a time, none before another is ready", () => {
    const { spec } = deployment(role);
    expect(spec?.replicas).toBe(REPLICAS[role]);
    expect(spec?.strategy?.rollingUpdate).toEqual({ maxSurge: 1, maxUnavailable: 0 });
    expect(selects(spec?.selector, labelsOf(role))).toBe(true);
    expect(podOf(role)?.containers).toHaveLength(1);
  });

  it("is started with options that there are, and what they name is there", () => {
    const { args = [], envFrom, env = [], volumeMounts = [], image } = containerOf(role) ?? {};
    const [command, ...options] = args;
    expect(command).toBe(role);
    const given = options.map((option) => option.split("=", 1)[0] ?? "");
    expect(given.filter((option) => !optionsOf(role).includes(option))).toEqual([]);
    expect(new Set(given).size).toBe(given.length);
    expect(given).toEqual(expect.arrayContaining(["--name", "--nats", "--nats-creds", "--nats-ca", "--public-url"]));
    expect(envFrom).toEqual([{ configMapRef: { name: config.name } }]);
    const variables = [...literals.keys(), ...env.map(({ name }) => name)];
    for (const [, name] of args.join(" ").matchAll(/\$\((\w+)\)/g)) expect(variables).toContain(name);
    for (const [, path = ""] of args.join(" ").matchAll(/=(\/[^ ]+)/g))
      expect(volumeMounts.some(({ mountPath }) => path.startsWith(`${mountPath}/`))).toBe(true);
    expect(kustomization.images.map(({ name, newTag }) => `${name}:${newTag}`)).toEqual([image]);
    const port = options.find((option) => option.startsWith("--port="))?.slice("--port=".length);
    expect(portsOf(role)).toEqual([{ name: "mesh", containerPort: Number(port) }]);
  });

  it("mounts volumes that there are, and writes only where they are its own", () => {
    const { volumeMounts = [] } = containerOf(role) ?? {};
    const volumes = podOf(role)?.volumes ?? [];
    expect(volumeMounts.map(({ name }) => name).sort()).toEqual(volumes.map(({ name }) => name).sort());
    for (const volume of volumes) {
      const mount = volumeMounts.find(({ name }) => name === volume.name);
      if (volume.emptyDir) expect(volume.emptyDir.sizeLimit).toBeDefined();
      else expect([mount?.readOnly, volume.secret?.defaultMode]).toEqual([true, 0o440]);
    }
  });

  it("is started anew when it hangs, and given nothing while it is not ready", () => {
    const { startupProbe, livenessProbe, readinessProbe } = containerOf(role) ?? {};
    const ports = portsOf(role)?.map(({ name }) => name);
    for (const [probe, path] of [
      [startupProbe, "/health"],
      [livenessProbe, "/health"],
      [readinessProbe, "/ready"],
    ] as const) {
      expect(probe?.httpGet?.path).toBe(path);
      expect(ports).toContain(probe?.httpGet?.port);
    }
  });

  it("has the time that it needs to hand its connections over", () => {
    const [program, seconds] = containerOf(role)?.lifecycle?.preStop?.exec?.command ?? [];
    expect(program).toBe("sleep");
    // Within the time before: it has not been told to end when it is first seen as not ready.
    expect(podOf(role)?.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(Number(seconds) + DRAIN_SECONDS + 10);
  });

  it("meets the restricted Pod Security Standard", () => {
    expect(podOf(role)?.securityContext).toMatchObject({
      runAsNonRoot: true,
      runAsUser: 1000,
      seccompProfile: { type: "RuntimeDefault" },
    });
    expect(containerOf(role)?.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      privileged: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
    for (const field of ["hostNetwork", "hostPID", "hostIPC"]) expect(podOf(role)).not.toHaveProperty(field);
    for (const volume of podOf(role)?.volumes ?? []) expect(volume).not.toHaveProperty("hostPath");
  });

  it("is promised what it needs, and cannot take all of a machine's memory", () => {
    const { requests, limits } = containerOf(role)?.resources ?? {};
    expect(Object.keys(requests ?? {}).sort()).toEqual(["cpu", "memory"]);
    expect(Object.keys(limits ?? {})).toEqual(["memory"]);
  });

  it("is spread over machines and zones", () => {
    const spread = podOf(role)?.topologySpreadConstraints ?? [];
    expect(spread.map(({ topologyKey }) => topologyKey)).toEqual([
      "kubernetes.io/hostname",
      "topology.kubernetes.io/zone",
    ]);
    for (const { labelSelector } of spread) expect(selects(labelSelector, labelsOf(role))).toBe(true);
  });

  it("may lose one replica to maintenance at a time, and never all", () => {
    const budgets = all("PodDisruptionBudget").filter(({ spec }) => selects(spec?.selector, labelsOf(role)));
    expect(budgets.map(({ metadata }) => metadata?.name)).toEqual([`kars-${role}`]);
    const { maxUnavailable, minAvailable } = budgets[0]?.spec ?? {};
    expect([maxUnavailable, minAvailable]).toEqual([1, undefined]);
    expect(deployment(role).spec?.replicas).toBeGreaterThan(1);
  });

  it("has an account of its own, and a word with the API server only if it is the controller", () => {
    const { serviceAccountName, automountServiceAccountToken, enableServiceLinks } = podOf(role) ?? {};
    expect(serviceAccountName).toBe(`kars-${role}`);
    expect([automountServiceAccountToken, enableServiceLinks]).toEqual([role === "controller", false]);
    const here = all("ServiceAccount").some(({ metadata }) => metadata?.name === serviceAccountName);
    const elsewhere = readFileSync(join(folder, "../rbac.yaml"), "utf8").includes(`name: ${serviceAccountName}\n`);
    expect(role === "controller" ? elsewhere : here).toBe(true);
  });
});

describe("the ways between them", () => {
  it("Services lead to the pods of their role, at a port that these have", () => {
    expect(all("Service").map(({ metadata }) => metadata?.name)).toEqual(["kars-registry", "kars-relay"]);
    for (const { metadata, spec } of all("Service")) {
      const role = String(metadata?.name).slice("kars-".length);
      expect(ROLES.filter((other) => selects({ matchLabels: spec?.selector ?? {} }, labelsOf(other)))).toEqual([role]);
      expect(spec?.ports?.map(({ targetPort }) => targetPort)).toEqual(portsOf(role)?.map(({ name }) => name));
    }
  });

  it("the way in leads /ws to the relay and /v1 to the registry, under the public address, and nothing else", () => {
    const { hostname, protocol } = new URL(literals.get("PUBLIC_URL") ?? "");
    expect(protocol).toBe("https:");
    const [{ metadata, spec } = {}] = all("Ingress");
    expect(spec?.tls?.flatMap(({ hosts }) => hosts)).toEqual([hostname]);
    const paths = spec?.rules?.flatMap(({ host, http }) =>
      (http?.paths ?? []).map(({ path, backend }) => [host, path, backend.service?.name, backend.service?.port?.name]),
    );
    expect(paths).toEqual([
      [hostname, "/ws", "kars-relay", "mesh"],
      [hostname, "/v1", "kars-registry", "mesh"],
    ]);
    const quiet = metadata?.annotations?.["nginx.ingress.kubernetes.io/proxy-read-timeout"];
    expect(Number(quiet) * 1000).toBeGreaterThan(2 * HEARTBEAT_MS);

    const route = z
      .looseObject({
        hostnames: z.array(z.string()),
        rules: z.array(
          z.looseObject({
            matches: z.tuple([z.object({ path: z.looseObject({ value: z.string() }) })]),
            backendRefs: z.tuple([z.object({ name: z.string(), port: z.number() })]),
          }),
        ),
      })
      .parse(manifests.find(({ kind }) => kind === "HTTPRoute")?.spec);
    const routed = route.rules.map(({ matches, backendRefs }) => [matches[0].path.value, backendRefs[0].name]);
    expect(routed).toEqual(paths?.map(([, path, name]) => [path, name]));
    expect(route.hostnames).toEqual([hostname]);
  });

  const policies = all("NetworkPolicy");
  const about = (labels: Readonly<Record<string, string>>) =>
    policies.filter(({ spec }) => selects(spec?.podSelector, labels));
  const NATS = { "app.kubernetes.io/name": "nats", "app.kubernetes.io/component": "nats" };
  it("a policy holds every pod of the namespace, which lets nothing in or out", () => {
    const nothing = policies.find(({ spec }) => Object.keys(spec?.podSelector ?? {}).length === 0 && !spec?.egress);
    expect(nothing?.spec).toEqual({ podSelector: {}, policyTypes: ["Ingress", "Egress"] });
  });

  it.each(ROLES)("and another says for the %s who gets in, and that it gets out to NATS", (role) => {
    const own = about(labelsOf(role)).find(({ metadata }) => metadata?.name === `kars-${role}`);
    expect(own?.spec?.policyTypes).toEqual(["Ingress", "Egress"]);
    const said = JSON.stringify(own?.spec?.ingress);
    expect(said).toContain('"kubernetes.io/metadata.name":"monitoring"');
    expect(said.includes("ingress-nginx")).toBe(role !== "controller");
    expect(said.includes("kars-controller")).toBe(role !== "controller");
    for (const { ports } of own?.spec?.ingress ?? [])
      expect(ports?.map(({ port }) => port)).toEqual(portsOf(role)?.map(({ name }) => name));
    const [toNats, ...others] = own?.spec?.egress ?? [];
    expect(toNats).toEqual({ to: [{ podSelector: { matchLabels: NATS } }], ports: [{ protocol: "TCP", port: 4222 }] });
    expect(others).toHaveLength(role === "controller" ? 2 : 0);
    const nats = policies.find(({ metadata }) => metadata?.name === "nats");
    expect(selects(nats?.spec?.podSelector, NATS)).toBe(true);
    expect(JSON.stringify(nats?.spec?.ingress)).toContain('"app.kubernetes.io/part-of":"kars"');
    expect(labelsOf(role)["app.kubernetes.io/part-of"]).toBe("kars");
  });

  it("relays grow in number before one is full", () => {
    const [{ spec } = {}] = all("HorizontalPodAutoscaler");
    expect(spec?.scaleTargetRef.name).toBe("kars-relay");
    expect(spec?.minReplicas).toBe(REPLICAS.relay);
    const target = Number(spec?.metrics?.[0]?.pods?.target.averageValue);
    // Those of one that goes away find room at the others.
    expect((target * Number(spec?.minReplicas)) / (Number(spec?.minReplicas) - 1)).toBeLessThan(
      CLUSTER_CONNECTIONS_MAX,
    );
  });
});

describe("the values of NATS", () => {
  const store = z.looseObject({ enabled: z.literal(true), maxSize: z.string() });
  const tls = z.looseObject({ enabled: z.literal(true), merge: z.object({ verify: z.literal(true) }) });
  const Values = z.looseObject({
    config: z.looseObject({
      cluster: z.looseObject({ enabled: z.literal(true), replicas: z.literal(3), tls }),
      nats: z.looseObject({ tls }),
      jetstream: z.looseObject({
        enabled: z.literal(true),
        fileStore: store.extend({ pvc: z.looseObject({ size: z.string() }) }),
        memoryStore: store,
        merge: z.looseObject({ sync_interval: z.string() }),
      }),
      resolver: z.looseObject({ enabled: z.literal(true) }),
    }),
  });
  const { config: nats } = Values.parse(parseAllDocuments(text("nats-values.yaml"))[0]?.toJS());

  it("are a cluster whose nodes are those that the replicas are told", () => {
    const urls = (literals.get("NATS_URLS") ?? "").split(",").map((url) => new URL(url));
    expect(urls.map(({ hostname }) => hostname)).toEqual(
      Array.from({ length: nats.cluster.replicas }, (_, n) => `nats-${n}.nats-headless`),
    );
    expect(new Set(urls.map(({ protocol, port }) => `${protocol}${port}`))).toEqual(new Set(["tls:4222"]));
    for (const role of ROLES) expect(containerOf(role)?.args).toContain(`--nats-replicas=${nats.cluster.replicas}`);
  });

  it("have every write on disk before it is acknowledged, as the embedded store does", () => {
    expect(nats.jetstream.merge.sync_interval).toBe("always");
  });

  it("leave room on the disk beside what streams may take", () => {
    const { maxSize, pvc } = nats.jetstream.fileStore;
    expect(Number.parseInt(maxSize, 10)).toBeLessThan(Number.parseInt(pvc.size, 10));
  });
});

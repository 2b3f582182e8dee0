import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { z } from "zod";
import { addUp } from "../../src/cli/cluster.ts";
import { createProgram } from "../../src/cli/program.ts";
import { jobOf } from "../../src/cluster/kubernetes/manifests.ts";
import { NAMESPACE_DEFAULT } from "../../src/cluster/kubernetes/open.ts";
import { config, hasty, JOB, PLACEMENT, running, spawned, world } from "./world.ts";

// What lies in deploy/, held against what the program does.

const root = join(import.meta.dirname, "../..");
const folder = join(root, "deploy");
const read = (name: string) => readFileSync(join(folder, name), "utf8");
const Manifest = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({ name: z.string(), namespace: z.string().optional() }),
});
const manifests = readdirSync(folder)
  .filter((name) => name.endsWith(".yaml"))
  .flatMap((name) => parseAllDocuments(read(name)).map((document) => ({ name, document })));
const all = manifests.map(({ document }) => Manifest.parse(document.toJS()));
const named = (kind: string, name: string) => {
  const found = all.find((each) => each.kind === kind && each.metadata.name === name);
  if (!found) throw new Error(`deploy/ has no ${kind} ${name}`);
  return found;
};

describe("the manifests", () => {
  it("are all YAML, without errors or warnings", () => {
    expect(manifests.length).toBeGreaterThan(5);
    for (const { name, document } of manifests)
      expect([name, document.errors, document.warnings]).toEqual([name, [], []]);
  });

  it("make the namespace that sandboxes run in, which lets in nothing that asks for more", () => {
    expect(named("Namespace", NAMESPACE_DEFAULT).metadata.labels).toMatchObject({
      "pod-security.kubernetes.io/enforce": "restricted",
    });
  });

  it("lay the role on the controller's service account, in that namespace alone", () => {
    const account = { kind: "ServiceAccount", name: "kars-controller", namespace: "kars" };
    expect(named("RoleBinding", "kars-controller")).toMatchObject({
      metadata: { namespace: NAMESPACE_DEFAULT },
      roleRef: { kind: "Role", name: "kars-controller" },
      subjects: [account],
    });
    expect(named("ServiceAccount", "kars-controller").metadata.namespace).toBe(account.namespace);
    expect(named("Role", "kars-controller").metadata.namespace).toBe(NAMESPACE_DEFAULT);
    expect(all.filter(({ kind }) => kind.startsWith("ClusterRole"))).toEqual([]);
  });
});

const Rules = z.array(
  z.strictObject({ apiGroups: z.array(z.string()), resources: z.array(z.string()), verbs: z.array(z.string()) }),
);

describe("the role", () => {
  it("covers what the controller asks of the API server, and nothing else", async () => {
    const { rules } = named("Role", "kars-controller");
    const allowed = Rules.parse(rules).flatMap(({ apiGroups, resources, verbs }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource} of "${group}"`)),
      ),
    );
    // A whole life, with an answer that is lost, so that the Job is read.
    const here = await world({ timeoutMs: 300, clock: hasty(20) });
    here.server.wrong("create", "jobs", "lost");
    const { process, until } = await spawned(here);
    here.server.pod(JOB, running);
    await until(/its container runs/);
    here.arrive(String(here.server.get("jobs", JOB)?.metadata.annotations?.["kars-mesh/did"]));
    await here.server.until(() => !here.server.get("secrets", JOB));
    // One that ends with nobody asking: its pods are looked for.
    const other = await spawned(here, { run: "run-2" });
    here.server.condition(other.job, "Failed", "BackoffLimitExceeded", "");
    await other.until(/^exited/);
    process.end(true);
    await until(/^exited/);
    await here.backend.sweep(() => true);
    const asked = here.server.asked.map(({ verb, resource, group }) => `${verb} ${resource} of "${group}"`);
    expect([...new Set(asked)].sort()).toEqual(allowed.sort());
    expect(new Set(here.server.asked.map(({ namespace }) => namespace))).toEqual(new Set([NAMESPACE_DEFAULT]));
  });
});

describe("the example of a controller", () => {
  const { spec } = named("StatefulSet", "kars-controller");
  const { replicas, template } = z
    .looseObject({
      replicas: z.number(),
      template: z.looseObject({
        spec: z.looseObject({
          serviceAccountName: z.string(),
          containers: z.tuple([z.looseObject({ args: z.array(z.string()), image: z.string() })]),
        }),
      }),
    })
    .parse(spec);

  it("is one, under the account that has the role", () => {
    expect(replicas).toBe(1);
    expect(template.spec.serviceAccountName).toBe("kars-controller");
  });

  it("is started with options that there are", async () => {
    const given: Record<string, unknown>[] = [];
    const directory = { flags: "--dir <directory>", otherwise: ".", shown: "." };
    const program = createProgram({ name: "kars-local", description: "", directory });
    addUp(program);
    program.commands[0]?.action((options: Record<string, unknown>) => void given.push(options));
    await program.parseAsync(template.spec.containers[0].args, { from: "user" });
    expect(given).toMatchObject([{ runnerBackend: "kubernetes", kubeNamespace: NAMESPACE_DEFAULT, host: "0.0.0.0" }]);
  });
});

describe("the Dockerfile", () => {
  const text = read("Dockerfile");

  it("runs the entry of a sandbox that the package has, by default, as the user that the Job asks for", () => {
    const stages = text.split(/^FROM /m).slice(1);
    const last = stages.at(-1) ?? "";
    expect(last).toMatch(/^package AS sandbox\n/);
    const [, path = ""] = /@kars\/mesh\/dist\/(cluster\/[\w-]+)\.js"\]\s*$/.exec(last) ?? [];
    expect(existsSync(join(root, "src", `${path}.ts`))).toBe(true);
    const user = jobOf(config(), PLACEMENT).spec?.template.spec?.securityContext;
    expect(last).toContain(`USER ${user?.runAsUser}:${user?.runAsGroup}`);
  });

  it("gives the cluster the clients that the package asks for, in one tree with it", () => {
    const { peerDependencies } = z
      .object({ peerDependencies: z.record(z.string(), z.string()) })
      .parse(JSON.parse(readFileSync(join(root, "package.json"), "utf8")));
    const clients = Object.entries(peerDependencies).filter(([name]) => /kubernetes|nats/.test(name));
    expect(clients).toHaveLength(4);
    const stage = text.split(/^FROM /m).find((each) => /^\S+ AS controller\n/.test(each)) ?? "";
    const [, installed = ""] = /npm install --prefix \/opt\/kars (.*?)&&/s.exec(stage) ?? [];
    for (const [name, range] of clients) expect(installed).toContain(`${name}@${/\d+/.exec(range)?.[0]}`);
    expect(installed).toContain("kars-mesh.tgz");
  });
});

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { type Mesh, openMesh } from "../../src/actors/mesh.ts";
import type { OffloadView } from "../../src/actors/offloads.ts";
import { SANDBOX_MEMORY_MIB } from "../../src/cluster/kubernetes/limits.ts";
import { openCluster } from "../../src/cluster/local.ts";
import { DEFAULT_RULES, JOB_LIMITS } from "../../src/cluster/runner/rules.ts";
import { decodeToken } from "../../src/wire/pair.ts";
import { ApiServer } from "./api-server.ts";
import { Kubelet } from "./kubelet.ts";
import { IMAGE, waiting } from "./world.ts";

// Whole offloads through Kubernetes: a paired laptop, a cluster whose sandboxes are Jobs, a test API server, and a node that
// runs the real entry of the sandbox for each Job.

type Cluster = Awaited<ReturnType<typeof openCluster>>;

let folder: string;
let server: ApiServer;
let kubelet: Kubelet;
let cluster: Cluster;
let laptop: Mesh;
let port: number;

const freePort = () =>
  new Promise<number>((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
const start = () =>
  openCluster({
    // The scripts of these tests look at a folder that is not theirs.
    governance: { rules: { ...DEFAULT_RULES, limits: JOB_LIMITS, node_permission: false } },
    directory: join(folder, "cluster"),
    port,
    // Another name of the same place: what is told to others is this one.
    publicUrl: `http://localhost:${port}`,
    kubernetes: { image: IMAGE },
  });
const left = () => ["jobs", "pods", "secrets", "networkpolicies"].flatMap((resource) => server.all(resource));
const offload = async (task: string, files: Readonly<Record<string, string>>) => {
  const paths = Object.entries(files).map(([name, content]) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  });
  return (await laptop.call("offload", { task, files: paths })).offload_id;
};
const view = async (id: string, until_over: boolean) =>
  (await laptop.call("offload_status", { id, wait_ms: 30_000, until_over })) as OffloadView;
const ended = (id: string) => view(id, true);
const reached = async (id: string, holds: (view: OffloadView) => boolean) => {
  for (;;) {
    const now = await view(id, false);
    if (holds(now)) return now;
    if (now.ended_at !== null) throw new Error(`ended as ${now.status} before it got there: ${now.error}`);
  }
};

/** What the record of the one run says at its end, and what its grant has used, once nothing of it is left. */
const account = async () => {
  await vi.waitFor(
    async () => expect(await cluster.call("sandboxes", {})).toMatchObject({ sandboxes: [{ settled: true }] }),
    { timeout: 30_000 },
  );
  const { entries } = await cluster.call("audit", {});
  const of = (what: string) => entries.filter((entry) => entry.what === what);
  const { tokens_used } = await cluster.call("grant", { name: "laptop" });
  return { begun: of("task.begun"), ended: of("task.ended"), tokens_used };
};

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "kars-kubernetes-offload-"));
  server = new ApiServer();
  await server.open();
  kubelet = new Kubelet(server);
  writeFileSync(join(folder, "kubeconfig"), server.kubeconfig());
  vi.stubEnv("KUBECONFIG", join(folder, "kubeconfig"));
  port = await freePort();
  cluster = await start();
  laptop = await openMesh({ home: join(folder, "laptop") });
  const { token } = await cluster.call("grant_issue", { name: "laptop", expires_ms: 600_000, token_budget: 1000 });
  expect(decodeToken(token).pairUrl).toBe(`http://localhost:${port}/v1/pair`);
  await laptop.call("pair", { token });
});

afterEach(async () => {
  await laptop.close();
  await cluster.close();
  await kubelet.close();
  await server.close();
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

const COUNT = `
import { readFileSync, writeFileSync } from "node:fs";
writeFileSync("out/count.txt", String(readFileSync("data.txt", "utf8").split("x").length - 1));
console.log("counted");
`;
/** Says that it runs, and ends when a file is there. */
const PATIENT = `
import { existsSync, watch, writeFileSync } from "node:fs";
const [place] = process.argv.slice(2);
const look = () => {
  if (!existsSync(place + "/go")) return;
  writeFileSync("out/went.txt", "on");
  process.exit(0);
};
watch(place, look);
console.log("10 % waiting");
look();
`;

it("files go in, a result comes out, and nothing is left in the cluster", async () => {
  const id = await offload("run count.mjs", { "count.mjs": COUNT, "data.txt": "axbxc" });
  const done = await ended(id);
  expect(done).toMatchObject({ status: "done", error: null });
  expect(done.summary).toContain("counted");
  expect(readFileSync(done.files[0]?.path ?? "", "utf8")).toBe("2");
  await server.until(() => left().length === 0);
  expect(kubelet.running).toEqual([]);
  const [secret] = server.asked.filter(({ verb, resource }) => verb === "create" && resource === "secrets");
  expect(JSON.stringify(secret?.body)).toContain(`ws://localhost:${port}`);
  const [job] = server.asked.filter(({ verb, resource }) => verb === "create" && resource === "jobs");
  expect(JSON.stringify(job?.body)).toContain(`"memory":"${(JOB_LIMITS.memory_mib ?? 0) + SANDBOX_MEMORY_MIB}Mi"`);
});

it("what it waits for is told to the laptop meanwhile", async () => {
  kubelet.isFull = true;
  const id = await offload("run count.mjs", { "count.mjs": COUNT, "data.txt": "xx" });
  const { progress } = await reached(id, (now) => now.progress.message?.includes("no node has room") ?? false);
  expect(progress).toMatchObject({ stage: "spawning" });
  expect(progress.message).toContain("0/1 nodes are available: 1 Insufficient memory");
  server.pod(server.all("jobs")[0]?.metadata.name ?? "", waiting("ContainerCreating"), { nodeName: "node-1" });
  const later = await reached(id, (now) => now.progress.stage === "scheduled");
  expect(later.progress.message).toContain("it has a node, which fetches its image");
  kubelet.isFull = false;
  server.look();
  expect(await ended(id)).toMatchObject({ status: "done" });
});

it("a cluster that starts again takes up what runs, and the offload goes on to its end", async () => {
  const id = await offload(`run patient.mjs ${folder}`, { "patient.mjs": PATIENT });
  await reached(id, ({ phase }) => phase === "running");
  const [job] = kubelet.running;
  await cluster.close();
  expect(kubelet.running).toEqual([job]);
  cluster = await start();
  const { sandboxes } = await cluster.call("sandboxes", {});
  expect(sandboxes).toMatchObject([{ phase: "ready", pid: null, failure: null }]);
  writeFileSync(join(folder, "go"), "");
  expect(await ended(id)).toMatchObject({ status: "done" });
  await server.until(() => left().length === 0);
  expect(server.asked.filter(({ verb, resource }) => verb === "create" && resource === "jobs")).toHaveLength(1);
});

it("a sandbox that is killed for its memory is told of as that", async () => {
  const id = await offload(`run patient.mjs ${folder}`, { "patient.mjs": PATIENT });
  await reached(id, ({ phase }) => phase === "running");
  kubelet.outOfMemory(kubelet.running[0] ?? "");
  const over = await ended(id);
  expect(over).toMatchObject({ status: "error" });
  expect(over.error?.message).toContain("more than 1024 MiB of memory");
  await server.until(() => left().length === 0);
});

it("a cancelled offload ends its Job, and the slot is free again", async () => {
  const id = await offload(`run patient.mjs ${folder}`, { "patient.mjs": PATIENT });
  await reached(id, ({ phase }) => phase === "running");
  await laptop.call("offload_cancel", { id });
  expect((await ended(id)).phase).toBe("cancelled");
  await server.until(() => left().length === 0);
  expect(kubelet.running).toEqual([]);
});

it("a run whose Job ended while the cluster was down is over, with its reason", async () => {
  const id = await offload(`run patient.mjs ${folder}`, { "patient.mjs": PATIENT });
  await reached(id, ({ phase }) => phase === "running");
  const [job = ""] = kubelet.running;
  await cluster.close();
  kubelet.outOfMemory(job);
  await server.until(() => kubelet.running.length === 0);
  cluster = await start();
  const over = await ended(id);
  expect(over.error?.message).toContain("more than 1024 MiB of memory");
  await server.until(() => left().length === 0);
});

it("what a task used and how it ended is in the controller's record, as of a sandbox that is a process", async () => {
  const spend = `
    import { writeFileSync } from "node:fs";
    writeFileSync(process.env.KARS_USAGE_FILE, JSON.stringify({ prompt: 20, completion: 5 }));
    process.exit(3);
  `;
  const id = await offload("run spend.mjs", { "spend.mjs": spend });
  expect(await ended(id)).toMatchObject({ status: "error" });
  expect(await account()).toMatchObject({
    begun: [{ files: 1, bytes: spend.length }],
    ended: [{ outcome: "error", exit: 3, tokens: 25 }],
    tokens_used: 25,
  });
});

it("tokens count while a task runs, and those that it uses while the cluster is down count once it is back", async () => {
  const used = (prompt: number, completion: number) =>
    `writeFileSync(process.env.KARS_USAGE_FILE, JSON.stringify({ prompt: ${prompt}, completion: ${completion} }));`;
  const spending = PATIENT.replace('"on");', `"on");${used(900, 200)}`).replace("const look", `${used(500, 100)}$&`);
  const id = await offload(`run patient.mjs ${folder}`, { "patient.mjs": spending });
  const tokens = async () => (await cluster.call("grant", { name: "laptop" })).tokens_used;
  await vi.waitFor(async () => expect(await tokens()).toBe(600), { timeout: 30_000 });
  await cluster.close();
  writeFileSync(join(folder, "go"), "");
  cluster = await start();
  expect(await ended(id)).toMatchObject({ status: "done" });
  expect(await account()).toMatchObject({
    begun: [{ files: 1 }],
    ended: [{ outcome: "done", exit: 0, tokens: 1100 }],
    tokens_used: 1100,
  });
  // The grant's budget is 1000.
  const next = await ended(await offload("run count.mjs", { "count.mjs": COUNT, "data.txt": "x" }));
  expect(next).toMatchObject({ status: "error", error: { code: "budget_exhausted" } });
});

it("a task that is cancelled is in the record with what it had used", async () => {
  const spending = PATIENT.replace("const look", 'writeFileSync(process.env.KARS_USAGE_FILE, `{"prompt":7}`);$&');
  const id = await offload(`run patient.mjs ${folder}`, { "patient.mjs": spending });
  await reached(id, ({ phase }) => phase === "running");
  await reached(id, ({ progress }) => progress.message === "10 % waiting");
  await laptop.call("offload_cancel", { id });
  expect(await account()).toMatchObject({ ended: [{ outcome: "cancelled", tokens: 7 }], tokens_used: 7 });
});

/** Sandboxes that the operator keeps running: they take one task after the other by their name, and stay who they are. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished, vi } from "vitest";
import { type Mesh, openMesh } from "../../src/actors/mesh.ts";
import type { OffloadView } from "../../src/actors/offloads.ts";
import { openCluster } from "../../src/cluster/local.ts";

const PATIENCE = { timeout: 20_000, interval: 20 };
const ENDLESS = `console.log("10 % waiting"); setInterval(() => undefined, 1000);`;
const COPY = `import { readFileSync, writeFileSync } from "node:fs"; writeFileSync("out/copy.txt", readFileSync("data.txt"));`;
const ALONE = `import { readdirSync } from "node:fs"; console.log(readdirSync(".").join(","));`;

type Cluster = Awaited<ReturnType<typeof openCluster>>;
const isView = (answer: object): answer is OffloadView => "offload_id" in answer;

async function place() {
  const folder = mkdtempSync(join(tmpdir(), "kars-mesh-standing-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  const open = async (port = 0) => {
    const opened = await openCluster({ directory: join(folder, "cluster"), port });
    onTestFinished(() => opened.close());
    return opened;
  };
  const cluster = await open();
  const laptopOf = async (name: string, capabilities = ["offload"], of: Cluster = cluster) => {
    const { token } = await of.call("grant_issue", { name, slots: 3, capabilities, expires_ms: 600_000 });
    const mesh = await openMesh({ home: join(folder, name) });
    onTestFinished(() => mesh.close());
    await mesh.call("pair", { token });
    return mesh;
  };
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  return { folder, cluster, open, laptopOf, file };
}

const viewOf = async (mesh: Mesh, id: string, more: object = {}): Promise<OffloadView> => {
  const view = await mesh.call("offload_status", { id, ...more });
  if (!isView(view)) throw new Error("not one offload");
  return view;
};
const ended = (mesh: Mesh, id: string) => viewOf(mesh, id, { wait_ms: 30_000, until_over: true });
const reached = (mesh: Mesh, id: string, holds: (view: OffloadView) => boolean) =>
  vi.waitFor(async () => {
    const view = await viewOf(mesh, id);
    if (!holds(view)) throw new Error(`${view.status} ${view.phase}`);
    return view;
  }, PATIENCE);
const offload = async (mesh: Mesh, task: string, files: string[], target: object = { to: "box" }) =>
  (await mesh.call("offload", { task, files, ...target })).offload_id;
const standing = async (cluster: Cluster) => (await cluster.call("sandboxes", {})).standing[0];

it("takes tasks of several laptops under its name, with one identity, and shows none what another brought", async () => {
  const { cluster, laptopOf, file } = await place();
  const box = await cluster.call("sandbox_start", { name: "box", capabilities: ["gpu"] });
  expect(box).toMatchObject({ name: "box", state: "ready", capabilities: ["gpu"], failure: null });
  const [alice, bob] = [await laptopOf("alice", ["offload", "gpu"]), await laptopOf("bob", ["offload", "gpu"])];
  const { agents } = await alice.call("discover", { capability: "gpu" });
  expect(agents).toMatchObject([{ did: box.did, name: "box", online: true }]);

  const first = await ended(
    alice,
    await offload(alice, "run copy.mjs", [file("copy.mjs", COPY), file("data.txt", "one")]),
  );
  expect(first).toMatchObject({ status: "done", sandbox: "box" });
  expect(readFileSync(first.files[0]?.path ?? "", "utf8")).toBe("one");
  const second = await ended(bob, await offload(bob, "run alone.mjs", [file("alone.mjs", ALONE)]));
  expect(second).toMatchObject({ status: "done", sandbox: "box" });
  expect(second.summary).toContain("alone.mjs,out");
  expect(await standing(cluster)).toMatchObject({ did: box.did, pid: box.pid });
});

it("has those wait who come while it is busy, and goes on with the next when one is cancelled", async () => {
  const { cluster, laptopOf, file } = await place();
  const box = await cluster.call("sandbox_start", { name: "box" });
  const [alice, bob] = [await laptopOf("alice"), await laptopOf("bob")];
  const running = await offload(alice, "run endless.mjs", [file("endless.mjs", ENDLESS)]);
  await reached(alice, running, ({ progress }) => progress.pct === 10);
  const waiting = await offload(bob, "an inventory", []);
  await reached(bob, waiting, ({ phase }) => phase === "queued");
  await alice.call("offload_cancel", { id: running });
  expect(await ended(alice, running)).toMatchObject({ status: "cancelled", confirmed: true });
  expect(await ended(bob, waiting)).toMatchObject({ status: "done", sandbox: "box" });
  expect(await standing(cluster)).toMatchObject({ did: box.did, pid: box.pid, state: "ready" });
});

it("is named to whoever asks for one that is not there, and is for those who were granted what it has", async () => {
  const { cluster, laptopOf } = await place();
  const alice = await laptopOf("alice");
  const nobody = await ended(alice, await offload(alice, "x", []));
  expect(nobody.error).toMatchObject({ code: "sandbox_unknown" });
  expect(nobody.error?.message).toContain("box: none stands there.");
  await cluster.call("sandbox_start", { name: "big", capabilities: ["gpu", "arm"] });
  const another = await ended(alice, await offload(alice, "y", []));
  expect(another.error?.message).toContain("there stand big with gpu with arm.");
  const denied = await ended(alice, await offload(alice, "z", [], { to: "big" }));
  expect(denied.error).toMatchObject({ code: "capability_missing" });
  await expect(cluster.call("sandbox_start", { name: "big" })).rejects.toMatchObject({ code: "sandbox_exists" });
  await expect(cluster.call("sandbox_stop", { name: "box" })).rejects.toMatchObject({ code: "sandbox_unknown" });
});

it("is started again when its process is killed, as who it was; its task fails, and says why", async () => {
  const { cluster, laptopOf, file } = await place();
  const box = await cluster.call("sandbox_start", { name: "box" });
  const alice = await laptopOf("alice");
  const running = await offload(alice, "run endless.mjs", [file("endless.mjs", ENDLESS)]);
  await reached(alice, running, ({ progress }) => progress.pct === 10);
  process.kill(box.pid ?? 0, "SIGKILL");
  const failed = await ended(alice, running);
  expect(failed).toMatchObject({ status: "error", error: { code: "cluster_refused" } });
  expect(failed.error?.message).toContain("the sandbox ended");
  const again = await vi.waitFor(async () => {
    const now = await standing(cluster);
    expect(now).toMatchObject({ state: "ready", did: box.did, failure: null });
    return now;
  }, PATIENCE);
  expect(again?.pid).not.toBe(box.pid);
  expect(await ended(alice, await offload(alice, "an inventory", []))).toMatchObject({ status: "done" });
});

it("stands again, as who it was, when its cluster was closed; and is gone, with all it had, when it is stopped", async () => {
  const { folder, cluster, open, laptopOf } = await place();
  const box = await cluster.call("sandbox_start", { name: "box" });
  const port = Number(new URL(cluster.urls.registry_url).port);
  await cluster.close();
  const again = await open(port);
  await vi.waitFor(async () => expect(await standing(again)).toMatchObject({ state: "ready", did: box.did }), PATIENCE);
  const alice = await laptopOf("alice", ["offload"], again);
  expect(await ended(alice, await offload(alice, "an inventory", []))).toMatchObject({ status: "done" });
  expect(await again.call("sandbox_stop", { name: "box" })).toEqual({ name: "box", stopped: true });
  expect(await standing(again)).toBeUndefined();
  const left = join(folder, "cluster", "sandboxes");
  await vi.waitFor(() => expect(existsSync(left) ? readdirSync(left) : []).toEqual([]), PATIENCE);
  expect((await alice.call("discover", { capability: "sandbox" })).agents).toEqual([]);
  expect((await ended(alice, await offload(alice, "one more", []))).error?.code).toBe("sandbox_unknown");
});

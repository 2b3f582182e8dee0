import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { type Mesh, openMesh } from "../../src/actors/mesh.ts";
import type { OffloadView } from "../../src/actors/offloads.ts";
import { openCluster } from "../../src/cluster/local.ts";

// More errands than there are slots.

const WAIT = { wait_ms: 30_000, until_over: true };
const isView = (answer: object): answer is OffloadView => "offload_id" in answer;

async function place(slots: number) {
  const folder = mkdtempSync(join(tmpdir(), "kars-mesh-queue-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  const cluster = await openCluster({ directory: join(folder, "cluster"), port: 0 });
  onTestFinished(() => cluster.close());
  const grant = { name: "laptop", slots, capabilities: ["offload"], expires_ms: 600_000 };
  const { token } = await cluster.call("grant_issue", grant);
  const open = async () => {
    const mesh = await openMesh({ home: join(folder, "laptop") });
    onTestFinished(() => mesh.close());
    return mesh;
  };
  const laptop = await open();
  await laptop.call("pair", { token });
  const script = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  return { cluster, laptop, open, script };
}

const viewOf = async (mesh: Mesh, id: string, more: object = {}): Promise<OffloadView> => {
  const view = await mesh.call("offload_status", { id, ...more });
  if (!isView(view)) throw new Error("not one offload");
  return view;
};

it("takes more than there are slots, and runs them in their order, never more at once than slots", async () => {
  const { cluster, laptop, script } = await place(2);
  let most = 0;
  const stop = new AbortController();
  const look = async () => {
    const { slots_used } = await cluster.call("grant", { name: "laptop" });
    most = Math.max(most, slots_used);
  };
  const watching = cluster
    .call("watch", {}, { signal: stop.signal, onProgress: () => look().catch(() => undefined) })
    .catch(() => undefined);
  const files = [script("quick.mjs", `console.log("done");`)];
  const ids: string[] = [];
  for (let count = 0; count < 6; count++)
    ids.push((await laptop.call("offload", { task: `run quick.mjs ${count}`, files })).offload_id);
  const views = await Promise.all(ids.map((id) => viewOf(laptop, id, WAIT)));
  stop.abort();
  await watching;
  expect(views.map(({ status }) => status)).toEqual(Array.from({ length: 6 }, () => "done"));
  expect(most).toBe(2);
});

it("shows each its place, lets one leave, and goes on after a restart", async () => {
  const { laptop, open, script } = await place(1);
  const endless = [script("endless.mjs", `console.log("10 % waiting"); setInterval(() => undefined, 1000);`)];
  const quick = [script("quick.mjs", `console.log("done");`)];
  const begin = async (task: string, files: string[]) => (await laptop.call("offload", { task, files })).offload_id;
  const running = await begin("run endless.mjs", endless);
  const [second, third, fourth] = [
    await begin("run quick.mjs 2", quick),
    await begin("run quick.mjs 3", quick),
    await begin("run quick.mjs 4", quick),
  ];
  expect(await viewOf(laptop, second)).toMatchObject({ status: "pending", phase: "queued", position: 1 });
  expect(await viewOf(laptop, fourth)).toMatchObject({ phase: "queued", position: 3 });
  expect(await laptop.call("offload_cancel", { id: third })).toMatchObject({ status: "cancelled", position: null });
  expect(await viewOf(laptop, fourth)).toMatchObject({ phase: "queued", position: 2 });
  await laptop.close();

  const again = await open();
  expect(await viewOf(again, second)).toMatchObject({ phase: "queued", position: 1 });
  await again.call("offload_cancel", { id: running });
  for (const id of [second, fourth]) expect(await viewOf(again, id, WAIT)).toMatchObject({ status: "done" });
});

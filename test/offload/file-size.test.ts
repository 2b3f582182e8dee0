import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { openMesh } from "../../src/actors/mesh.ts";
import type { OffloadView } from "../../src/actors/offloads.ts";
import { openCluster } from "../../src/cluster/local.ts";
import { DEFAULT_RULES } from "../../src/cluster/runner/rules.ts";
import { FILE_CHUNK_SIZE, FILE_CHUNKS_MAX, FILE_SIZE_ALLOWED_MAX, FILE_SIZE_MAX } from "../../src/limits.ts";

// How large a file may be: what the laptop allows and what the cluster allows, each way.

const MB = 1_000_000;
/** Makes a file of as many megabytes as its first word says. */
const FILL = `
import { writeFileSync } from "node:fs";
writeFileSync("out/made.bin", Buffer.alloc(Number(process.argv[2]) * 1e6, 7));
`;

/** A laptop and a cluster that allow files of so many megabytes. */
async function world(megabytes: { readonly laptop?: number; readonly cluster?: number }) {
  const folder = mkdtempSync(join(tmpdir(), "kars-mesh-file-size-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  const rules = { ...DEFAULT_RULES, ...(megabytes.cluster && { max_file_mb: megabytes.cluster }) };
  const cluster = await openCluster({ directory: join(folder, "cluster"), port: 0, governance: { rules } });
  onTestFinished(() => cluster.close());
  const laptop = await openMesh({
    home: join(folder, "laptop"),
    fileSizeMax: megabytes.laptop && megabytes.laptop * MB,
  });
  onTestFinished(() => laptop.close());
  const { token } = await cluster.call("grant_issue", { name: "laptop", expires_ms: 600_000 });
  await laptop.call("pair", { token });
  const offload = async (task: string, sizes: Readonly<Record<string, number>> = {}) => {
    writeFileSync(join(folder, "fill.mjs"), FILL);
    for (const [name, size] of Object.entries(sizes)) writeFileSync(join(folder, name), Buffer.alloc(size, 5));
    const files = ["fill.mjs", ...Object.keys(sizes)].map((name) => join(folder, name));
    const { offload_id: id } = await laptop.call("offload", { task, files });
    return (await laptop.call("offload_status", { id, wait_ms: 60_000, until_over: true })) as OffloadView;
  };
  const sandboxes = async () => (await cluster.call("sandboxes", {})).sandboxes.length;
  return { offload, sandboxes };
}

it("a larger file than the laptop allows is refused before anything is asked for, with size, limit and the way to raise it", async () => {
  const { offload, sandboxes } = await world({ laptop: 1, cluster: 2 });
  await expect(offload("run fill.mjs 0", { "big.bin": MB + 1 })).rejects.toMatchObject({
    code: "file_too_large",
    message: expect.stringMatching(
      /big\.bin has 1000001 bytes, and at most 1000000 are allowed\. Raise it with .*--max-file/,
    ),
  });
  expect(await sandboxes()).toBe(0);
});

it("a larger file than the cluster allows is refused by its controller, before a sandbox is started", async () => {
  const { offload, sandboxes } = await world({ cluster: 1 });
  const { status, error } = await offload("run fill.mjs 0", { "big.bin": MB + 1 });
  expect({ status, code: error?.code }).toEqual({ status: "error", code: "file_too_large" });
  expect(error?.message).toMatch(/1000001 bytes, and this cluster allows at most 1000000\. .*--max-file/);
  expect(await sandboxes()).toBe(0);
});

it("a larger result than the laptop allows is not taken, and ends the offload with the reason", async () => {
  const { offload } = await world({ laptop: 1 });
  const { status, error, files } = await offload("run fill.mjs 2");
  expect({ status, code: error?.code, files }).toEqual({ status: "error", code: "file_too_large", files: [] });
  expect(error?.message).toMatch(/made\.bin has 2000000 bytes, and at most 1000000 are allowed/);
});

it("a larger result than the cluster allows is not sent, and ends the offload with the reason", async () => {
  const { offload } = await world({ cluster: 1 });
  const { status, error, files } = await offload("run fill.mjs 2");
  expect({ status, code: error?.code, files }).toEqual({ status: "error", code: "file_too_large", files: [] });
  expect(error?.message).toMatch(/made\.bin has 2000000 bytes, and at most 1000000 are allowed\. The operator/);
});

it("where both allow it, a file above the default goes and comes back whole", async () => {
  const { offload } = await world({ laptop: 40, cluster: 40 });
  const { status, error, files } = await offload("run fill.mjs 33", { "big.bin": 32 * MB });
  expect({ status, error }).toEqual({ status: "done", error: null });
  expect(files.map(({ path }) => statSync(path ?? "").size)).toEqual([33 * MB]);
}, 120_000);

it("the most that may be allowed is what the pieces of one file hold", () => {
  expect(FILE_SIZE_ALLOWED_MAX).toBeGreaterThan(FILE_SIZE_MAX);
  expect(FILE_CHUNKS_MAX * FILE_CHUNK_SIZE).toBeGreaterThanOrEqual(FILE_SIZE_ALLOWED_MAX);
});

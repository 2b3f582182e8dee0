import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type Mesh, openMesh } from "../../src/actors/mesh.ts";
import type { OffloadView } from "../../src/actors/offloads.ts";
import { openCluster } from "../../src/cluster/local.ts";

// Errands from a paired laptop to real sandboxes: processes of their own, over the encrypted mesh.

type Cluster = Awaited<ReturnType<typeof openCluster>>;

let folder: string;
let cluster: Cluster;
let laptop: Mesh;

const begin = async (runner?: string) => {
  folder = mkdtempSync(join(tmpdir(), "kars-mesh-offload-"));
  cluster = await openCluster({ directory: join(folder, "cluster"), port: 0, runner });
  laptop = await openMesh({ home: join(folder, "laptop") });
};

const pair = async (options: { slots?: number; capabilities?: string[]; token_budget?: number } = {}) => {
  const { token } = await cluster.call("grant_issue", {
    name: "laptop",
    slots: options.slots ?? 2,
    capabilities: options.capabilities ?? ["offload"],
    expires_ms: 600_000,
    token_budget: options.token_budget ?? null,
  });
  await laptop.call("pair", { token });
};

const file = (name: string, content: string | Buffer) => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};

const asView = (answer: unknown): OffloadView => answer as OffloadView;
const offload = async (task: string, files: string[] = [], target: { to?: string; capability?: string } = {}) =>
  (await laptop.call("offload", { task, files, ...target })).offload_id;
const ended = async (id: string) =>
  asView(await laptop.call("offload_status", { id, wait_ms: 30_000, until_over: true }));
/** Follows an offload until it shows what is waited for. */
const reached = async (id: string, holds: (view: OffloadView) => boolean) => {
  for (;;) {
    const view = asView(await laptop.call("offload_status", { id, wait_ms: 30_000 }));
    if (holds(view)) return view;
    if (view.ended_at !== null) throw new Error(`ended as ${view.status} before it got there`);
  }
};
/** Resolves when the cluster is done with all its sandboxes. */
const quiet = async () => {
  const stop = new AbortController();
  await new Promise<void>((resolve, reject) => {
    const look = async () => {
      const { sandboxes } = await cluster.call("sandboxes", {});
      if (sandboxes.every(({ settled }) => settled)) resolve();
    };
    cluster.call("watch", {}, { signal: stop.signal, onProgress: () => look().catch(reject) }).catch(reject);
  });
  stop.abort();
};

afterEach(async () => {
  await laptop.close();
  await cluster.close();
  rmSync(folder, { recursive: true, force: true });
});

const isLinux = process.platform === "linux";
/** A process and all below it. */
function processesOf(root: number): number[] {
  if (!isLinux) return [root];
  const parents = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      const stat = existsSync(`/proc/${pid}/stat`) ? readFileSync(`/proc/${pid}/stat`, "utf8") : "";
      return { pid: Number(pid), parent: Number(stat.slice(stat.lastIndexOf(")")).split(" ")[2]) };
    });
  const below = (pid: number): number[] => [
    pid,
    ...parents.filter(({ parent }) => parent === pid).flatMap((each) => below(each.pid)),
  ];
  return below(root);
}

const COUNT = `
import { readFileSync, writeFileSync } from "node:fs";
const text = readFileSync("data.txt", "utf8");
console.log("50 % counting");
writeFileSync("out/count.txt", String(text.split("x").length - 1));
console.log("counted " + process.argv.slice(2).join("+"));
`;
/** Says that it runs, and then waits for something that never comes. */
const ENDLESS = `console.log("10 % waiting"); setInterval(() => undefined, 1000);`;

describe("an offload to the built-in runner", () => {
  beforeEach(() => begin());

  it("runs a script that was sent along, with arguments, and brings its files and last words back", async () => {
    await pair();
    const files = [file("count.mjs", COUNT), file("data.txt", "axbxc")];
    const view = await ended(await offload(`run count.mjs one "two three"`, files));
    expect(view).toMatchObject({ status: "done", phase: "done", error: null, task: `run count.mjs one "two three"` });
    expect(view.summary).toContain("counted one+two three");
    expect(view.files.map(({ name, size }) => ({ name, size }))).toEqual([{ name: "count.txt", size: 1 }]);
    expect(readFileSync(view.files[0]?.path ?? "", "utf8")).toBe("2");
  });

  it("gives a result that depends on the files", async () => {
    await pair({ slots: 3 });
    const results = [];
    for (const data of ["xx", "xxxxx"]) {
      const view = await ended(await offload("run count.mjs", [file("count.mjs", COUNT), file("data.txt", data)]));
      results.push(readFileSync(view.files[0]?.path ?? "", "utf8"));
    }
    expect(results).toEqual(["2", "5"]);
  });

  it("carries files of several megabytes both ways, whole", async () => {
    await pair();
    const bytes = randomBytes(5_000_000);
    const script = `import { copyFileSync } from "node:fs"; copyFileSync("big.bin", "out/back.bin");`;
    const view = await ended(await offload("run copy.mjs", [file("copy.mjs", script), file("big.bin", bytes)]));
    expect(view.files[0]?.sha256).toBe(createHash("sha256").update(bytes).digest("hex"));
    expect(readFileSync(view.files[0]?.path ?? "").equals(bytes)).toBe(true);
  });

  it("answers a task that nobody can read with an inventory that says so", async () => {
    await pair();
    const content = "one\ntwo\nthree\n";
    const view = await ended(await offload("Summarise these notes, please.", [file("notes.txt", content)]));
    expect(view.summary).toContain("No agent runner is configured");
    const report = readFileSync(view.files[0]?.path ?? "", "utf8");
    expect(report).toContain(`| notes.txt | 14 | 3 | \`${createHash("sha256").update(content).digest("hex")}\` |`);
  });

  it("tells how a script failed, with its last words", async () => {
    await pair();
    const view = await ended(
      await offload("run bad.mjs", [file("bad.mjs", `console.error("no such luck"); process.exit(3);`)]),
    );
    expect(view).toMatchObject({ status: "error", files: [], error: { code: "cluster_refused" } });
    expect(view.error?.message).toContain("exited with 3");
    expect(view.error?.message).toContain("no such luck");
    expect(view.exit).toBe(3);
    expect(readFileSync(view.log?.path ?? "", "utf8")).toBe("no such luck\n");
  });

  it("keeps all that a script printed, beside what it left under the same name", async () => {
    await pair();
    const script = `import { writeFileSync } from "node:fs"; console.log("one"); console.error("two"); writeFileSync("out/log.txt", "mine");`;
    const view = await ended(await offload("run print.mjs", [file("print.mjs", script)]));
    expect(view).toMatchObject({ status: "done", exit: 0, files: [{ size: 4 }] });
    expect(
      readFileSync(view.log?.path ?? "", "utf8")
        .split("\n")
        .sort(),
    ).toEqual(["", "one", "two"]);
    expect(readFileSync(view.files[0]?.path ?? "", "utf8")).toBe("mine");
  });

  it("shows progress while the script runs", async () => {
    await pair();
    const id = await offload("run endless.mjs", [file("endless.mjs", ENDLESS)]);
    const view = await reached(id, ({ progress }) => progress.pct === 10);
    expect(view).toMatchObject({ status: "running", phase: "running", progress: { message: "10 % waiting" } });
  });

  it("is cancelled on request: the sandbox's processes end and the slot is free again", async () => {
    await pair({ slots: 1 });
    const id = await offload("run endless.mjs", [file("endless.mjs", ENDLESS)]);
    await reached(id, ({ progress }) => progress.pct === 10);
    const { sandboxes } = await cluster.call("sandboxes", {});
    const processes = processesOf(sandboxes[0]?.pid ?? 0);
    expect(processes.length).toBeGreaterThan(isLinux ? 1 : 0);
    expect(asView(await laptop.call("offload_cancel", { id })).phase).toBe("cancelling");
    expect((await ended(id)).status).toBe("cancelled");
    await quiet();
    for (const pid of processes) expect(() => process.kill(pid, 0)).toThrow();
    expect((await cluster.call("grant", { name: "laptop" })).slots_used).toBe(0);
    await expect(laptop.call("offload_cancel", { id })).rejects.toMatchObject({ code: "offload_over" });
  });

  it("ends honestly when its sandbox is killed", async () => {
    await pair();
    const id = await offload("run endless.mjs", [file("endless.mjs", ENDLESS)]);
    await reached(id, ({ progress }) => progress.pct === 10);
    const { sandboxes } = await cluster.call("sandboxes", {});
    process.kill(sandboxes[0]?.pid ?? 0, "SIGKILL");
    const view = await ended(id);
    expect(view).toMatchObject({ status: "error", error: { code: "cluster_refused" } });
    expect(view.error?.message).toContain("the sandbox ended");
    await quiet();
    const { agents } = await laptop.call("discover", {});
    expect(agents.map(({ name }) => name)).toEqual(["local-controller"]);
  });

  it("is refused with its reason when the grant does not allow it", async () => {
    await pair({ slots: 1, capabilities: ["offload", "cpu"] });
    expect((await ended(await offload("x", [], { capability: "gpu" }))).error?.code).toBe("capability_missing");
    const running = await offload("run endless.mjs", [file("endless.mjs", ENDLESS)], {
      capability: "cpu",
    });
    expect((await reached(running, ({ progress }) => progress.pct === 10)).sandbox).toMatch(/^sandbox-/);
    await cluster.call("grant_revoke", { name: "laptop" });
    // What runs by a grant ends with it.
    expect((await ended(running)).error).toMatchObject({ code: "token_revoked" });
    expect((await ended(await offload("x"))).error?.code).toBe("token_revoked");
  });

  it("refuses files that cannot be sent before anything leaves", async () => {
    await pair();
    await expect(laptop.call("offload", { task: "x", files: [join(folder, "missing")] })).rejects.toMatchObject({
      code: "file_unreadable",
    });
    await expect(laptop.call("offload", { task: "x", files: [folder] })).rejects.toMatchObject({
      code: "file_unreadable",
    });
    const large = file("large.bin", Buffer.alloc(30_000_001));
    await expect(laptop.call("offload", { task: "x", files: [large] })).rejects.toMatchObject({
      code: "file_too_large",
    });
    expect(await laptop.call("offload_status", {})).toEqual({ offloads: [] });
  });

  it("leaves nothing of a sandbox behind", async () => {
    await pair();
    await ended(await offload("anything"));
    await quiet();
    await vi.waitFor(() => expect(readdirSync(join(folder, "cluster", "sandboxes"))).toEqual([]), 20_000);
    const { agents } = await laptop.call("discover", { capability: "sandbox" });
    expect(agents).toEqual([]);
  });
});

describe("an offload to a runner of the operator's", () => {
  it("gives the task on standard input and the files in the working directory", async () => {
    await begin(`cat > out/task.txt; wc -c < data.txt; echo done`);
    await pair();
    const view = await ended(await offload("Translate this.", [file("data.txt", "12345")]));
    expect(view.status).toBe("done");
    expect(readFileSync(view.files[0]?.path ?? "", "utf8")).toBe("Translate this.");
    expect(view.summary?.split("\n").map((each) => each.trim())).toEqual(["5", "done"]);
  });
});

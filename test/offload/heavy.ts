/**
 * Ten offloads at once, 30 MB there and 30 MB back each, while every connection to the cluster is cut every few seconds: all end,
 * every byte is right, and no process takes more than 300 MB. `npm run test:heavy -- [offloads] [bytes]`, after a build.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomFillSync } from "node:crypto";
import { createReadStream, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { z } from "zod";
import { type Mesh, openMesh } from "../../src/actors/mesh.ts";
import { brittleWay } from "./brittle-way.ts";

const OFFLOADS = Number(process.argv[2] ?? 10);
const SIZE = Number(process.argv[3] ?? 30_000_000);
const MEMORY_MAX_MB = 300;
const CUT_EVERY_MS = 3_000;
const LOOK_EVERY_MS = 200;
const PATIENCE_MS = 600_000;

const folder = mkdtempSync(join(tmpdir(), "kars-heavy-"));
const programOf = (name: string) => join(import.meta.dirname, `../../dist/cli/${name}.js`);

/** What a process had resident at the most so far, in MB; undefined when it is gone, or on a system that does not tell. */
function peakOf(pid: number): number | undefined {
  try {
    const [, kB] = /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
    return kB === undefined ? undefined : (Number(kB) * 1024) / 1e6;
  } catch {
    return undefined;
  }
}

/** The sandboxes of a cluster: its children that run our own code. */
function sandboxesOf(pid: number): number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
    return children.filter((child) => readFileSync(`/proc/${child}/cmdline`, "utf8").includes("sandbox-main"));
  } catch {
    return [];
  }
}

/** The most that each of our processes takes, looked at until it is called off. */
class Memory {
  readonly #peaks = new Map<string, Map<number, number>>();
  readonly #looking: NodeJS.Timeout;

  constructor(laptop: number, cluster: number) {
    const look = () => {
      this.#note("laptop", laptop);
      this.#note("cluster", cluster);
      for (const sandbox of sandboxesOf(cluster)) this.#note("sandbox", sandbox);
    };
    this.#looking = setInterval(look, LOOK_EVERY_MS);
  }

  #note(kind: string, pid: number): void {
    const peaks = this.#peaks.get(kind) ?? new Map<number, number>();
    const peak = peakOf(pid);
    if (peak !== undefined) this.#peaks.set(kind, peaks.set(pid, peak));
  }

  /** Ends looking. Gives the peaks of each kind of process, the highest first. */
  end(): Map<string, number[]> {
    clearInterval(this.#looking);
    return new Map([...this.#peaks].map(([kind, peaks]) => [kind, [...peaks.values()].sort((a, b) => b - a)]));
  }
}

async function hashOf(path: string): Promise<string> {
  const digest = createHash("sha256");
  for await (const chunk of createReadStream(path)) digest.update(chunk);
  return digest.digest("hex");
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** Starts one of our programs; resolves when it has said that it is up. */
async function start(name: string, ...words: string[]): Promise<ChildProcess & { readonly pid: number }> {
  const child = spawn(process.execPath, [programOf(name), ...words, "--json"], { stdio: ["ignore", "pipe", "ignore"] });
  const { pid } = child;
  const up = await new Promise((resolve) => {
    createInterface(child.stdout).once("line", () => resolve(true));
    child.once("close", () => resolve(false));
  });
  if (!up || pid === undefined) throw new Error(`${name} does not start: is there a build?`);
  return Object.assign(child, { pid });
}

async function end(child: ChildProcess | undefined): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await ended;
}

/** A token for one laptop, from the operator's command line. */
async function tokenOf(cluster: string): Promise<string> {
  const words = ["pair", "generate", "--name", "laptop", "--slots", String(OFFLOADS), "--dir", cluster, "--json"];
  const child = spawn(process.execPath, [programOf("kars-local"), ...words], { stdio: ["ignore", "pipe", "ignore"] });
  const text = (await Array.fromAsync(child.stdout.setEncoding("utf8"))).join("");
  return z.object({ token: z.string() }).parse(JSON.parse(text)).token;
}

/** What became of one offload; undefined when all is right. */
async function copied(laptop: Mesh, script: string, index: number): Promise<string | undefined> {
  const data = join(folder, `${index}`, "data.bin");
  mkdirSync(join(folder, `${index}`));
  writeFileSync(data, randomFillSync(Buffer.allocUnsafe(SIZE)));
  const { offload_id: id } = await laptop.call("offload", { task: "run copy.mjs", files: [script, data] });
  const view = await laptop.call("offload_status", { id, wait_ms: PATIENCE_MS, until_over: true });
  if (!("offload_id" in view)) return "it is not known";
  if (view.status !== "done") return `it is ${view.status}: ${view.error?.message ?? "nothing is said"}`;
  const [file, ...others] = view.files;
  if (!file || others.length > 0) return `${view.files.length} files came back`;
  return (await hashOf(file.path)) === (await hashOf(data)) ? undefined : "what came back is not what was sent";
}

const mb = (value: number) => `${Math.round(value)} MB`;

async function main(): Promise<void> {
  const way = await brittleWay();
  const [cluster, home] = [join(folder, "cluster"), join(folder, "laptop")];
  const port = await freePort();
  way.leadTo(port);
  let [cuts, ended] = [0, 0];
  const processes: ChildProcess[] = [];
  let memory: Memory | undefined;
  let laptop: Mesh | undefined;
  const cutting = setInterval(() => {
    cuts++;
    ended += way.cut();
  }, CUT_EVERY_MS);
  try {
    const publicUrl = `http://127.0.0.1:${way.port}`;
    const words = ["up", "--dir", cluster, "--port", String(port), "--public-url", publicUrl];
    const local = await start("kars-local", ...words);
    processes.unshift(local);
    const owner = await start("kars-mesh", "run", "--home", home);
    processes.unshift(owner);
    const mesh = await openMesh({ home });
    laptop = mesh;
    await mesh.call("pair", { token: await tokenOf(cluster) });
    const script = join(folder, "copy.mjs");
    writeFileSync(script, `import { copyFileSync } from "node:fs"; copyFileSync("data.bin", "out/back.bin");`);
    memory = new Memory(owner.pid, local.pid);
    const begun = performance.now();
    const problems = await Promise.all(
      Array.from({ length: OFFLOADS }, (_, index) =>
        copied(mesh, script, index).catch((error: unknown) => String(error)),
      ),
    );
    const seconds = Math.round((performance.now() - begun) / 1000);
    await pause(LOOK_EVERY_MS);
    const wrong = problems.flatMap((problem, index) => (problem === undefined ? [] : [`offload ${index}: ${problem}`]));
    const peaks = memory.end();
    for (const [kind, [most = 0]] of peaks)
      if (most > MEMORY_MAX_MB) wrong.push(`the ${kind} took ${mb(most)}, more than ${mb(MEMORY_MAX_MB)}`);
    if (peaks.size === 0) console.log("This system does not tell what a process takes: memory was not looked at.");
    const rows = [
      ["offloads", `${OFFLOADS}, ${SIZE} bytes there and back each, in ${seconds} s`],
      ["cuts", `${cuts}, which ended ${ended} connections`],
      ["right", `${problems.filter((problem) => problem === undefined).length} of ${OFFLOADS}`],
      ...[...peaks].map(([kind, all]) => [
        kind,
        `${all.length > 1 ? `${all.length}, at most ` : ""}${mb(all[0] ?? 0)}`,
      ]),
    ];
    for (const [name = "", text] of rows) console.log(`${name.padEnd(10)}${text}`);
    for (const problem of wrong) console.log(`WRONG     ${problem}`);
    if (wrong.length > 0) process.exitCode = 1;
  } finally {
    memory?.end();
    clearInterval(cutting);
    await laptop?.close();
    for (const child of processes) await end(child);
    way.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

await main();

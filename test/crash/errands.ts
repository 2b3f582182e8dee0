/**
 * Offloads whose processes are killed, all of them real: the laptop is `kars-mesh run`, the cluster `kars-local up` with a process
 * for each sandbox. Where relay or controller alone is to die, the cluster is two processes instead: relay and registry are one,
 * as they are the part that everybody reaches, and the controller with its sandboxes is the other.
 */

import { spawnSync } from "node:child_process";
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { constants, existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { mkdir, open, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PART } from "../../src/actors/files.ts";
import type { OffloadView } from "../../src/actors/offloads.ts";
import { MeshError } from "../../src/errors.ts";
import { checkReplay } from "../../src/inspect/replay.ts";
import { Cluster, freePort, Laptop, type Layout } from "./cluster.ts";
import { numbersFrom } from "./loop.ts";

/** Where an offload is hit. `cancelling`: it runs, and was cancelled just before. */
export const PHASES = [
  "requested",
  "accepted",
  "spawning",
  "ready",
  "uploading",
  "running",
  "returning",
  "cancelling",
] as const;
export type Phase = (typeof PHASES)[number];

/** Who is killed; `cluster` is relay and controller at once. `nobody`: it is cancelled instead. */
export const VICTIMS = ["laptop", "relay", "controller", "cluster", "sandbox", "nobody"] as const;
export type Victim = (typeof VICTIMS)[number];

export const layoutFor = (victim: Victim): Layout =>
  victim === "relay" || victim === "controller" ? "apart" : "together";

/** What came of one offload. */
export interface Row {
  readonly phase: Phase;
  readonly victim: Victim;
  /** The phases that the laptop was seen in when it happened, and until the end. */
  readonly before: readonly string[];
  readonly view: OffloadView;
  readonly seconds: number;
}

/** Enough that it takes several pulls, both ways. */
const DATA_SIZE = 2_000_000;
/** What a row may take before it counts as stuck: far below what the product waits for when it hears nothing. */
const ROW_MAX_MS = 60_000;
const POLL_EVERY_MS = 20;
const DAY_MS = 86_400_000;

/** Notes that it runs, waits until it is let on, and gives back what it got. */
const SCRIPT = `echo begun >> "$2"
head -c 1 "$1" > /dev/null
mkdir -p out
cp data.bin out/back.bin
echo copied
`;

function must(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what);
}

async function until(what: () => string | undefined | Promise<string | undefined>): Promise<void> {
  const deadline = performance.now() + ROW_MAX_MS / 2;
  for (;;) {
    const missing = await what();
    if (missing === undefined) return;
    must(performance.now() < deadline, missing);
    await new Promise((resolve) => setTimeout(resolve, POLL_EVERY_MS));
  }
}

const hashOf = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** Processes that stand in a folder or name it in their environment. */
const processesAt = (folder: string): string[] =>
  readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return (
        readlinkSync(`/proc/${pid}/cwd`).startsWith(folder) ||
        readFileSync(`/proc/${pid}/environ`, "utf8").includes(folder)
      );
    } catch {
      // It has ended, or is not ours.
      return false;
    }
  });

export class Errands {
  readonly #directory: string;
  readonly #layout: Layout;
  readonly #seed: number;
  readonly #number: () => number;
  readonly #cluster: Cluster;
  readonly #laptop: Laptop;
  #rows = 0;

  private constructor(directory: string, seed: number, layout: Layout, port: number) {
    this.#directory = directory;
    this.#layout = layout;
    this.#seed = seed;
    this.#number = numbersFrom(seed);
    this.#cluster = new Cluster(layout, join(directory, "cluster"), port);
    this.#laptop = new Laptop(join(directory, "laptop"));
  }

  /** Starts a cluster and a laptop with one slot in it. */
  static async open(directory: string, seed: number, layout: Layout): Promise<Errands> {
    await mkdir(directory, { recursive: true });
    const errands = new Errands(directory, seed, layout, await freePort());
    try {
      await errands.#cluster.start();
      const operator = await errands.#cluster.operator();
      const grant = { name: "laptop", slots: 1, capabilities: ["offload"], expires_ms: DAY_MS };
      const { token } = await operator.call("grant_issue", grant);
      await errands.#laptop.start();
      await errands.#laptop.mesh.call("pair", { token });
    } catch (error) {
      await errands.end();
      throw error;
    }
    return errands;
  }

  /** One offload that is hit in a phase. @throws when anything does not hold */
  async row(phase: Phase, victim: Victim): Promise<Row> {
    const stuck = Promise.withResolvers<never>();
    const timer = setTimeout(() => stuck.reject(new Error("nothing goes on")), ROW_MAX_MS);
    try {
      return await Promise.race([this.#play(phase, victim), stuck.promise]);
    } catch (cause) {
      throw new Error(`seed ${this.#seed}, ${phase}, ${victim}: ${cause instanceof Error ? cause.message : cause}`, {
        cause,
      });
    } finally {
      clearTimeout(timer);
    }
  }

  async #play(phase: Phase, victim: Victim): Promise<Row> {
    const begun = performance.now();
    const folder = join(this.#directory, `row-${++this.#rows}`);
    await mkdir(folder);
    const [script, data, ran, gate] = ["task.sh", "data.bin", "ran", "gate"].map((name) => join(folder, name)) as [
      string,
      string,
      string,
      string,
    ];
    const bytes = randomBytes(DATA_SIZE);
    await Promise.all([writeFile(script, SCRIPT), writeFile(data, bytes)]);
    must(spawnSync("mkfifo", [gate]).status === 0, "mkfifo is missing");
    // Read and write, so that it opens whether or not the task reads.
    const barrier = await open(gate, constants.O_RDWR);
    const id = randomUUID();
    const laptop = this.#laptop;
    try {
      const openGate = () => barrier.write("x");
      const request = { id, task: `run task.sh ${gate} ${ran}`, files: [script, data] };
      const asked = laptop.mesh.call("offload", request).catch((error: unknown) => {
        if (error instanceof MeshError && error.code === "closed") return undefined;
        throw error;
      });
      // Only there the request itself may be hit; what is to be cancelled must be known.
      if (phase !== "requested" || victim === "nobody") await asked;
      const isBegun = () => (existsSync(ran) ? undefined : "the task never began");
      if (phase === "running" || phase === "returning" || phase === "cancelling") await until(isBegun);
      if (phase === "returning") await openGate();
      if (phase === "cancelling") await laptop.mesh.call("offload_cancel", { id });
      else if (phase !== "requested") await laptop.reached(id, phase);
      await this.#moment(phase === "uploading" || phase === "returning" ? 60 : 10);
      const before = [...(laptop.seen.get(id) ?? [])];
      if (phase !== "returning" && this.#number() < 0.5) await openGate();
      await this.#hit(victim, id);
      // Who had no answer asks again for the same.
      if ((await asked) === undefined) await laptop.mesh.call("offload", request);
      if (phase !== "returning") await openGate();
      const view = await laptop.mesh.call("offload_status", { id, wait_ms: ROW_MAX_MS, until_over: true });
      must("offload_id" in view, "the offload is unknown");
      await this.#judge(phase, victim, view, { ran, sha256: hashOf(bytes) });
      await this.#checkRest(id);
      await this.#checkNext(folder);
      return { phase, victim, before, view, seconds: (performance.now() - begun) / 1000 };
    } finally {
      await barrier.close();
    }
  }

  /** Kills and starts again, or cancels. */
  async #hit(victim: Victim, id: string): Promise<void> {
    const [laptop, cluster] = [this.#laptop, this.#cluster];
    switch (victim) {
      case "laptop":
        await laptop.kill();
        return laptop.start();
      case "relay":
        await cluster.relay.end();
        return cluster.relay.start();
      case "controller":
      case "cluster":
        await cluster.controller.end();
        return cluster.controller.start();
      case "sandbox":
        for (const pid of cluster.sandboxes) process.kill(pid, "SIGKILL");
        return;
      case "nobody":
        // Asking again changes nothing.
        for (let times = 0; times < 2; times++) {
          await laptop.mesh.call("offload_cancel", { id }).catch((error: unknown) => {
            must(error instanceof MeshError && error.code === "offload_over", `${error}`);
          });
        }
    }
  }

  /** What may come of it. */
  async #judge(
    phase: Phase,
    victim: Victim,
    { status, error, files, confirmed }: OffloadView,
    { ran, sha256 }: { readonly ran: string; readonly sha256: string },
  ): Promise<void> {
    const times = existsSync(ran) ? (await readFile(ran, "utf8")).split("\n").length - 1 : 0;
    must(times <= 1, `the task ran ${times} times`);
    const said = `${status}${error === null ? "" : ` (${error.code}: ${error.message})`}`;
    const allowed = endsOf(phase, victim);
    must(allowed.includes(status), `it ended as ${said}, not as ${allowed.join(" or ")}`);
    if (status === "done") {
      must(times === 1, "it is done, and the task did not run");
      const [file, ...others] = files;
      must(file?.name === "back.bin" && others.length === 0, `its files are ${files.map(({ name }) => name)}`);
      must(file.sha256 === sha256 && hashOf(await readFile(file.path)) === sha256, "its file is another");
    }
    if (status === "error")
      must(error !== null && error.code !== "internal" && error.message !== "", `it says ${said}`);
    if (status === "cancelled") must(confirmed === true, "the cancellation was not confirmed");
  }

  /** Nothing is left of it. */
  async #checkRest(id: string): Promise<void> {
    const sandboxes = join(this.#cluster.directory, "sandboxes");
    await this.#slotFree();
    await until(async () => {
      const folders = await readdir(sandboxes);
      return folders.length === 0 ? undefined : `folders are left: ${folders}`;
    });
    // One that ends before the cluster knows its DID leaves its name there.
    if (this.#layout === "together")
      await until(async () => {
        const operator = await this.#cluster.operator();
        const { agents } = await this.#laptop.mesh.call("discover", { capability: "sandbox" });
        const ended = (await operator.call("sandboxes", {})).sandboxes.filter(({ settled }) => settled);
        const known = agents.filter(({ did }) => ended.some((run) => run.did === did));
        return known.length === 0 ? undefined : `the registry still knows ${known.map(({ name }) => name)}`;
      });
    await until(() => {
      const processes = processesAt(sandboxes);
      return processes.length === 0 ? undefined : `processes are left: ${processes}`;
    });
    await until(() => (this.#cluster.sandboxes.length <= 1 ? undefined : "more than one sandbox waits"));
    const own = await readdir(join(this.#laptop.home, "offloads", id)).catch((): string[] => []);
    must(!own.includes(PART), "a part of a file is left");
  }

  async #slotFree(): Promise<void> {
    const operator = await this.#cluster.operator();
    await until(async () => {
      const { slots_used } = await operator.call("grant", { name: "laptop" });
      return slots_used === 0 ? undefined : `${slots_used} slots are still taken`;
    });
  }

  /** The next offload works. */
  async #checkNext(folder: string): Promise<void> {
    const script = join(folder, "next.sh");
    await writeFile(script, "echo here");
    const { mesh } = this.#laptop;
    const { offload_id: id } = await mesh.call("offload", { task: "run next.sh", files: [script], force: true });
    const view = await mesh.call("offload_status", { id, wait_ms: ROW_MAX_MS, until_over: true });
    must("offload_id" in view && view.status === "done", `the next offload failed: ${JSON.stringify(view)}`);
    // Its slot is free a moment after its end.
    await this.#slotFree();
  }

  /** Ends all processes as a person does, and holds what the laptop says against its journal. */
  async close(): Promise<void> {
    try {
      await this.#laptop.close();
      await this.#cluster.end("SIGTERM");
      const { differences } = await checkReplay(this.#laptop.home);
      must(differences.length === 0, `the laptop's home differs from its journal: ${JSON.stringify(differences)}`);
      const { fault } = [this.#laptop.program, this.#cluster.relay, this.#cluster.controller].find(
        (each) => each.fault !== undefined,
      ) ?? { fault: undefined };
      must(fault === undefined, fault ?? "");
    } finally {
      await this.end();
    }
  }

  async end(): Promise<void> {
    await this.#laptop.kill();
    await this.#cluster.end();
  }

  /** Some time, up to so many milliseconds: what else happens in a phase is hit too. */
  #moment(upToMs: number): Promise<void> {
    const delay = this.#number() * upToMs;
    return new Promise((resolve) => setTimeout(resolve, delay));
  }
}

/** How an offload may end that was hit so. */
function endsOf(phase: Phase, victim: Victim): readonly string[] {
  if (phase === "cancelling") return ["cancelled"];
  switch (victim) {
    case "laptop":
    case "relay":
      return ["done"];
    case "controller":
    case "cluster":
      return ["done", "error"];
    case "sandbox":
      // Before it has its task another may take its place; when it has sent everything it is not missed.
      return phase === "uploading" || phase === "running" ? ["error"] : ["done", "error"];
    case "nobody":
      return phase === "returning" ? ["cancelled", "done"] : ["cancelled"];
  }
}

/** All there is to try: whoever is killed, wherever the offload is. Who is cancelled is not cancelled again. */
export const rowsOf = (layout: Layout): [Phase, Victim][] =>
  VICTIMS.filter((victim) => layoutFor(victim) === layout).flatMap((victim) =>
    PHASES.filter((phase) => phase !== "cancelling" || victim !== "nobody").map((phase): [Phase, Victim] => [
      phase,
      victim,
    ]),
  );

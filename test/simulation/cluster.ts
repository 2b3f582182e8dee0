import { createHash } from "node:crypto";
import { join } from "node:path";
import type { MeshNode } from "../../src/actors/node.ts";
import type { StoreLimits } from "../../src/actors/opening.ts";
import { repeat } from "../../src/actors/ports.ts";
import type { Account } from "../../src/cluster/account.ts";
import { openEmbeddedState } from "../../src/cluster/embedded/state.ts";
import { openHousehold } from "../../src/cluster/household.ts";
import { textLog } from "../../src/cluster/log.ts";
import type { TaskOptions, TaskResult } from "../../src/cluster/runner/task.ts";
import { runSandbox } from "../../src/cluster/sandbox.ts";
import type { Spawn } from "../../src/cluster/sandboxes.ts";
import { openServices } from "../../src/cluster/services.ts";
import { asMeshError, MeshError } from "../../src/errors.ts";
import type { Disk } from "../../src/store/disk.ts";
import type { Dice } from "./dice.ts";
import { DurableJournal } from "./durable.ts";
import { RELAY_AUTHORITY } from "./plain-relay.ts";
import type { Plan } from "./plan.ts";
import { isOfDisk, Machine, Process } from "./process.ts";
import type { World } from "./world.ts";

// The cluster: relay, registry and controller in one process, sandboxes in processes of their own, on one machine.

const AUTHORITY = "127.0.0.1:7070";
/** Where a world's relay and registry are. */
export const urlsOf = ({ relay }: Plan) => ({
  relay_url: `ws://${relay === "plain" ? RELAY_AUTHORITY : AUTHORITY}`,
  registry_url: `http://${AUTHORITY}`,
  pair_url: `http://${AUTHORITY}/v1/pair`,
});
const DIRECTORY = "/cluster";
const YEAR_MS = 365 * 24 * 60 * 60 * 1000;

type Household = Awaited<ReturnType<typeof openHousehold>>["household"];

export class Cluster {
  readonly machine: Machine;
  process: Process | undefined;
  node: MeshNode | undefined;
  household: Household | undefined;
  readonly #world: World;
  readonly #limits: StoreLimits;
  readonly #rewriteSizeMin: number;
  #incarnation = 0;
  #sandboxes = 0;
  #tokens = 0;

  constructor(world: World, limits: StoreLimits, rewriteSizeMin: number) {
    this.#world = world;
    this.#limits = limits;
    this.#rewriteSizeMin = rewriteSizeMin;
    this.machine = new Machine("cluster", world.around);
    const { files } = this.machine;
    world.witness.nodes.set("cluster", new DurableJournal(files, `${DIRECTORY}/controller/journal`));
    const generation = (part: string) => () => {
      const directory = `${DIRECTORY}/server/${part}`;
      const pointer = files.node(`${directory}/generation`, true);
      const text = pointer?.kind === "file" ? Buffer.from(pointer.durable).toString("utf8") : "";
      return `${directory}/${/\d+/.exec(text)?.[0] ?? "1"}`;
    };
    world.witness.cluster = {
      mail: new DurableJournal(files, generation("mail")),
      registry: new DurableJournal(files, generation("registry")),
      controller: new DurableJournal(files, `${DIRECTORY}/controller/journal`),
    };
  }

  get home(): string {
    return `${DIRECTORY}/controller`;
  }

  start(): void {
    const world = this.#world;
    const process = new Process("cluster", this.machine, world.around, this.#incarnation++);
    this.process = process;
    process.onDeath(() => {
      if (this.process !== process) return;
      this.process = undefined;
      this.node = undefined;
      this.household = undefined;
      world.clock.in(world.dice.skewed(20, 15_000), () => {
        if (!this.process) this.start();
      });
    });
    world.trace("cluster starts");
    this.#open(process).catch((error: unknown) => {
      if (!process.isAlive) return;
      world.trace(`cluster did not open: ${String(error)}`);
      if (!isOfDisk(this.machine, error))
        world.violated(`the cluster does not open: ${error instanceof Error ? error.message : String(error)}`);
      process.exit();
    });
  }

  async #open(process: Process): Promise<void> {
    const world = this.#world;
    const { clock, disk } = process.ports;
    let opened: Household | undefined;
    let isReady = false;
    const urls = urlsOf(world.plan);
    const now = () => clock.now();
    const log = (line: string) => world.noted("relay", line);
    const rewriteSizeMin = this.#rewriteSizeMin;
    const state = await openEmbeddedState({ disk, directory: join(DIRECTORY, "server"), now, rewriteSizeMin, log });
    const services = openServices({
      state,
      now,
      every: (duration, task) => repeat(clock, duration, task),
      after: (duration, task) => clock.at(clock.now() + duration, task),
      pair: async (request) => {
        if (!opened || !isReady) throw new MeshError("cluster_unreachable");
        return opened.grants.pair(request);
      },
      vouch: (did) => {
        if (!opened) throw new MeshError("closed");
        return opened.vouch(did);
      },
      log: textLog(log),
    });
    if (!process.isAlive) return;
    world.network.listen(AUTHORITY, { process, accept: services.relay.accept, answer: services.answer });
    const { node, household } = await openHousehold({
      directory: DIRECTORY,
      ports: process.ports,
      backend: { spawn: this.#spawn(process) },
      limits: this.#limits,
      cluster: "sim",
      runner: null,
      urls: () => urls,
      online: () => services.relay.connections(),
      onNote: (note) => world.noted("controller", note),
    });
    opened = household;
    node.start();
    this.node = node;
    await node.membership.join({
      controller: null,
      cluster: "sim",
      relayUrl: urls.relay_url,
      registryUrl: urls.registry_url,
      name: "sim-controller",
      capabilities: ["controller"],
    });
    isReady = true;
    this.household = household;
  }

  /** The operator makes a token for a laptop, as often as it takes. */
  async issue(slots: number): Promise<string | undefined> {
    const { household, process } = this;
    if (!household || !process) return undefined;
    try {
      const name = `grant-${this.#tokens++}`;
      const { token } = await household.grants.issue({
        name,
        slots,
        capabilities: ["offload"],
        expiresMs: YEAR_MS,
        tokenBudget: null,
      });
      return token;
    } catch (error) {
      this.#world.trace(`no token: ${asMeshError(error).code}`);
      return undefined;
    }
  }

  /** A sandbox is one more process on the cluster's machine; it ends with its parent. */
  #spawn(parent: Process): Spawn {
    return async (config, hooks) => {
      const world = this.#world;
      const { clock } = world;
      const number = ++this.#sandboxes;
      const process = new Process(`sandbox-${number}`, this.machine, world.around, 0);
      world.witness.nodes.set(process.name, new DurableJournal(this.machine.files, `${config.directory}/home/journal`));
      world.trace(`${process.name} starts for ${config.run}`);
      const told = (tell: () => void) => clock.in(1, () => parent.isAlive && tell());
      let code: number | null = null;
      process.onDeath(() => told(() => hooks.exited(code)));
      let close: (() => Promise<void>) | undefined;
      const end = (force: boolean) => {
        if (force || !close) return process.kill();
        close().then(
          () => {
            code = 0;
            process.exit();
          },
          () => process.exit(),
        );
      };
      parent.onDeath(() => clock.in(world.dice.skewed(1, 500), () => end(false)));
      runSandbox(config, {
        ports: process.ports,
        perform: (options, account) => simulatedTask(options, account, world, process),
        limits: this.#limits,
        ready: (did) => process.isAlive && told(() => hooks.ready(did)),
        note: (note) => world.noted(process.name, note),
      }).then(
        (ended) => {
          close = ended;
        },
        (error: unknown) => {
          if (!process.isAlive) return;
          world.trace(`${process.name} failed: ${String(error)}`);
          code = 1;
          process.exit();
        },
      );
      return { pid: number, end };
    };
  }
}

/** What a task makes of a file. */
export const resultOf = (task: string, name: string, bytes: Uint8Array): Buffer =>
  Buffer.from(`${task}: ${name} ${createHash("sha256").update(bytes).digest("hex")}\n`.repeat(1 + (bytes.length >> 9)));

/** What each step of a task uses. */
const TOKENS_OF_STEP = 10;
const diceOf = (task: string, world: World) => world.dice.of(`task ${task}`);
const stepsOf = (dice: Dice) => dice.between(1, 6);
export const tokensOf = (task: string, world: World): number => stepsOf(diceOf(task, world)) * TOKENS_OF_STEP;

/** Takes its time, tells how far it is, and makes one file of each. */
async function simulatedTask(
  options: TaskOptions,
  account: Account,
  world: World,
  process: Process,
): Promise<TaskResult> {
  const { task, files, directory, onProgress, signal } = options;
  const { disk }: { disk: Disk } = process.ports;
  const dice = diceOf(task, world);
  const steps = stepsOf(dice);
  account.tell({ type: "begun", files: files.length, bytes: 0 });
  const ended = (ok: boolean) =>
    account.tell({ type: "ended", ok, exit: signal.aborted ? null : Number(!ok), code: null, reason: null });
  for (let step = 1; step <= steps; step++) {
    await world.clock.sleep(dice.skewed(10, 60_000));
    if (!process.isAlive) return new Promise(() => undefined);
    if (signal.aborted) {
      ended(false);
      return { ok: false, exit: null, summary: "it was cancelled", files: [] };
    }
    account.tell({ type: "used", tokens: step * TOKENS_OF_STEP });
    onProgress({ stage: "running", message: `step ${step}`, pct: Math.round((100 * step) / steps) });
  }
  if (task.startsWith("fail")) {
    ended(false);
    return { ok: false, exit: 1, summary: "it was to fail", files: [] };
  }
  await disk.makeDirectory(join(directory, "out"));
  const paths: string[] = [];
  for (const name of [...files].sort()) {
    const bytes = await disk.read(join(directory, name));
    const path = join(directory, "out", `${name}.result`);
    await disk.replace(path, resultOf(task, name, bytes ?? new Uint8Array()));
    paths.push(path);
  }
  ended(true);
  return { ok: true, exit: 0, summary: `done: ${task}`, files: paths };
}

import { MeshNode } from "../../src/actors/node.ts";
import type { StoreLimits } from "../../src/actors/opening.ts";
import { type ParamsOf, type ResultOf, runOperation } from "../../src/actors/operation.ts";
import { type Operations, operations } from "../../src/actors/operations.ts";
import { asMeshError, MeshError } from "../../src/errors.ts";
import { urlsOf } from "./cluster.ts";
import { isOfDisk, Machine, Process } from "./process.ts";
import type { World } from "./world.ts";

// A laptop: a machine on which someone starts the node again whenever it has ended, and pairs it until it is paired.

const RESTART_MIN_MS = 50;
const RESTART_MAX_MS = 20_000;

export class Laptop {
  readonly name: string;
  readonly machine: Machine;
  readonly home: string;
  did: string | undefined;
  token: string | undefined;
  node: MeshNode | undefined;
  process: Process | undefined;
  /** Called when its process dies, while `node` is still what it was. */
  onDeath: () => void = () => undefined;
  readonly #world: World;
  readonly #limits: StoreLimits;
  #incarnation = 0;

  constructor(name: string, world: World, limits: StoreLimits) {
    this.name = name;
    this.home = `/${name}/mesh`;
    this.#world = world;
    this.#limits = limits;
    this.machine = new Machine(name, world.around);
  }

  /** Starts the node. */
  start(): void {
    const { world } = { world: this.#world };
    const process = new Process(this.name, this.machine, world.around, this.#incarnation++);
    this.process = process;
    process.onDeath(() => {
      if (this.process !== process) return;
      this.onDeath();
      this.node = undefined;
      this.process = undefined;
      const { dice, clock } = world;
      clock.in(dice.skewed(RESTART_MIN_MS, RESTART_MAX_MS), () => {
        if (!this.process) this.start();
      });
    });
    world.trace(`${this.name} starts`);
    this.#open(process).catch((error: unknown) => {
      if (!process.isAlive) return;
      world.trace(`${this.name} did not open: ${String(error)}`);
      if (!isOfDisk(this.machine, error))
        world.violated(`${this.name} does not open: ${error instanceof Error ? error.message : String(error)}`);
      process.exit();
    });
  }

  async #open(process: Process): Promise<void> {
    const node = await MeshNode.open({
      home: this.home,
      ports: process.ports,
      limits: this.#limits,
      onNote: (note) => this.#world.noted(this.name, note),
    });
    if (!process.isAlive) return;
    node.start();
    this.node = node;
    if (node.core.keyring.hasIdentity) this.did = node.core.keyring.identity.did;
    node.core.system.subscribe(({ stream, event }) => {
      if (event.type === "ACKNOWLEDGED") this.#world.acknowledged(this, stream, event);
      if (event.type === "ARRIVED") this.#world.arrived(this, stream, event);
    });
    if (this === this.#world.stranger) await this.#join(node);
    else await this.#pair(node, process);
  }

  /** Takes its place at the registry without being let in by anyone. */
  async #join(node: MeshNode): Promise<void> {
    if ([...node.core.system.streams("pairing")].length > 0) return;
    const { relay_url: relayUrl, registry_url: registryUrl } = urlsOf(this.#world.plan);
    const place = { controller: null, cluster: "sim", relayUrl, registryUrl, name: this.name, capabilities: [] };
    const { did } = await node.membership.join(place);
    this.did = did ?? undefined;
  }

  /** The person at the laptop tries the token until it is taken. */
  async #pair(node: MeshNode, process: Process): Promise<void> {
    const { clock, dice } = this.#world;
    const pairings = () => [...node.core.system.streams("pairing")].map(([, { snapshot }]) => snapshot);
    while (process.isAlive && !pairings().some((snapshot) => snapshot.matches("paired"))) {
      if (this.token === undefined || pairings().some((snapshot) => !snapshot.matches("unpaired"))) {
        await clock.sleep(500);
        continue;
      }
      try {
        await this.call("pair", { token: this.token, name: this.name });
        this.did = node.core.keyring.identity.did;
        return;
      } catch (error) {
        const { code } = asMeshError(error);
        this.#world.trace(`${this.name} is not paired: ${code}`);
        if (code.startsWith("token_")) this.#world.violated(`${this.name} was refused with its own token: ${code}`);
        await clock.sleep(dice.between(500, 5_000));
      }
    }
  }

  get isMember(): boolean {
    return this.node?.membership.current !== undefined;
  }

  /** Asks the node. Never comes back when the process dies before. */
  async call<N extends keyof Operations>(name: N, params: ParamsOf<Operations, N>): Promise<ResultOf<Operations, N>> {
    const { node, process } = this;
    if (!node || !process) throw new MeshError("closed");
    const answer = await runOperation(operations, name, params, {
      node,
      signal: new AbortController().signal,
      progress: () => undefined,
    });
    if (!process.isAlive) return new Promise(() => undefined);
    return answer as ResultOf<Operations, N>;
  }

  /** Ends the node as a person would. */
  async close(): Promise<void> {
    const { node, process } = this;
    if (!node || !process) return;
    this.#world.trace(`${this.name} closes`);
    this.node = undefined;
    await node.close();
    process.exit();
  }
}

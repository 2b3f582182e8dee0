/** A laptop and a deployed cluster, and how they are looked at. */
import { join } from "node:path";
import { until } from "../../src/actors/inbox.ts";
import { realNetwork } from "../../src/actors/network.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import type { OffloadView } from "../../src/actors/offloads.ts";
import { type Ports, realPorts } from "../../src/actors/ports.ts";
import { call, openNode } from "../actors/world.ts";
import { type Build, Controller, type Pairing } from "../reference/controller.ts";
import { openServers, type Servers } from "../reference/servers.ts";
import { temporaryDirectory } from "../store/disks.ts";

/** A laptop's home, which may be closed and opened again. */
export class Laptop {
  node: MeshNode;
  readonly home: string;
  /** What it said to whoever watches it. */
  readonly notes: string[];
  readonly #ports: Ports;

  private constructor(home: string, ports: Ports, node: MeshNode, notes: string[]) {
    this.home = home;
    this.notes = notes;
    this.#ports = ports;
    this.node = node;
  }

  static async open(ports: Ports = realPorts(realNetwork)): Promise<Laptop> {
    const home = join(await temporaryDirectory(), "laptop");
    const notes: string[] = [];
    const node = await openNode({ home, ports, onNote: (line) => notes.push(line) });
    node.start();
    return new Laptop(home, ports, node, notes);
  }

  get did(): string {
    return this.node.core.keyring.identity.did;
  }

  async again(): Promise<void> {
    await this.node.close();
    this.node = await openNode({ home: this.home, ports: this.#ports, onNote: (line) => this.notes.push(line) });
    this.node.start();
  }

  /** The code of the error with which a token is refused, or `paired`. */
  async pair(token: string, name?: string): Promise<string> {
    return call(this.node, "pair", { token, ...(name !== undefined && { name }) }).then(
      () => "paired",
      (error: { code: string }) => error.code,
    );
  }

  /** Resolves when it is so. */
  async until(isSo: () => boolean): Promise<void> {
    const patience = { timeoutMs: 15_000, signal: AbortSignal.timeout(15_000), concerns: () => true };
    if (!(await until(this.node, isSo, patience))) throw new Error("it never was so");
  }

  /** How a stream stands. */
  state(stream: string): unknown {
    return this.node.core.system.state(stream)?.snapshot.value;
  }

  async offload(task: string, files: readonly string[] = []): Promise<string> {
    return (await call(this.node, "offload", { task, files: [...files] })).offload_id;
  }

  async view(id: string): Promise<OffloadView> {
    return (await call(this.node, "offload_status", { id })) as OffloadView;
  }

  /** An offload when it has ended. */
  async ended(id: string): Promise<OffloadView> {
    return (await call(this.node, "offload_status", { id, wait_ms: 15_000, until_over: true })) as OffloadView;
  }

  async refused(peer: string): Promise<number> {
    const { peers } = await call(this.node, "peers", {});
    return peers.find(({ did }) => did === peer)?.refused ?? 0;
  }
}

export interface Deployed {
  readonly servers: Servers;
  readonly controller: Controller;
  readonly laptop: Laptop;
}

/** A cluster and a laptop that know nothing of each other. */
export async function openDeployed(build: Build = {}, ports?: Ports): Promise<Deployed> {
  const servers = await openServers();
  const controller = await new Controller(servers, build).open();
  return { servers, controller, laptop: await Laptop.open(ports) };
}

export async function openPaired(build: Build = {}, pairing: Partial<Pairing> = {}, ports?: Ports): Promise<Deployed> {
  const world = await openDeployed(build, ports);
  const outcome = await world.laptop.pair(world.controller.issue(pairing));
  if (outcome !== "paired") throw new Error(`not paired: ${outcome}`);
  return world;
}

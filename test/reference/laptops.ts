/** Nodes of this project at any relay and registry: the reference ones, or others. */
import { join } from "node:path";
import { until } from "../../src/actors/inbox.ts";
import { realNetwork } from "../../src/actors/network.ts";
import type { MeshNode, NodeOptions } from "../../src/actors/node.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { call, openNode } from "../actors/world.ts";
import { temporaryDirectory } from "../store/disks.ts";
import type { Places } from "./servers.ts";

const PATIENCE_MS = 15_000;

export interface LaptopOptions extends Partial<Pick<NodeOptions, "home" | "ports">> {
  readonly name?: string;
}

export class Laptop {
  readonly node: MeshNode;
  /** What it said to whoever watches it. */
  readonly notes: readonly string[];

  private constructor(node: MeshNode, notes: readonly string[]) {
    this.node = node;
    this.notes = notes;
  }

  /** A node that is on the mesh, or, at a home that was on it, is started again. */
  static async open({ relayUrl, registryUrl }: Places, options: LaptopOptions = {}): Promise<Laptop> {
    const { name = "laptop", ports = realPorts(realNetwork) } = options;
    const { home = join(await temporaryDirectory(), name) } = options;
    const notes: string[] = [];
    const node = await openNode({ home, ports, onNote: (note) => notes.push(note) });
    node.start();
    const place = { controller: null, cluster: "reference", relayUrl, registryUrl };
    if (!node.membership.current) await node.membership.join({ ...place, name, capabilities: ["chat"] });
    return new Laptop(node, notes);
  }

  get did(): string {
    return this.node.core.keyring.identity.did;
  }

  /** @returns the message's id */
  async say(to: string, message: string): Promise<string> {
    return (await call(this.node, "send", { to, message })).id;
  }

  /** All that it has of a peer, in order, when it is so many. */
  async hears(from: string, count: number): Promise<string[]> {
    const isThere = () => [...this.node.core.messages.received()].filter(({ peer }) => peer === from).length >= count;
    const patience = { timeoutMs: PATIENCE_MS, signal: this.node.signal, concerns: () => true };
    if (!(await until(this.node, isThere, patience))) throw new Error(`it never had ${count} messages`);
    const { messages } = await call(this.node, "inbox", { from, all: true, limit: 200 });
    return messages.map(({ body }) => body);
  }
}

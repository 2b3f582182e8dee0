/** One of ours, in this process: it can be closed, opened again and cut off. */
import { cpSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { z } from "zod";
import type { KnockPolicy } from "../../src/actors/admission.ts";
import { realNetwork } from "../../src/actors/network.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { type Network, realPorts } from "../../src/actors/ports.ts";
import { hasReached, type MessageEntry } from "../../src/actors/projections/messages.ts";
import { Registry } from "../../src/actors/registry.ts";
import { wordedAt } from "../../src/actors/words.ts";
import type { Identity } from "../../src/crypto/index.ts";
import type { ConversationContext } from "../../src/machines/conversation/events.ts";
import type { SessionContext } from "../../src/machines/session/events.ts";
import { call, openNode } from "../actors/world.ts";
import { atTheEnd } from "../ending.ts";
import { temporaryDirectory } from "../store/disks.ts";
import type { Stage } from "./stage.ts";
import { awaited } from "./waiting.ts";

export type MessageState = MessageEntry["state"];

export interface LaptopOptions {
  readonly name?: string;
  readonly network?: Network;
  readonly policy?: KnockPolicy;
}

/** So few that both sides speak in turns, and their ratchets turn. */
const SAID_AT_ONCE = 5;

const Chat = z.object({ content: z.string() });

/** The words of a message, which may be a JSON text or one in an object. */
export function wordsOf(json: string): string {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "string" ? value : (Chat.safeParse(value).data?.content ?? json);
  } catch {
    // No JSON: it is the text itself.
    return json;
  }
}

/** The servers of a live test stay: at the end of a test nothing of ours is left there. */
export function leavesNothing({ registryUrl, clock }: Stage, identity: Identity): void {
  const ports = { network: realNetwork, clock, signal: new AbortController().signal };
  atTheEnd(() => new Registry(ports, registryUrl).remove(identity));
}

export class Laptop {
  node: MeshNode;
  readonly home: string;
  readonly name: string;
  /** What it said to its operator. */
  readonly notes: string[];
  readonly #stage: Stage;
  readonly #open: () => Promise<MeshNode>;

  private constructor(
    stage: Stage,
    name: string,
    home: string,
    node: MeshNode,
    notes: string[],
    open: () => Promise<MeshNode>,
  ) {
    this.#stage = stage;
    this.name = name;
    this.home = home;
    this.node = node;
    this.notes = notes;
    this.#open = open;
  }

  /** A laptop that is on the mesh. */
  static async open(
    stage: Stage,
    { name = "laptop", network = realNetwork, policy }: LaptopOptions = {},
  ): Promise<Laptop> {
    const directory = await temporaryDirectory();
    const home = join(directory, "home");
    const notes: string[] = [];
    const open = async () => {
      const ports = { ...realPorts(network), clock: stage.clock };
      const node = await openNode({ home, ports, onNote: (line) => notes.push(line) });
      node.start();
      return node;
    };
    const node = await open();
    const { relayUrl, registryUrl } = stage;
    // Servers that stay may know others of that name.
    const unique = `${name}-${directory.slice(-6).replaceAll(/[^A-Za-z0-9]/g, "x")}`;
    const place = { controller: null, cluster: "scenario", relayUrl, registryUrl };
    await node.membership.join({ ...place, name: unique, capabilities: ["chat"] });
    if (policy !== undefined) await call(node, "knock_policy", { policy });
    leavesNothing(stage, node.core.keyring.identity);
    return new Laptop(stage, unique, home, node, notes, open);
  }

  get did(): string {
    return this.node.core.keyring.identity.did;
  }

  close(): Promise<void> {
    return this.node.close();
  }

  /** Opens the home again, after `close`. */
  async again(): Promise<void> {
    this.node = await this.#open();
  }

  /** Copies the home as it is on the disk now: what a process that is killed now leaves behind. */
  copy(): void {
    cpSync(this.home, `${this.home}.copy`, { recursive: true });
  }

  /** Puts the copy in the place of the home, and goes on from there. */
  async restore(): Promise<void> {
    await this.close();
    await rm(this.home, { recursive: true });
    await rename(`${this.home}.copy`, this.home);
    await this.again();
  }

  /** Its connection to the relay breaks. It comes back by itself. */
  cut(): void {
    if (this.#stage.standIns) this.#stage.standIns.relay.cut(this.did);
    else {
      this.leave();
      this.comeBack();
    }
  }

  /** Lets go of the relay until it comes back. */
  leave(): void {
    this.node.core.link.pause();
  }
  comeBack(): void {
    this.node.core.link.proceed();
  }

  /** Says these, a few at a time. @returns their ids */
  async say(to: string, ...texts: readonly string[]): Promise<string[]> {
    const ids: string[] = [];
    for (let begin = 0; begin < texts.length; begin += SAID_AT_ONCE) {
      const few = texts.slice(begin, begin + SAID_AT_ONCE);
      const said = await Promise.all(few.map((message) => call(this.node, "send", { to, message })));
      ids.push(...said.map(({ id }) => id));
    }
    return ids;
  }

  /** Resolves when it is so, which is looked at after each change. */
  until(what: () => string, isSo: () => boolean): Promise<void> {
    const { node } = this;
    const held = new Promise<void>((resolve) => {
      if (isSo()) return resolve();
      const unsubscribe = node.core.system.subscribe(() => {
        if (!isSo()) return;
        unsubscribe();
        resolve();
      });
    });
    return awaited(() => `${this.name}: ${what()}`, held);
  }

  #entriesOf(peer: string): MessageEntry[] {
    return [...this.node.core.messages.received()].filter((entry) => entry.peer === peer);
  }

  /** All that it has of a peer, in order, once it is so many. */
  async heard(peer: string, count: number): Promise<string[]> {
    await this.until(
      () => `${count} messages of ${peer}, and it has ${this.#entriesOf(peer).length}`,
      () => this.#entriesOf(peer).length >= count,
    );
    return this.read(peer);
  }

  /** Resolves when it has a message of these words. */
  async hears(peer: string, text: string): Promise<void> {
    for (let known = 0; ; ) {
      const texts = await this.read(peer);
      if (texts.includes(text)) return;
      known = texts.length;
      await this.heard(peer, known + 1);
    }
  }

  /** All that it has of a peer, in order. */
  async read(peer: string): Promise<string[]> {
    const { core, journal } = this.node;
    const texts: string[] = [];
    for (const entry of this.#entriesOf(peer)) {
      const found = await wordedAt(core, journal, entry);
      if (!found) throw new Error(`message ${entry.id} is not where the index says`);
      texts.push(wordsOf((await core.bodies.peek(peer, found.body)) ?? ""));
    }
    return texts;
  }

  state(peer: string, id: string): MessageState | undefined {
    return this.node.core.messages.outgoing(peer, id)?.state;
  }

  /** Resolves when all of these messages have come so far. */
  became(peer: string, ids: readonly string[], state: MessageState): Promise<void> {
    const left = () => ids.filter((id) => !hasReached(this.state(peer, id) ?? "queued", state));
    return this.until(
      () =>
        `${ids.length} messages to be ${state}; these are not: ${left().map((id) => `${id} ${this.state(peer, id)}`)}`,
      () => left().length === 0,
    );
  }

  /** How many messages to a peer are known to have arrived. */
  arrivedAt(peer: string): number {
    return [...this.node.core.messages.sent()].filter(
      (each) => each.peer === peer && hasReached(each.state, "delivered"),
    ).length;
  }

  conversation(peer: string): ConversationContext {
    const state = this.node.core.system.state(`conversation/${peer}`);
    if (!state) throw new Error(`no conversation with ${peer}`);
    return state.snapshot.context;
  }

  /** Sessions with a peer, the oldest first. */
  sessions(peer: string): SessionContext[] {
    return [...this.node.core.system.streams("session")]
      .map(([, state]): SessionContext => state.snapshot.context)
      .filter((session) => session.peer === peer);
  }
}

/** Numbered texts. */
export const texts = (of: string, from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, index) => `${of} ${from + index}`);

/** Takes an agent's one-time prekeys from the registry until there are none. */
export async function drain({ registryUrl }: Stage, did: string): Promise<void> {
  for (;;) {
    const response = await fetch(`${registryUrl}/v1/agents/${encodeURIComponent(did)}/prekeys`);
    expect(response.status).toBe(200);
    const { one_time_pre_key } = z.object({ one_time_pre_key: z.unknown().optional() }).parse(await response.json());
    if (!one_time_pre_key) return;
  }
}

/** Laptops at the reference relay and the reference registry, on one clock that the test moves. */
import { realNetwork } from "../../src/actors/network.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { type Clock, type Network, realPorts } from "../../src/actors/ports.ts";
import { preKeysContext } from "../../src/actors/prekeys.ts";
import { Registry } from "../../src/actors/registry.ts";
import type { PairingContext } from "../../src/machines/pairing/events.ts";
import { PRESENCE_EVERY_MS, PRESENCE_JITTER_MS } from "../../src/machines/presence/limits.ts";
import { Happenings } from "../reference/happenings.ts";
import { openServers, type Places, type Servers } from "../reference/servers.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { CalendarClock } from "./systems.ts";
import { call, openNode } from "./world.ts";

export const HEARTBEAT = "POST self/heartbeat";

/** What a node did over the network. */
class Traffic {
  /** Requests and how they were answered: `POST self/heartbeat 200`. */
  readonly answered = new Happenings<string>();
  readonly #pongs = new Happenings<unknown>();
  /** Requests that do not get through. */
  blocks: (what: string) => boolean = () => false;

  readonly network: Network = {
    dial: (url, events) =>
      realNetwork.dial(url, {
        ...events,
        answered: () => {
          events.answered();
          this.#pongs.add(undefined);
        },
      }),
    fetch: async (url, init) => {
      const path = new URL(url).pathname.replace("/v1/", "").replace(/agents\/did[^/]*/, "self");
      const what = `${init?.method ?? "GET"} ${path}`;
      if (this.blocks(what)) throw new TypeError("fetch failed");
      const response = await realNetwork.fetch(url, init);
      this.answered.add(`${what} ${response.status}`);
      return response;
    },
  };

  count(what: string): number {
    return this.answered.all.filter((each) => each.startsWith(what)).length;
  }
  /** Resolves with the next answer to such a request. */
  next(what: string): Promise<string> {
    return this.answered.first((each) => each.startsWith(what), this.answered.all.length);
  }
  /** Resolves with the relay's next sign of life. */
  pong(): Promise<unknown> {
    return this.#pongs.first(() => true, this.#pongs.all.length);
  }
}

export class Laptop {
  readonly node: MeshNode;
  readonly home: string;
  readonly traffic: Traffic;
  /** What it said to its operator. */
  readonly notes: readonly string[];
  readonly #clock: CalendarClock;

  private constructor(from: Pick<Laptop, "node" | "home" | "traffic" | "notes">, clock: CalendarClock) {
    this.node = from.node;
    this.home = from.home;
    this.traffic = from.traffic;
    this.notes = from.notes;
    this.#clock = clock;
  }

  /** Nothing runs in it before `node.start()`. @param home a new one, unless given */
  static async open(clock: CalendarClock, home?: string): Promise<Laptop> {
    const directory = home ?? (await temporaryDirectory());
    const traffic = new Traffic();
    const notes: string[] = [];
    const ports = { ...realPorts(traffic.network), clock };
    const node = await openNode({ home: directory, ports, onNote: (line) => notes.push(line) });
    return new Laptop({ node, home: directory, traffic, notes }, clock);
  }

  /** Its process ends, and another one begins. */
  async again(): Promise<Laptop> {
    await this.node.close();
    // Connects of one identity have different times.
    this.#clock.pass(1);
    const laptop = await Laptop.open(this.#clock, this.home);
    laptop.node.start();
    return laptop;
  }

  async join({ relayUrl, registryUrl }: Places, name: string, seed?: Uint8Array): Promise<this> {
    this.#clock.pass(1);
    this.node.start();
    const place = { controller: null, cluster: "test", relayUrl, registryUrl, name, capabilities: ["chat"] };
    await this.node.membership.join({ ...place, seed });
    await this.until(() => this.node.core.link.value === "online");
    return this;
  }

  get did(): string {
    return this.node.core.keyring.identity.did;
  }
  get pairing(): PairingContext {
    const { current } = this.node.membership;
    if (!current) throw new Error("not paired");
    return current;
  }
  get state(): unknown {
    return this.node.core.system.state(`pairing/${this.pairing.controller}`)?.snapshot.value;
  }
  get preKeys() {
    const context = preKeysContext(this.node.core.system, this.pairing.controller);
    if (!context) throw new Error("no prekeys");
    return context;
  }

  /** Resolves when it is so, looking whenever something changes. */
  until(isSo: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (!isSo()) return;
        unsubscribe();
        resolve();
      };
      const unsubscribe = this.node.core.system.subscribe(look);
      look();
    });
  }
  /** Resolves with the next event of this type. */
  happens(type: string): Promise<void> {
    return new Promise((resolve) => {
      const unsubscribe = this.node.core.system.subscribe(({ event }) => {
        if (event.type !== type) return;
        unsubscribe();
        resolve();
      });
    });
  }
  /** Resolves when it is registered again, so many times in a row. */
  isBack(times = 1): Promise<void> {
    return this.until(() => this.state === "paired" && this.pairing.forgotten?.times === times);
  }

  /** The registry is told for the first time since the link came up. */
  async arrive(): Promise<void> {
    const told = this.traffic.next(HEARTBEAT);
    this.#clock.pass(PRESENCE_JITTER_MS);
    await told;
    await this.until(() => this.node.presence.value === "present");
  }
  /** Half a minute passes: the registry is told again, and the relay answers the link's own heartbeat. */
  async beat(): Promise<string> {
    const [told, heard] = [this.traffic.next(HEARTBEAT), this.traffic.pong()];
    this.#clock.pass(PRESENCE_EVERY_MS);
    await heard;
    const answer = await told;
    // An answer that has begun is given up if more time passes before it was read.
    await this.until(() => this.node.presence.value !== "beating");
    return answer;
  }

  async say(to: Laptop, message: string): Promise<void> {
    await call(this.node, "send", { to: to.did, message });
  }
  async hears(from: Laptop): Promise<string[]> {
    const { messages } = await call(this.node, "await", { from: [from.did], timeout_ms: 10_000 });
    return messages.map(({ body }) => body);
  }
}

export interface PlainWorld {
  readonly clock: CalendarClock;
  readonly servers: Servers;
  /** A laptop that has joined. */
  open(name: string): Promise<Laptop>;
  /** The registry as somebody sees it who is no agent. */
  readonly asker: Registry;
}

export async function openPlainWorld(): Promise<PlainWorld> {
  const clock = new CalendarClock(Date.now());
  const servers = await openServers({ clock });
  return {
    clock,
    servers,
    open: async (name) => (await Laptop.open(clock)).join(servers, name),
    asker: askerOf(servers, clock),
  };
}

export const askerOf = ({ registryUrl }: Places, clock: Clock): Registry =>
  new Registry({ network: realNetwork, clock, signal: new AbortController().signal }, registryUrl);

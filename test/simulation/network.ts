import type { Network, SocketEvents } from "../../src/actors/ports.ts";
import type { RelaySocket, SocketEnd } from "../../src/cluster/connection.ts";
import type { Reply, Request } from "../../src/cluster/routes.ts";
import { type FrameText, frameText } from "../../src/wire/frame-text.ts";
import type { VirtualClock } from "./clock.ts";
import type { Dice } from "./dice.ts";
import { CALM, type NetworkFaults } from "./faults.ts";
import type { Death, Process } from "./process.ts";

// The network between the processes. Sockets keep the order of what they carry, as TCP does, and end at any moment, for
// one side earlier than for the other, with any part of what was under way. What comes twice, and what comes late and out
// of order, comes on other sockets and as repetitions. Requests and answers of HTTP get lost, doubled and delayed.

/** What listens at an address. */
export interface Listener {
  readonly process: Process;
  accept(socket: RelaySocket): SocketEnd;
  answer(request: Request): Promise<Reply>;
}

/** Sees what crosses the network, before it does. */
export interface Observer {
  frame(direction: "up" | "down", client: Process, text: string): void;
  request(process: Process, url: string, init: RequestInit | undefined): void;
  reply(process: Process, url: string, method: string, reply: Reply): void;
}

export interface NetworkOptions {
  readonly clock: VirtualClock;
  readonly dice: Dice;
  readonly observer: Observer;
  readonly counted: (fault: string) => void;
  readonly trace: (line: string) => void;
}

const REFUSED_MS = 3;

export class SimulatedNetwork {
  faults: NetworkFaults = CALM;
  readonly #options: NetworkOptions;
  readonly #listeners = new Map<string, Listener>();
  readonly #connections = new Set<Connection>();
  /** Machines that are cut off, and until when. */
  readonly #cutOff = new Map<string, number>();

  constructor(options: NetworkOptions) {
    this.#options = options;
  }

  listen(authority: string, listener: Listener): void {
    this.#listeners.set(authority, listener);
    listener.process.onDeath(() => {
      if (this.#listeners.get(authority) === listener) this.#listeners.delete(authority);
    });
  }

  /** Cuts a machine off for a while. Its sockets stall, or break. */
  partition(machine: string, duration: number): void {
    const { clock, dice, trace } = this.#options;
    trace(`${machine} is cut off for ${Math.round(duration)} ms`);
    this.#cutOff.set(machine, clock.now() + duration);
    for (const connection of this.#connections) {
      if (connection.touches(machine) && dice.chance(0.5)) connection.breakOff();
    }
  }

  heal(): void {
    this.#cutOff.clear();
    this.faults = CALM;
  }

  cutAll(): void {
    for (const connection of this.#connections) connection.breakOff();
  }
  cutOne(): void {
    const all = [...this.#connections];
    if (all.length > 0) this.#options.dice.pick(all).breakOff();
  }

  /** How long something takes between two machines: until the partition between them ends at least. */
  delay(from: Process, to: Process): number {
    const { clock, dice } = this.#options;
    const closedUntil = Math.max(this.#cutOff.get(from.machine.name) ?? 0, this.#cutOff.get(to.machine.name) ?? 0);
    const transit = dice.skewed(0.3, this.faults.latencyMs);
    return from.machine === to.machine ? transit : Math.max(0, closedUntil - clock.now()) + transit;
  }

  /** @param outlived whether a request still arrives when its process has died since */
  of(process: Process, outlived = true): Network {
    return {
      dial: (url, events) => this.#dial(process, url, events),
      fetch: (url, init) => this.#fetch(process, url, init, outlived),
    };
  }

  #dial(process: Process, url: string, events: SocketEvents) {
    process.mayDie();
    const { clock, observer, dice, counted, trace } = this.#options;
    const authority = new URL(url).host;
    const refused = () => clock.in(REFUSED_MS, () => process.isAlive && events.closed(1006, "connection refused"));
    let connection: Connection | undefined;
    let isGivenUp = false;
    if (process.isAlive) {
      const listener = this.#listeners.get(authority);
      if (!listener) refused();
      else
        clock.in(this.delay(process, listener.process), () => {
          if (!process.isAlive || isGivenUp) return;
          if (this.#listeners.get(authority) !== listener) return refused();
          connection = new Connection(this, this.#options, process, events, listener);
          this.#connections.add(connection);
          connection.onEnd = () => this.#connections.delete(connection as Connection);
        });
    }
    return {
      buffered: 0,
      send: (given: FrameText) => {
        process.mayDie();
        if (!process.isAlive || !connection) return;
        const text = given.toString();
        trace(`${process.name} -> ${shown(text)}`);
        observer.frame("up", process, text);
        connection.send("up", text);
        if (this.faults.cut > 0 && dice.chance(this.faults.cut)) {
          counted("socket cut");
          connection.breakOff();
        }
        process.mayDie();
      },
      ping: () => connection?.ping(),
      close: () => {
        if (!process.isAlive) return;
        if (connection) connection.close("client", 1000, "");
        else if (!isGivenUp) {
          isGivenUp = true;
          refused();
        }
      },
    };
  }

  async #fetch(process: Process, url: string, init: RequestInit | undefined, outlived: boolean): Promise<Response> {
    const never = new Promise<never>(() => undefined);
    process.mayDie();
    if (!process.isAlive) return never;
    const { clock, dice, observer, counted } = this.#options;
    observer.request(process, url, init);
    const address = new URL(url);
    const { promise, resolve, reject } = Promise.withResolvers<Reply>();
    const failed = () => reject(new TypeError("fetch failed"));
    const method = init?.method ?? "GET";
    const ask = (isFirst: boolean) => {
      const listener = this.#listeners.get(address.host);
      if (!listener || (!process.isAlive && !outlived)) return failed();
      const server = listener.process;
      server.onDeath(() => clock.in(REFUSED_MS, failed));
      const answering = listener.answer({
        method,
        url: `${address.pathname}${address.search}`,
        authorization: headerOf(init, "authorization"),
        read: async () => Buffer.from(typeof init?.body === "string" ? init.body : "", "utf8"),
      });
      answering.then((reply) => {
        if (!server.isAlive) return;
        observer.reply(server, url, method, reply);
        if (!isFirst) return;
        if (dice.chance(this.faults.loss)) return counted("answer lost");
        clock.in(this.delay(server, process), () => resolve(reply));
      });
    };
    const there = this.#listeners.get(address.host);
    if (!there) clock.in(REFUSED_MS, failed);
    else {
      if (dice.chance(this.faults.loss)) counted("request lost");
      else clock.in(this.delay(process, there.process), () => ask(true));
      if (dice.chance(this.faults.repeat)) {
        counted("request repeated");
        clock.in(this.delay(process, there.process) + dice.skewed(1, 5_000), () => ask(false));
      }
    }
    const signal = init?.signal;
    if (signal?.aborted) reject(signal.reason);
    const onAbort = () => reject(signal?.reason);
    signal?.addEventListener("abort", onAbort);
    try {
      const { status, headers, text } = await promise;
      process.mayDie();
      if (!process.isAlive) return never;
      return new Response(text === "" ? null : text, { status, headers: { ...headers } });
    } catch (error) {
      if (!process.isAlive) return never;
      throw error;
    } finally {
      // A signal with a listener is never collected, and the whole world with it.
      signal?.removeEventListener("abort", onAbort);
    }
  }
}

function headerOf(init: RequestInit | undefined, name: string): string | undefined {
  const value = new Headers(init?.headers).get(name);
  return value ?? undefined;
}

/** A frame in a few words. */
function shown(text: string): string {
  const { type, id, from, to, knock_id, header } = JSON.parse(text);
  const number = header === undefined ? undefined : `${header.dh.slice(0, 6)}/${header.n}`;
  const mark = (did: unknown) => (typeof did === "string" ? did.slice(9, 15) : undefined);
  return [type, id, mark(from), mark(to), knock_id, number].filter((part) => part !== undefined).join(" ");
}

type Direction = "up" | "down";

/** One socket between a client and a listener, as each of them sees it. */
class Connection {
  onEnd: () => void = () => undefined;
  readonly #network: SimulatedNetwork;
  readonly #options: NetworkOptions;
  readonly #client: Process;
  readonly #server: Process;
  readonly #events: SocketEvents;
  readonly #end: SocketEnd;
  /** Whether each side still takes what comes. */
  readonly #open = { client: true, server: true };
  /** Whether each side has said goodbye. */
  readonly #closing = { client: false, server: false };
  /** When the last of each direction arrives: nothing overtakes it. */
  readonly #last = { up: 0, down: 0 };
  /** Nothing that is sent from now on arrives. */
  #isBroken = false;
  #isPaused = false;
  #held: (() => void)[] = [];

  constructor(
    network: SimulatedNetwork,
    options: NetworkOptions,
    client: Process,
    events: SocketEvents,
    { process: server, accept }: Listener,
  ) {
    this.#network = network;
    this.#options = options;
    this.#client = client;
    this.#server = server;
    this.#events = events;
    this.#end = accept(this.#serverSocket());
    client.onDeath((death) => this.#died("client", death));
    server.onDeath((death) => this.#died("server", death));
    options.clock.in(network.delay(server, client), () => {
      if (client.isAlive && this.#open.client) events.opened();
    });
  }

  touches(machine: string): boolean {
    return this.#client.machine.name === machine || this.#server.machine.name === machine;
  }

  #serverSocket(): RelaySocket {
    const self = this;
    return {
      OPEN: 1,
      bufferedAmount: 0,
      get readyState() {
        return self.#open.server ? 1 : 3;
      },
      get isPaused() {
        return self.#isPaused;
      },
      pause: () => {
        this.#isPaused = true;
      },
      resume: () => {
        this.#isPaused = false;
        for (const give of this.#held.splice(0)) give();
      },
      send: (given, flushed) => {
        if (!this.#server.isAlive || !this.#open.server) return;
        const text = given.toString();
        this.#options.observer.frame("down", this.#client, text);
        this.send("down", text);
        queueMicrotask(() => flushed());
      },
      ping: (payload) => this.#pingClient(payload),
      close: (code, reason) => this.close("server", code, reason),
      terminate: () => this.close("server", 1006, ""),
    };
  }

  send(direction: Direction, text: string): void {
    if (this.#isBroken || this.#closing[direction === "up" ? "client" : "server"]) return;
    const { clock, dice, counted } = this.#options;
    const deliver = () => this.#deliver(direction, text);
    this.#schedule(direction, deliver);
    if (dice.chance(this.#network.faults.repeat)) {
      counted("frame repeated");
      clock.at(this.#last[direction] + dice.skewed(0, 3_000), () => {
        if (!this.#isBroken) deliver();
      });
    }
  }

  /** The server asks for a sign of life behind what it has sent. Who carries the client's socket answers. */
  #pingClient(payload: string): void {
    if (!this.#server.isAlive || !this.#open.server || this.#isBroken || this.#closing.server) return;
    this.#schedule("down", () => {
      if (!this.#client.isAlive || !this.#open.client || this.#isBroken) return;
      this.#schedule("up", () => {
        if (this.#server.isAlive && this.#open.server) this.#end.ponged(payload);
      });
    });
  }

  /** A sign of life is asked for, and given by whoever carries the socket at the other end. */
  ping(): void {
    if (this.#isBroken || this.#closing.client) return;
    this.#schedule("up", () => {
      if (!this.#server.isAlive || !this.#open.server || this.#isBroken) return;
      this.#schedule("down", () => {
        if (this.#client.isAlive && this.#open.client) this.#events.answered();
      });
    });
  }

  /** In its turn, behind all that was sent before. */
  #schedule(direction: Direction, work: () => void): void {
    const { clock } = this.#options;
    const [from, to] = direction === "up" ? [this.#client, this.#server] : [this.#server, this.#client];
    const arrival = Math.max(this.#last[direction], clock.exact + this.#network.delay(from, to));
    this.#last[direction] = arrival;
    clock.at(arrival, () => {
      if (!this.#isBroken || this.#last[direction] >= arrival) work();
    });
  }

  #deliver(direction: Direction, text: string): void {
    const { trace } = this.#options;
    if (direction === "down") {
      trace(`${this.#client.name} <- ${shown(text)}`);
      if (this.#client.isAlive && this.#open.client) this.#events.received(frameText(Buffer.from(text)));
      return;
    }
    const give = () => {
      trace(`relay <- ${this.#client.name} ${shown(text)}`);
      if (this.#server.isAlive && this.#open.server) this.#end.received(frameText(Buffer.from(text)));
    };
    if (this.#isPaused) this.#held.push(give);
    else give();
  }

  /** One side says goodbye: what it sent before still arrives. */
  close(side: "client" | "server", code: number, reason: string): void {
    if (!this.#open[side] || this.#closing[side]) return;
    this.#closing[side] = true;
    if (this.#isBroken) return;
    const { clock } = this.#options;
    const direction = side === "client" ? "up" : "down";
    this.#schedule(direction, () => {
      this.#tell(side === "client" ? "server" : "client", code, reason);
      clock.in(1, () => this.#tell(side, code, reason));
    });
    if (code === 1006 || side === "client")
      clock.in(side === "client" ? 3_000 : 1, () => this.#tell(side, code, reason));
    if (side === "server") clock.in(30_000, () => this.#tell(side, 1006, reason));
  }

  /** The line breaks: each side learns it in its own time, and of what was under way a part arrives. */
  breakOff(): void {
    if (this.#isBroken) return;
    const { clock, dice } = this.#options;
    this.#isBroken = true;
    const now = clock.exact;
    for (const direction of ["up", "down"] as const)
      this.#last[direction] = now + dice.fraction() * Math.max(0, this.#last[direction] - now);
    clock.in(dice.skewed(1, 2_000), () => this.#tell("client", 1006, "the line broke"));
    clock.in(dice.skewed(1, 60_000), () => this.#tell("server", 1006, "the line broke"));
  }

  /** A process died: its system ends its sockets, or its machine falls silent. */
  #died(side: "client" | "server", death: Death): void {
    const { clock, dice } = this.#options;
    this.#open[side] = false;
    const other = side === "client" ? "server" : "client";
    if (death === "power") this.#isBroken = true;
    const notice = death === "power" ? dice.skewed(1, 40_000) : dice.skewed(1, 200);
    clock.in(notice, () => this.#tell(other, 1006, "the other side is gone"));
    if (!this.#open.client && !this.#open.server) this.onEnd();
  }

  #tell(side: "client" | "server", code: number, reason: string): void {
    if (!this.#open[side]) return;
    this.#open[side] = false;
    if (!this.#open.client && !this.#open.server) this.onEnd();
    if (side === "client") {
      if (!this.#client.isAlive) return;
      this.#options.trace(`${this.#client.name} <- closed ${code} ${reason}`);
      this.#events.closed(code, reason);
    } else if (this.#server.isAlive) this.#end.closed(code);
  }
}

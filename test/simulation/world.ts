import { createHash } from "node:crypto";
import type { StoredEvent } from "../../src/store/journal.ts";
import { VirtualClock } from "./clock.ts";
import { Cluster } from "./cluster.ts";
import { Dice } from "./dice.ts";
import { DurableJournal } from "./durable.ts";
import { Laptop } from "./laptop.ts";
import { Meddler } from "./meddler.ts";
import { SimulatedNetwork } from "./network.ts";
import { PlainPeer } from "./plain-peer.ts";
import { PlainRelay } from "./plain-relay.ts";
import { type Plan, planOf, type RelayKind } from "./plan.ts";
import type { Machine, Surroundings, Tampering } from "./process.ts";
import { holds, Witness } from "./witness.ts";

// A world: machines, the network between them, one clock, and everything that may go wrong, from one seed.

const STRANGER = "mallory";

export interface WorldOptions {
  readonly seed: number;
  /** The relay that the world has, whichever its seed says. */
  readonly relay?: RelayKind | undefined;
  readonly onTrace?: ((line: string) => void) | undefined;
  readonly tampering?: Tampering | undefined;
}

export class World {
  readonly plan: Plan;
  readonly dice: Dice;
  readonly clock = new VirtualClock();
  readonly network: SimulatedNetwork;
  readonly witness: Witness;
  readonly around: Surroundings;
  readonly cluster: Cluster;
  /** A relay that forgets, in some worlds. In the others the cluster has a relay of ours. */
  readonly plainRelay: PlainRelay | undefined;
  /** An agent that keeps nothing and confirms nothing, in some worlds. */
  readonly plainPeer: PlainPeer | undefined;
  readonly laptops: readonly Laptop[];
  /** An agent that only registers: it has no grant. In most worlds it never starts. */
  readonly stranger: Laptop;
  readonly faults = new Map<string, number>();
  readonly violations: string[] = [];
  #killChance = 0;
  readonly #digest = createHash("sha256");
  readonly #onTrace: ((line: string) => void) | undefined;

  constructor({ seed, relay, onTrace, tampering = {} }: WorldOptions) {
    this.#onTrace = onTrace;
    this.dice = new Dice(`seed ${seed}`);
    this.plan = planOf(this.dice.of("plan"), relay);
    this.witness = new Witness((what) => this.violated(what));
    const counted = (fault: string) => this.counted(fault);
    const trace = (line: string) => this.trace(line);
    this.network = new SimulatedNetwork({
      clock: this.clock,
      dice: this.dice.of("network"),
      observer: this.witness,
      counted,
      trace,
    });
    this.around = {
      clock: this.clock,
      network: this.network,
      meddler: new Meddler(this.dice.of("meddler"), () => this.network.faults, counted),
      dice: this.dice,
      trace,
      counted,
      killChance: () => this.#killChance,
      tampering,
    };
    this.cluster = new Cluster(this, this.plan.limits, this.plan.rewriteSizeMin);
    this.plainRelay = this.plan.relay === "plain" ? new PlainRelay(this) : undefined;
    this.plainPeer = this.plan.peerMessages > 0 ? new PlainPeer(this) : undefined;
    this.laptops = this.plan.laptops.map((name) => new Laptop(name, this, this.plan.limits));
    this.stranger = new Laptop(STRANGER, this, this.plan.limits);
    for (const { name, machine, home } of [...this.laptops, this.stranger])
      this.witness.nodes.set(name, new DurableJournal(machine.files, `${home}/journal`));
  }

  get machines(): readonly Machine[] {
    return [
      this.cluster.machine,
      ...(this.plainRelay ? [this.plainRelay.machine] : []),
      ...this.laptops.map(({ machine }) => machine),
      ...(this.plainPeer ? [this.plainPeer.machine] : []),
      ...(this.plan.strangerMessages > 0 ? [this.stranger.machine] : []),
    ];
  }

  /** What happened, for whoever looks; two runs of one seed say the same. */
  trace(line: string): void {
    const text = `${(this.clock.elapsedMs / 1000).toFixed(4)} ${line}`;
    this.#digest.update(text);
    this.#onTrace?.(text);
  }
  get digest(): string {
    return this.#digest.copy().digest("hex");
  }

  /** A note of a node: a defect among them is a violation. */
  noted(who: string, note: string): void {
    this.trace(`${who} notes: ${note}`);
    if (note.startsWith("A defect in")) this.violated(`${who}: ${note}`);
  }

  /** A receipt came: what it says of messages must be on the disk of who gave it. */
  acknowledged(laptop: Laptop, stream: string, receipt: StoredEvent): void {
    const { name, journal } = this.#peerOf(stream);
    const mine = `conversation/${laptop.did}`;
    for (const id of receipt.delivered as readonly string[])
      if (!journal?.has(mine, (event) => event.type === "RECEIVED" && event.id === id))
        this.violated(`${name} told ${laptop.name} that ${id} is delivered, and does not have it`);
    for (const id of receipt.read as readonly string[])
      if (!journal?.has(mine, ({ type, ids }) => type === "READ" && Array.isArray(ids) && ids.includes(id)))
        this.violated(`${name} told ${laptop.name} that ${id} was read, and it was not`);
  }

  /** An arrival notice of another laptop was believed: what it names must be on that laptop's disk. */
  arrived(laptop: Laptop, stream: string, { ids }: StoredEvent): void {
    const { name, journal } = this.#peerOf(stream);
    for (const id of ids as readonly string[])
      if (journal && !holds(journal, `conversation/${laptop.did}`, id))
        this.violated(`${laptop.name} believes that ${name} has ${id}, which it does not have`);
  }

  #peerOf(stream: string) {
    const peer = [...this.laptops, this.stranger].find(({ did }) => stream === `conversation/${did}`);
    return { name: peer?.name, journal: peer && this.witness.nodes.get(peer.name) };
  }

  counted(fault: string): void {
    this.faults.set(fault, (this.faults.get(fault) ?? 0) + 1);
  }

  violated(what: string): void {
    this.trace(`VIOLATION ${what}`);
    this.violations.push(what);
  }

  /** From now on things go wrong, as the plan says. */
  breakLoose(): void {
    const { plan, dice, clock } = this;
    this.#killChance = plan.killChance;
    this.network.faults = plan.network;
    const fate = dice.of("faults");
    const often = (times: number, what: (fate: Dice) => void) => {
      for (let count = 0; count < times; count++) clock.in(fate.fraction() * plan.durationMs, () => what(fate));
    };
    often(plan.kills, () => {
      const { process } = fate.pick(this.laptops);
      if (!process) return;
      this.counted("laptop killed");
      process.kill();
    });
    often(plan.powerCuts, () => {
      this.counted("power cut");
      fate.pick(this.machines).powerFails();
    });
    often(plan.clusterDeaths, () => {
      const { process } = this.cluster;
      if (!process) return;
      this.counted("cluster killed");
      process.kill();
    });
    often(this.plainRelay ? plan.relayDeaths : 0, () => {
      const process = this.plainRelay?.process;
      if (!process) return;
      this.counted("plain relay killed");
      process.kill();
    });
    often(this.plainPeer ? plan.peerDeaths : 0, () => {
      const process = this.plainPeer?.process;
      if (!process) return;
      this.counted("plain peer killed");
      process.kill();
    });
    often(plan.partitions, () => {
      this.counted("partition");
      this.network.partition(fate.pick(this.machines).name, fate.skewed(100, 60_000));
    });
    often(plan.socketCuts, () => {
      this.counted("socket cut");
      this.network.cutOne();
    });
    often(plan.diskFaults, () => this.#spoilDisk(fate));
    often(plan.restarts, () => {
      this.counted("node closed and opened");
      fate.pick(this.laptops).close();
    });
  }

  /** A disk is full, or fails now and then, for a while. */
  #spoilDisk(fate: Dice): void {
    const machine = fate.pick(this.machines);
    if (machine.files.fault) return;
    const fault = fate.chance(0.5) ? "full" : "broken";
    this.counted(fault === "full" ? "disk full" : "disk errors");
    this.trace(`the disk of ${machine.name} is ${fault}`);
    machine.hadFault = true;
    machine.files.fault = fault;
    this.clock.in(fate.skewed(100, 20_000), () => this.#mendDisk(machine));
  }

  #mendDisk(machine: Machine): void {
    if (!machine.files.fault) return;
    this.trace(`the disk of ${machine.name} works again`);
    machine.files.fault = undefined;
  }

  /** Nothing goes wrong any more, and everything that stopped is started again. */
  calmDown(): void {
    this.#killChance = 0;
    this.network.heal();
    for (const machine of this.machines) this.#mendDisk(machine);
    this.trace("calm");
  }
}

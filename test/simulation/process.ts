import type { Network, Ports } from "../../src/actors/ports.ts";
import { type Disk, diskOn } from "../../src/store/disk.ts";
import type { FileSystem } from "../../src/store/file-system.ts";
import type { VirtualClock } from "./clock.ts";
import type { Dice } from "./dice.ts";
import { fileSystemOf, SimulatedFiles } from "./disk.ts";
import type { Meddler } from "./meddler.ts";
import type { SimulatedNetwork } from "./network.ts";

// Machines and what runs on them. A process is the ports of one incarnation: when it is killed, none of its calls comes back
// and none of what it asks for happens any more. What it had written stays in the machine's memory until the power fails.

/** What the processes of a world share. */
export interface Surroundings {
  readonly clock: VirtualClock;
  readonly network: SimulatedNetwork;
  readonly meddler: Meddler;
  readonly dice: Dice;
  readonly trace: (line: string) => void;
  /** How likely a process dies at any one call of its ports. */
  readonly killChance: () => number;
  readonly counted: (fault: string) => void;
  /** What a mutant replaces in what a process has of the world. */
  readonly tampering: Tampering;
}

export interface Tampering {
  readonly files?: (files: FileSystem) => FileSystem;
  readonly disk?: (disk: Disk) => Disk;
  readonly network?: (network: Network) => Network;
}

const DISK_CALL_MS = 0.4;
const SYNC_MS = 8;
/** How often a disk takes its time. */
const SLOW_CHANCE = 0.01;
const SLOW_MS = 400;
/** How much likelier than anywhere else a process dies right after a rename. */
const RENAME_WEIGHT = 30;

export class Machine {
  readonly name: string;
  readonly files: SimulatedFiles;
  readonly processes = new Set<Process>();
  /** Whether its disk has failed in this run. */
  hadFault = false;
  readonly #around: Surroundings;

  constructor(name: string, around: Surroundings) {
    this.name = name;
    this.#around = around;
    this.files = new SimulatedFiles(around.dice.of(`disk of ${name}`));
  }

  /** The power fails: every process dies, and what was not synced may be gone. */
  powerFails(): void {
    for (const process of [...this.processes]) process.kill("power");
    if (this.files.crash() > 0) this.#around.counted("unsynced data lost");
    this.#around.trace(`${this.name} lost power`);
  }
}

export type Death = "killed" | "power";

export class Process {
  readonly name: string;
  readonly machine: Machine;
  readonly ports: Ports;
  isAlive = true;
  readonly #around: Surroundings;
  readonly #dice: Dice;
  readonly #onDeath = new Set<(death: Death) => void>();

  constructor(name: string, machine: Machine, around: Surroundings, incarnation: number) {
    this.name = name;
    this.machine = machine;
    this.#around = around;
    this.#dice = around.dice.of(`${name}#${incarnation}`);
    const randomness = this.#dice.of("random");
    const marks = this.#dice.of("marks");
    const { clock, network, meddler } = around;
    machine.processes.add(this);
    const same = <T>(port: T) => port;
    const { files: tamper = same, disk = same, network: tamperNetwork = same } = around.tampering;
    const files = fileSystemOf(machine.files, (what, work) => this.#call(what, work));
    this.ports = {
      clock: {
        now: () => clock.now(),
        // Whole milliseconds are all that a process sees: a moment within one has come when it is over.
        at: (time, ring) => (this.isAlive ? clock.at(Math.ceil(time), () => this.isAlive && ring()) : () => undefined),
      },
      random: (length) => randomness.bytes(length),
      disk: disk(diskOn(tamper(files), () => Buffer.from(marks.bytes(6)).toString("hex"))),
      network: tamperNetwork(meddler.of(network.of(this))),
    };
  }

  /** Told when it dies. */
  onDeath(listener: (death: Death) => void): void {
    this.#onDeath.add(listener);
  }

  /** Its end, at whatever it was doing. */
  kill(death: Death = "killed"): void {
    if (!this.isAlive) return;
    this.isAlive = false;
    this.machine.processes.delete(this);
    this.#around.trace(`${this.name} ${death}`);
    for (const listener of this.#onDeath) listener(death);
  }

  /** It ended by itself. */
  exit(): void {
    this.kill("killed");
  }

  /** A moment at which it may die. */
  mayDie(weight = 1): void {
    const { killChance, counted } = this.#around;
    if (this.isAlive && killChance() > 0 && this.#dice.chance(Math.min(0.3, killChance() * weight))) {
      counted("killed at a call");
      this.kill();
    }
  }

  /** It may die right after a rename, which is not durable yet, and its machine soon after its next start. */
  #mayDieOfRename(): void {
    this.mayDie(RENAME_WEIGHT);
    if (this.isAlive || !this.#dice.chance(0.5)) return;
    const { clock, killChance, counted } = this.#around;
    clock.in(this.#dice.skewed(300, 20_000), () => {
      if (killChance() === 0) return;
      counted("power cut");
      this.machine.powerFails();
    });
  }

  /** One call of a port: it takes time, and the process may be dead before it, or before it comes back. */
  #call<T>(what: string, work: () => T | Promise<T>): Promise<T> {
    const never = new Promise<T>(() => undefined);
    this.mayDie();
    if (!this.isAlive) return never;
    const [kind] = what.split(" ", 1);
    return new Promise((resolve, reject) => {
      const act = () => {
        if (!this.isAlive) return;
        let outcome: Promise<T>;
        try {
          outcome = Promise.resolve(work());
        } catch (error) {
          outcome = Promise.reject(error);
        }
        outcome.then(
          (value) => {
            if (kind === "rename") this.#mayDieOfRename();
            else this.mayDie();
            if (this.isAlive) resolve(value);
          },
          (error) => {
            if (this.isAlive) reject(error);
          },
        );
      };
      // What costs no time is done at once, so that the world has fewer moments.
      if (kind === "chmod" || kind === "close" || kind === "stat" || kind === "readdir") act();
      else this.#around.clock.in(this.#latency(kind === "sync"), act);
    });
  }

  #latency(isSync: boolean): number {
    if (this.#dice.chance(SLOW_CHANCE)) return this.#dice.fraction() * SLOW_MS;
    return this.#dice.skewed(0.02, isSync ? SYNC_MS : DISK_CALL_MS);
  }
}

/** Whether a failure is the disk's own, and the disk has a fault. */
export const isOfDisk = (machine: Machine, error: unknown): boolean =>
  machine.hadFault && error instanceof Error && /ENOSPC|EIO/.test(error.message);

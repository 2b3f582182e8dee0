import { RETRY_MAX_MS } from "../limits.ts";
import type { Journal } from "../store/journal.ts";
import type { StoreKey, Wish } from "../store/key.ts";
import type { Secrets } from "../store/secrets.ts";
import { writeSnapshots } from "../store/snapshots.ts";
import type { Ports } from "./ports.ts";
import type { ActorSystem } from "./system.ts";

// Keeping house: now and then a snapshot, and a fresh epoch when the old one is over by its count, by its time, or because
// something was destroyed in it.

export interface Limits {
  /** Commits of one epoch. */
  readonly epochCommits: number;
  /** Time of one epoch, in milliseconds. */
  readonly epochTimeMs: number;
  /** Commits between two snapshots. */
  readonly snapshotCommits: number;
}

/** A secret epoch: its number, and the commit that the vault was written at. */
export interface Epoch {
  readonly number: number;
  readonly position: number;
}

interface House {
  readonly home: string;
  readonly ports: Ports;
  readonly system: ActorSystem;
  readonly journal: Journal;
  readonly secrets: Secrets;
  readonly storeKey: StoreKey;
  readonly limits: Limits;
  readonly note: (text: string) => void;
}

export class Housekeeping {
  readonly #house: House;
  #running: Promise<void> | undefined;
  #disarm: (() => void) | undefined;
  #stopped = false;
  /** Until when it is left alone after it failed. */
  #putOffUntil = 0;

  constructor(house: House) {
    this.#house = house;
    house.system.subscribe(({ commit }) => {
      if (commit) this.#look();
    });
  }

  get epoch(): Epoch {
    return this.#house.secrets.epoch;
  }

  /** Deadlines of what a process before this one left are kept too. */
  start(): void {
    this.#look();
  }

  /** Ends the epoch if anything was sealed in it. @throws when the disk refuses: then it goes on */
  async endEpoch(): Promise<void> {
    const { journal, secrets, ports } = this.#house;
    await journal.exclusive(async () => {
      if (secrets.epoch.commits > 0) await secrets.turnEpoch(journal.head, ports.clock.now());
    });
    this.#arm();
  }

  /** Draws a new store key and seals the vault anew under it, with a fresh epoch. */
  async changeKey(wish: Wish): Promise<void> {
    const { journal, secrets, ports, storeKey } = this.#house;
    await storeKey.change(wish, {
      get key() {
        return secrets.storeKey;
      },
      settle: () => journal.exclusive(() => secrets.certain()),
      reseal: (key) => journal.exclusive(() => secrets.turnEpoch(journal.head, ports.clock.now(), key)),
    });
    this.#arm();
  }

  /** Lets what runs come to its end, ends the epoch and writes the snapshots. */
  async close(): Promise<void> {
    this.#stopped = true;
    this.#arm();
    await this.#running;
    await this.#house.storeKey.idle();
    await this.#house.journal.drained();
    try {
      await this.endEpoch();
      await this.#snapshot();
    } catch (error) {
      // The journal has everything; what is missed here is done at the next opening's end.
      this.#house.note(`The state directory was closed without tidying up: ${String(error)}`);
    }
  }

  #snapshot(): Promise<void> {
    const { ports, home, system, journal } = this.#house;
    const { checked } = journal;
    return writeSnapshots(ports.disk, home, { versions: system.versions, checked, ...system.capture() });
  }

  /** When the epoch is over by its time; undefined while nothing was sealed in it. */
  #endOfEpoch(): number | undefined {
    const { secrets, limits } = this.#house;
    const { commits, since } = secrets.epoch;
    return commits > 0 ? since + limits.epochTimeMs : undefined;
  }

  /** A node that nothing happens to ends its epochs too. */
  #arm(at = this.#endOfEpoch()): void {
    this.#disarm?.();
    this.#disarm = undefined;
    if (this.#stopped || at === undefined) return;
    this.#disarm = this.#house.ports.clock.at(at, () => {
      this.#disarm = undefined;
      this.#look();
    });
  }

  /** A failure costs nothing but the time of doing it later. */
  #look(): void {
    const { system, secrets, ports, limits, note } = this.#house;
    if (this.#running || this.#stopped || ports.clock.now() < this.#putOffUntil) return;
    const { commits, mustEnd } = secrets.epoch;
    const end = this.#endOfEpoch();
    const isOver = mustEnd || commits >= limits.epochCommits || (end !== undefined && ports.clock.now() >= end);
    if (!isOver && !this.#disarm) this.#arm(end);
    if (!isOver && (system.position === 0 || system.position % limits.snapshotCommits !== 0)) return;
    const work = async () => {
      if (isOver) await this.endEpoch();
      await this.#snapshot();
    };
    this.#running = work().then(
      () => {
        this.#running = undefined;
        // What came meanwhile may have been the last for a while.
        this.#arm(secrets.epoch.mustEnd ? ports.clock.now() : this.#endOfEpoch());
      },
      (error: unknown) => {
        note(`Housekeeping is put off: ${String(error)}`);
        this.#running = undefined;
        this.#putOffUntil = ports.clock.now() + RETRY_MAX_MS;
        this.#arm(this.#putOffUntil);
      },
    );
  }
}

import { RETRY_MIN_MS } from "../limits.ts";
import type { Clock } from "./ports.ts";
import type { ActorState } from "./state.ts";

// Deadlines live in the actors' states; here is only the one alarm that is set to the next of them.

/** An actor as far as its deadlines go. */
export interface Timed {
  /** What the next event will meet: a timer that is not here any more was told or cleared already. */
  readonly decided: ActorState;
}

export class Deadlines<A extends Timed> {
  readonly #clock: Clock;
  readonly #ring: (actor: A, timer: string) => Promise<void>;
  readonly #timed = new Set<A>();
  #disarm: (() => void) | undefined;
  #running = false;

  /** @param ring tells an actor that a timer is due; rejects when that could not be made durable */
  constructor(clock: Clock, ring: (actor: A, timer: string) => Promise<void>) {
    this.#clock = clock;
    this.#ring = ring;
  }

  /** The actor's state has changed. */
  note(actor: A): void {
    if (Object.keys(actor.decided.timers).length > 0) this.#timed.add(actor);
    else this.#timed.delete(actor);
  }

  start(): void {
    this.#running = true;
    this.arm();
  }

  stop(): void {
    this.#running = false;
    this.#disarm?.();
    this.#disarm = undefined;
  }

  /** Sets the alarm to the next deadline; one that is past rings as soon as possible. */
  arm(): void {
    this.#disarm?.();
    this.#disarm = undefined;
    if (!this.#running) return;
    let next = Number.POSITIVE_INFINITY;
    for (const { decided } of this.#timed)
      for (const { at } of Object.values(decided.timers)) next = Math.min(next, at);
    if (next !== Number.POSITIVE_INFINITY) this.#disarm = this.#clock.at(next, () => this.#alarm());
  }

  #alarm(): void {
    const now = this.#clock.now();
    let rang = false;
    for (const actor of [...this.#timed]) {
      for (const [id, { at }] of Object.entries(actor.decided.timers)) {
        if (at > now) continue;
        rang = true;
        this.#ring(actor, id).catch(() => this.#later());
      }
    }
    // What rang sets the alarm again when it is published.
    if (!rang) this.arm();
  }

  /** A disk that refuses is not asked again at once. */
  #later(): void {
    if (!this.#running) return;
    this.#disarm?.();
    this.#disarm = this.#clock.at(this.#clock.now() + RETRY_MIN_MS, () => this.#alarm());
  }
}

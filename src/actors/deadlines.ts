import { RETRY_MIN_MS, STALE_DEADLINES_KEPT } from "../limits.ts";
import { Agenda } from "./agenda.ts";
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
  /** The next deadline of each actor that has one. */
  readonly #next = new Map<A, number>();
  /** The same in the order of time, with entries that are out of date: those that are not the actor's next any more. */
  #agenda = new Agenda<A>();
  #disarm: (() => void) | undefined;
  /** What the alarm is set to. */
  #alarmAt: number | undefined;
  #running = false;

  /** @param ring tells an actor that a timer is due; rejects when that could not be made durable */
  constructor(clock: Clock, ring: (actor: A, timer: string) => Promise<void>) {
    this.#clock = clock;
    this.#ring = ring;
  }

  /** The actor's state has changed. */
  note(actor: A): void {
    let next = Number.POSITIVE_INFINITY;
    for (const { at } of Object.values(actor.decided.timers)) next = Math.min(next, at);
    if (next === Number.POSITIVE_INFINITY) {
      this.#next.delete(actor);
      return;
    }
    if (this.#next.get(actor) === next) return;
    this.#next.set(actor, next);
    this.#agenda.add(next, actor);
    if (this.#agenda.size <= 2 * this.#next.size + STALE_DEADLINES_KEPT) return;
    this.#agenda = new Agenda();
    for (const [each, at] of this.#next) this.#agenda.add(at, each);
  }

  start(): void {
    this.#running = true;
    this.arm();
  }

  stop(): void {
    this.#running = false;
    this.#setAlarm(undefined);
  }

  /** Sets the alarm to the next deadline; one that is past rings as soon as possible. */
  arm(): void {
    const next = this.#running ? this.#first()?.at : undefined;
    if (next !== this.#alarmAt) this.#setAlarm(next);
  }

  /** The earliest entry that is not out of date. */
  #first(): Agenda<A>["first"] {
    for (let first = this.#agenda.first; first; first = this.#agenda.first) {
      if (this.#next.get(first.what) === first.at) return first;
      this.#agenda.takeFirst();
    }
    return undefined;
  }

  #setAlarm(at: number | undefined): void {
    this.#disarm?.();
    this.#alarmAt = at;
    this.#disarm = at === undefined ? undefined : this.#clock.at(at, () => this.#alarm());
  }

  #alarm(): void {
    this.#setAlarm(undefined);
    const now = this.#clock.now();
    const due: A[] = [];
    for (let first = this.#first(); first && first.at <= now; first = this.#first()) {
      due.push(first.what);
      this.#next.delete(first.what);
    }
    let rang = false;
    for (const actor of due) {
      for (const [id, { at }] of Object.entries(actor.decided.timers)) {
        if (at > now) continue;
        rang = true;
        this.#ring(actor, id).catch(() => this.#later());
      }
      this.note(actor);
    }
    // What rang sets the alarm again when it is published.
    if (!rang) this.arm();
  }

  /** A disk that refuses is not asked again at once. */
  #later(): void {
    if (this.#running) this.#setAlarm(this.#clock.now() + RETRY_MIN_MS);
  }
}

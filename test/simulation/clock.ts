import type { Clock } from "../../src/actors/ports.ts";

// Time that passes only when nothing else can happen. An event runs, everything that follows from it without time passing
// follows, and the clock goes on to the next.

/** When every run begins. */
const BEGINNING = Date.UTC(2026, 0, 1);

interface Alarm {
  readonly time: number;
  readonly order: number;
  readonly ring: () => void;
  isOff: boolean;
}

const before = (a: Alarm, b: Alarm) => a.time < b.time || (a.time === b.time && a.order < b.order);

/** Lets all that is waiting for nothing but its turn have it. */
const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

export class VirtualClock implements Clock {
  #time = BEGINNING;
  #order = 0;
  /** A binary heap: the next alarm first. */
  readonly #alarms: Alarm[] = [];
  steps = 0;

  /** Whole milliseconds. */
  now(): number {
    return Math.floor(this.#time);
  }

  /** With its parts of a millisecond. */
  get exact(): number {
    return this.#time;
  }

  get elapsedMs(): number {
    return this.#time - BEGINNING;
  }

  at(time: number, ring: () => void): () => void {
    const alarm: Alarm = { time: Math.max(time, this.#time), order: this.#order++, ring, isOff: false };
    this.#push(alarm);
    return () => {
      alarm.isOff = true;
    };
  }

  /** Calls back after a while; parts of a millisecond count. */
  in(duration: number, ring: () => void): () => void {
    return this.at(this.#time + duration, ring);
  }

  sleep(duration: number): Promise<void> {
    return new Promise((resolve) => this.in(duration, resolve));
  }

  /** Lets time pass until `isDone`, or for so long. */
  async run(duration: number, isDone: () => boolean = () => false): Promise<void> {
    const end = this.#time + duration;
    await settle();
    while (!isDone()) {
      const next = this.#alarms[0];
      if (!next || next.time > end) {
        this.#time = end;
        return;
      }
      this.#pop();
      if (next.isOff) continue;
      // What a leap passed over rings late.
      this.#time = Math.max(this.#time, next.time);
      this.steps++;
      next.ring();
      await settle();
    }
  }

  /** Every machine slept for so long. */
  leap(duration: number): void {
    this.#time += duration;
  }

  #push(alarm: Alarm): void {
    const heap = this.#alarms;
    let index = heap.push(alarm) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent];
      if (!above || !before(alarm, above)) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = alarm;
  }

  #pop(): void {
    const heap = this.#alarms;
    const last = heap.pop();
    if (!last || heap.length === 0) return;
    let index = 0;
    for (;;) {
      const [left, right] = [heap[2 * index + 1], heap[2 * index + 2]];
      const child = left && right ? (before(right, left) ? right : left) : left;
      if (!child || !before(child, last)) break;
      heap[index] = child;
      index = child === left ? 2 * index + 1 : 2 * index + 2;
    }
    heap[index] = last;
  }
}

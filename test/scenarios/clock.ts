/** Clocks of a scenario: the real one, and one that runs like it and can leap ahead. */
import { type Clock, realClock } from "../../src/actors/ports.ts";

/** A clock that a scenario can wait by. */
export interface SceneClock extends Clock {
  /** Resolves when so much time has passed. */
  passes(milliseconds: number): Promise<void>;
}

/** The real clock, for servers and clients whose clocks nobody moves. */
export const unhurried: SceneClock = {
  ...realClock,
  passes: (milliseconds) => new Promise((resolve) => realClock.at(realClock.now() + milliseconds, resolve)),
};

/** The longest leap: shorter than a question to a registry may take, and than the time in which a socket must be heard. */
const LEAP_MAX_MS = 10_000;

interface Alarm {
  readonly time: number;
  readonly callback: () => void;
  timer: NodeJS.Timeout | undefined;
}

/**
 * A clock that runs like the real one. `passes` leaps instead of waiting. All who take part in a scenario must share it; for those who
 * cannot, some of the time passes in truth.
 */
export class LeapClock implements SceneClock {
  readonly #heard: () => Promise<void>;
  readonly #truly: number;
  #ahead = 0;
  readonly #alarms = new Set<Alarm>();

  /**
   * @param heard resolves when what was sent at a leap has been answered
   * @param truly how many milliseconds of each wait pass in truth
   */
  constructor(heard: () => Promise<void>, truly = 0) {
    this.#heard = heard;
    this.#truly = truly;
  }

  /** How many callbacks wait. */
  get armed(): number {
    return this.#alarms.size;
  }

  now(): number {
    return Date.now() + this.#ahead;
  }

  at(time: number, callback: () => void): () => void {
    const alarm: Alarm = { time, callback, timer: undefined };
    this.#alarms.add(alarm);
    this.#arm(alarm);
    return () => {
      clearTimeout(alarm.timer);
      this.#alarms.delete(alarm);
    };
  }

  #arm(alarm: Alarm): void {
    clearTimeout(alarm.timer);
    alarm.timer = setTimeout(() => this.#ring(alarm), Math.max(0, alarm.time - this.now()));
  }

  #ring(alarm: Alarm): void {
    clearTimeout(alarm.timer);
    if (this.#alarms.delete(alarm)) alarm.callback();
  }

  async passes(milliseconds: number): Promise<void> {
    const truly = Math.min(milliseconds, this.#truly);
    if (truly > 0) await new Promise<void>((resolve) => this.at(this.now() + truly, resolve));
    for (let left = milliseconds - truly; left > 0; left -= LEAP_MAX_MS) {
      this.#ahead += Math.min(left, LEAP_MAX_MS);
      const alarms = [...this.#alarms].sort((a, b) => a.time - b.time);
      for (const alarm of alarms) {
        if (alarm.time <= this.now()) this.#ring(alarm);
        else this.#arm(alarm);
      }
      await this.#heard();
    }
  }
}

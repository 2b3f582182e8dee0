import { CLOCK_STEP_MAX_MS } from "../limits.ts";
import type { Clock } from "./ports.ts";

// A clock of times of day, over timers that count something else: they stand still while a laptop sleeps, and know nothing of
// a clock that is set. So a wait is made of short ones, and the time is looked at after each.

/** What a clock is made of. */
export interface TimeSource {
  /** Epoch milliseconds. It may be set, forwards and backwards. */
  readonly wall: () => number;
  /** Milliseconds since whenever. They only grow, and may stand still while the machine sleeps. */
  readonly elapsed: () => number;
  /** Calls back once, when about so many of these have elapsed. Returns what takes it back. */
  readonly wait: (milliseconds: number, callback: () => void) => () => void;
}

/**
 * A clock whose `at` calls back when its time has come, at most one step late after a sleep. When the clock is set back
 * meanwhile, it calls back after as much time as was left at the beginning, so that nobody waits for hours that are lived
 * twice; whoever must not act before a time of day looks at `now`.
 */
export const clockOf = ({ wall, elapsed, wait }: TimeSource): Clock => ({
  now: wall,
  at(time, callback) {
    const end = elapsed() + (time - wall());
    const left = () => Math.min(time - wall(), end - elapsed());
    const begin = () => wait(Math.min(Math.max(0, left()), CLOCK_STEP_MAX_MS), wake);
    const wake = () => {
      if (left() > 0) cancel = begin();
      else callback();
    };
    let cancel = begin();
    return () => cancel();
  },
});

export const realClock: Clock = clockOf({
  wall: () => Date.now(),
  elapsed: () => performance.now(),
  wait(milliseconds, callback) {
    const timer = setTimeout(callback, milliseconds);
    return () => clearTimeout(timer);
  },
});

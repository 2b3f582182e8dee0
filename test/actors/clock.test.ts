import { describe, expect, it } from "vitest";
import { clockOf } from "../../src/actors/clock.ts";
import { Deadlines } from "../../src/actors/deadlines.ts";
import { begin } from "../../src/actors/state.ts";
import { CLOCK_STEP_MAX_MS } from "../../src/limits.ts";
import { tallyDefinition } from "./systems.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** A laptop whose time passes by hand: it can sleep, and its clock can be set. */
class Laptop {
  #wall = 1_000_000_000;
  #elapsed = 5_000;
  #waits: { readonly due: number; readonly callback: () => void }[] = [];
  /** The waits that were begun, in milliseconds. */
  readonly waits: number[] = [];
  readonly clock = clockOf({
    wall: () => this.#wall,
    elapsed: () => this.#elapsed,
    wait: (milliseconds, callback) => {
      this.waits.push(milliseconds);
      const wait = { due: this.#elapsed + milliseconds, callback };
      this.#waits.push(wait);
      return () => {
        this.#waits = this.#waits.filter((each) => each !== wait);
      };
    },
  });

  /** Timers that count. */
  get waiting(): number {
    return this.#waits.length;
  }
  /** Time passes while it is awake. */
  pass(milliseconds: number): void {
    const end = this.#elapsed + milliseconds;
    for (;;) {
      const [next] = this.#waits.filter(({ due }) => due <= end).sort((a, b) => a.due - b.due);
      const to = next?.due ?? end;
      this.#wall += to - this.#elapsed;
      this.#elapsed = to;
      if (!next) return;
      this.#waits = this.#waits.filter((each) => each !== next);
      next.callback();
    }
  }
  /** Its timers stand still, the world does not. */
  sleep(milliseconds: number): void {
    this.#wall += milliseconds;
  }
  /** Somebody sets its clock. */
  setClock(by: number): void {
    this.#wall += by;
  }
}

/** Notes when it was called back. */
function waitFor(laptop: Laptop, milliseconds: number): { readonly at: number[]; readonly cancel: () => void } {
  const at: number[] = [];
  const { clock } = laptop;
  const cancel = clock.at(clock.now() + milliseconds, () => at.push(clock.now()));
  return { at, cancel };
}

describe("a clock", () => {
  it("calls back once, at the time and not before, however far it is", () => {
    for (const far of [0, 1, 10, CLOCK_STEP_MAX_MS, CLOCK_STEP_MAX_MS + 1, 40 * 24 * HOUR_MS]) {
      const laptop = new Laptop();
      const begun = laptop.clock.now();
      const { at } = waitFor(laptop, far);
      expect(at).toEqual([]);
      laptop.pass(Math.max(0, far - 1));
      expect(at).toEqual(far === 0 ? [begun] : []);
      laptop.pass(2 * HOUR_MS);
      expect(at).toEqual([begun + far]);
      expect(Math.max(...laptop.waits)).toBeLessThanOrEqual(CLOCK_STEP_MAX_MS);
      expect(laptop.waiting).toBe(0);
    }
  });

  it("calls back for a time that is past, but never at once", () => {
    const laptop = new Laptop();
    const { at } = waitFor(laptop, -HOUR_MS);
    expect(at).toEqual([]);
    laptop.pass(0);
    expect(at).toHaveLength(1);
  });

  it("notices soon after the machine woke that a time has come while it slept", () => {
    const laptop = new Laptop();
    const { at } = waitFor(laptop, HOUR_MS);
    laptop.pass(10 * MINUTE_MS);
    laptop.sleep(8 * HOUR_MS);
    const woken = laptop.clock.now();
    laptop.pass(CLOCK_STEP_MAX_MS);
    expect(at).toHaveLength(1);
    expect((at[0] ?? 0) - woken).toBeLessThanOrEqual(CLOCK_STEP_MAX_MS);
  });

  it("waits for what is left after a sleep that was too short", () => {
    const laptop = new Laptop();
    const due = laptop.clock.now() + HOUR_MS;
    const { at } = waitFor(laptop, HOUR_MS);
    laptop.sleep(HOUR_MS - 1_000);
    laptop.pass(CLOCK_STEP_MAX_MS);
    expect(at).toHaveLength(1);
    expect(at[0]).toBeGreaterThanOrEqual(due);
  });

  it("that is set back keeps nobody waiting longer than was asked for", () => {
    const laptop = new Laptop();
    const { at } = waitFor(laptop, 5 * MINUTE_MS);
    laptop.pass(MINUTE_MS);
    laptop.setClock(-24 * HOUR_MS);
    laptop.pass(4 * MINUTE_MS - 1);
    expect(at).toEqual([]);
    laptop.pass(1);
    expect(at).toHaveLength(1);
  });

  it("forgets what was taken back, in whichever step", () => {
    for (const before of [0, 5 * MINUTE_MS]) {
      const laptop = new Laptop();
      const { at, cancel } = waitFor(laptop, HOUR_MS);
      laptop.pass(before);
      cancel();
      laptop.pass(2 * HOUR_MS);
      expect([at, laptop.waiting]).toEqual([[], 0]);
    }
  });
});

describe("deadlines on a clock that is set back", () => {
  it("ring neither early nor never: once, when the time of day has come", () => {
    const laptop = new Laptop();
    const due = laptop.clock.now() + 5 * MINUTE_MS;
    const initial = begin(tallyDefinition, "a");
    const actor = { decided: { ...initial, timers: { bell: { at: due, event: { type: "RING" } } } } };
    const rang: number[] = [];
    const deadlines = new Deadlines<{ decided: typeof initial }>(laptop.clock, async (one) => {
      rang.push(laptop.clock.now());
      one.decided = initial;
    });
    deadlines.note(actor);
    deadlines.start();
    laptop.pass(MINUTE_MS);
    laptop.setClock(-HOUR_MS);
    laptop.pass(HOUR_MS);
    expect(rang).toEqual([]);
    laptop.pass(5 * MINUTE_MS);
    expect(rang).toEqual([due]);
    laptop.pass(24 * HOUR_MS);
    expect(rang).toEqual([due]);
    deadlines.stop();
    expect(laptop.waiting).toBe(0);
  });
});

import { createHash } from "node:crypto";

// All the chance of a run comes from its seed. Each part of the world draws from dice of its own, so that a part that draws
// once more does not change the luck of the others.

/** A stream of pseudo-random numbers (sfc32), the same for the same name. */
export class Dice {
  readonly #name: string;
  #a: number;
  #b: number;
  #c: number;
  #counter: number;

  constructor(name: string) {
    this.#name = name;
    const seed = createHash("sha256").update(name).digest();
    [this.#a, this.#b, this.#c, this.#counter] = [0, 4, 8, 12].map((at) => seed.readInt32LE(at)) as [
      number,
      number,
      number,
      number,
    ];
  }

  /** Dice of another part, independent of what is drawn here. */
  of(part: string): Dice {
    return new Dice(`${this.#name}/${part}`);
  }

  #next(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    return sum >>> 0;
  }

  /** 0 up to 1. */
  fraction(): number {
    return this.#next() / 2 ** 32;
  }
  chance(probability: number): boolean {
    return this.fraction() < probability;
  }
  /** A whole number from `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + Math.floor(this.fraction() * (high - low + 1));
  }
  /** From `low` to `high`, the low ones far more often. */
  skewed(low: number, high: number): number {
    return low + (high - low) * this.fraction() ** 4;
  }
  pick<T>(from: readonly T[]): T {
    const picked = from[this.between(0, from.length - 1)];
    if (picked === undefined) throw new Error("nothing to pick from");
    return picked;
  }
  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.#next() >>> 24);
  }
}

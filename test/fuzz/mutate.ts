/** Inputs that are almost right: valid samples with a few things changed, all from one seed. */

/** Repeatable randomness: 32 bits at a time (mulberry32). */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  #next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  /** A whole number below `limit`. */
  below(limit: number): number {
    return Math.floor((this.#next() / 2 ** 32) * limit);
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)];
    if (item === undefined && items.length === 0) throw new Error("nothing to pick from");
    return item as T;
  }
}

/** Stand in a value for what JSON.stringify could not write, or would write slowly: the text takes their place. */
const LARGE: ReadonlyMap<string, string> = new Map([
  ["<deep list>", "[".repeat(20_000) + "]".repeat(20_000)],
  ["<deep object>", `${'{"a":'.repeat(20_000)}1${"}".repeat(20_000)}`],
  ["<long list>", `[${"1,".repeat(20_000)}1]`],
  ["<many members>", `{${Array.from({ length: 5_000 }, (_, at) => `"k${at}":"v"`).join(",")}}`],
  ["<huge number>", "1e999"],
]);

const LENGTHS = [
  0, 1, 22, 31, 32, 33, 40, 41, 43, 44, 64, 65, 86, 88, 128, 129, 200, 201, 255, 256, 1025, 4097, 70_000,
];
const LETTERS = ["a", "A", "=", "/", "-", "0", "\u0000", "\ud800", "\u202e", "é", "😀", " ", "\n", ".", "[", '"'];
const NAMES = [
  "__proto__",
  "constructor",
  "toString",
  "valueOf",
  "length",
  "type",
  "then",
  "v",
  "id",
  "",
  "0",
  "toJSON",
];
const NUMBERS = [
  0,
  -0,
  -1,
  1,
  0.5,
  80,
  2 ** 31,
  2 ** 32,
  2 ** 32 - 1,
  2 ** 53,
  2 ** 53 - 1,
  -(2 ** 53),
  1e21,
  1e308,
  5e-324,
];

function hostile(chance: Chance): unknown {
  switch (chance.below(9)) {
    case 0:
      return chance.pick([null, true, false]);
    case 1:
      return chance.pick(NUMBERS);
    case 2:
      return chance.pick(LETTERS).repeat(chance.pick(LENGTHS));
    case 3:
      return chance.pick(NAMES);
    case 4:
      return chance.pick([[], {}, [[]], [null], [{}], ["a", "a"]]);
    case 5:
      return own({}, chance.pick(NAMES), chance.pick<unknown>([null, 1, {}, [], "a", { toString: null }]));
    case 6:
      return chance.pick([...LARGE.keys()]);
    case 7:
      return chance.pick([
        "did:mesh:0123456789abcdef0123456789abcdef",
        "did:agentmesh:0123456789abcdef0123456789abcdef",
      ]);
    default:
      return chance.pick([
        "true",
        "1",
        "1e3",
        "[1]",
        '["a"]',
        "[",
        "null",
        "NaN",
        " 5 ",
        "-1",
        "a,b",
        "http://[",
        "ws://a/b",
      ]);
  }
}

/** A member of any name, `__proto__` among them. */
function own(target: object, name: string, value: unknown): object {
  return Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true });
}

interface Spot {
  readonly parent: object;
  readonly name: string;
  readonly value: unknown;
}

/** Every member of a value, at any depth. */
function spots(value: unknown): Spot[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, member]) => [{ parent: value, name, value: member }, ...spots(member)]);
}

function tweaked(chance: Chance, value: unknown): unknown {
  if (typeof value === "number") return value + chance.pick([1, -1, 0.5, 2 ** 32, -value, Number.EPSILON]);
  if (typeof value === "string") return mutateText(chance, [value]);
  if (Array.isArray(value)) return chance.pick([[...value, ...value], value.slice(1), [...value, null], [value]]);
  return hostile(chance);
}

/** The JSON text of a sample with one to four members changed, added, taken away or exchanged. */
export function mutateJson(chance: Chance, samples: readonly unknown[]): string {
  const root = { value: structuredClone(chance.pick(samples)) };
  for (let count = 1 + chance.below(4); count > 0; count--) {
    const all = spots(root);
    const { parent, name, value } = chance.pick(all);
    switch (chance.below(6)) {
      case 0:
        Reflect.deleteProperty(parent, name);
        if (Object.keys(root).length === 0) root.value = undefined;
        break;
      case 1:
        own(parent, name, tweaked(chance, value));
        break;
      case 2:
        own(parent, Array.isArray(parent) ? name : chance.pick(NAMES), chance.pick([value, hostile(chance)]));
        break;
      case 3:
        own(parent, name, structuredClone(chance.pick(spots({ of: chance.pick(samples) })).value));
        break;
      default:
        own(parent, name, hostile(chance));
    }
  }
  const text = JSON.stringify(root.value) ?? "";
  return text.replaceAll(/"<[a-z ]+>"/g, (name) => LARGE.get(name.slice(1, -1)) ?? name);
}

/** A sample with some of its characters changed, taken away, doubled or put in. */
export function mutateText(chance: Chance, samples: readonly string[]): string {
  let text = chance.pick(samples);
  for (let count = 1 + chance.below(4); count > 0; count--) {
    const at = chance.below(text.length + 1);
    const length = chance.below(chance.pick([2, 9, text.length + 1]));
    switch (chance.below(6)) {
      case 0:
        text = text.slice(0, at);
        break;
      case 1:
        text = text.slice(0, at) + text.slice(at + length);
        break;
      case 2:
        text = text.slice(0, at + length) + text.slice(at);
        break;
      case 3:
        text = text.slice(0, at) + chance.pick(samples).slice(at);
        break;
      case 4:
        text = text.slice(0, at) + String.fromCharCode(chance.below(256)) + text.slice(at + 1);
        break;
      default:
        text = text.slice(0, at) + chance.pick(LETTERS).repeat(chance.pick(LENGTHS)) + text.slice(at);
    }
    text = text.slice(0, 300_000);
  }
  return text;
}

/** A sample with some of its bits turned over, or bytes taken away, doubled or exchanged. */
export function mutateBytes(chance: Chance, samples: readonly Uint8Array[]): Uint8Array {
  let bytes: Uint8Array = Uint8Array.from(chance.pick(samples));
  for (let count = 1 + chance.below(3); count > 0; count--) {
    const at = chance.below(bytes.length + 1);
    switch (chance.below(5)) {
      case 0:
        bytes = bytes.slice(0, at);
        break;
      case 1:
        bytes = Uint8Array.of(...bytes.subarray(0, at), ...bytes.subarray(at + chance.below(9)));
        break;
      case 2:
        bytes = Uint8Array.of(...bytes.subarray(0, at), ...chance.pick(samples).subarray(at));
        break;
      case 3:
        bytes = Uint8Array.of(...bytes.subarray(0, at), chance.below(256), ...bytes.subarray(at));
        break;
      default:
        if (at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ (1 << chance.below(8));
    }
  }
  return bytes;
}

import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Servers } from "../../bench/laptop.ts";
import { type Pair as Conversation, oursPair, sdkPair } from "../../bench/pairs.ts";
import { asMeshError } from "../../src/errors.ts";

// A steady load of numbered messages, and what must be true of them. Ours: what `send` accepted arrives once and in order,
// whatever happens. The published client's: it has no memory, so what was on its way may be lost with a replica; what comes
// must come once, in order, and its session must live.

const SAY_EVERY_MS = 25;
/** The published client gives a session up when more than 100 messages are missing at once. */
const PUBLISHED_SAYS_EVERY_MS = 100;

export interface Pair {
  readonly name: string;
  /** How many were accepted, and how many arrived. */
  readonly said: () => number;
  readonly heard: () => number;
  /** Calls back once, in the very moment when the next message is heard. */
  onNext(task: () => void): void;
  /** The longest time in which nothing arrived since the last call, in milliseconds. */
  longestGap(): number;
  /** What went against the promise. */
  readonly violations: readonly string[];
  /** Says no more; resolves when all that must arrive has, or it is too late. */
  settle(): Promise<void>;
  close(): Promise<void>;
}

class Ledger {
  readonly violations: string[] = [];
  readonly name: string;
  readonly #mayLose: boolean;
  #last = -1;
  heard = 0;
  onNext: (() => void) | undefined;
  #lastAt = Date.now();
  #longest = 0;

  constructor(name: string, mayLose: boolean) {
    this.name = name;
    this.#mayLose = mayLose;
  }

  note(number: number): void {
    const now = Date.now();
    this.#longest = Math.max(this.#longest, now - this.#lastAt);
    this.#lastAt = now;
    this.heard++;
    if (number <= this.#last) this.violations.push(`${this.name}: ${number} came again, or behind ${this.#last}`);
    else if (number !== this.#last + 1 && !this.#mayLose)
      this.violations.push(`${this.name}: ${number} came behind ${this.#last}`);
    this.#last = Math.max(this.#last, number);
    const task = this.onNext;
    this.onNext = undefined;
    task?.();
  }

  get last(): number {
    return this.#last;
  }

  longestGap(): number {
    const gap = Math.max(this.#longest, Date.now() - this.#lastAt);
    this.#longest = 0;
    return gap;
  }
}

const until = async (holds: () => boolean, patienceMs: number): Promise<boolean> => {
  const deadline = Date.now() + patienceMs;
  while (!holds()) {
    if (Date.now() > deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return true;
};

/** Says numbers at a steady pace until it is stopped. */
function speaker(say: (number: number) => Promise<boolean>, everyMs: number) {
  let [next, said, isOn] = [0, 0, true];
  const speaking = (async () => {
    while (isOn) {
      const begun = Date.now();
      if (await say(next)) said++;
      next++;
      const rest = everyMs - (Date.now() - begun);
      if (rest > 0) await new Promise((resolve) => setTimeout(resolve, rest));
    }
  })();
  return {
    said: () => said,
    stop: async () => {
      isOn = false;
      await speaking;
    },
  };
}

/** Numbers said at a steady pace from one of two to the other, and what its ledger makes of them. */
function underLoad(
  { close }: Conversation,
  ledger: Ledger,
  say: (number: number) => Promise<boolean>,
  everyMs: number,
) {
  const { said, stop } = speaker(say, everyMs);
  return {
    name: ledger.name,
    said,
    heard: () => ledger.heard,
    onNext: (task: () => void) => {
      ledger.onNext = task;
    },
    longestGap: () => ledger.longestGap(),
    violations: ledger.violations,
    stop,
    async close() {
      await stop();
      await close();
    },
  };
}

/** Two laptops of ours. */
export async function ourPair(servers: Servers, directory: string, name: string, patienceMs: number): Promise<Pair> {
  const conversation = await oursPair(servers, join(directory, name));
  const ledger = new Ledger(name, false);
  conversation.hears((content) => ledger.note(Number(content)));
  const say = async (number: number) => {
    await conversation.say(String(number));
    return true;
  };
  const { stop, said, ...load } = underLoad(conversation, ledger, say, SAY_EVERY_MS);
  return {
    ...load,
    said,
    async settle() {
      await stop();
      if (!(await until(() => ledger.heard >= said(), patienceMs)))
        ledger.violations.push(`${name}: ${ledger.heard} of ${said()} accepted messages arrived`);
    },
  };
}

/** Where the suite of the published client installs it. */
export const SDK_FOLDER = fileURLToPath(new URL("../../.cache/interop/", import.meta.url));

/** Two of the published client, which the cluster lets in without a proof. */
export async function publishedPair(servers: Servers, patienceMs: number): Promise<Pair> {
  const name = "published client";
  const ledger = new Ledger(name, true);
  // A session of the published client that has lost its way does not come back.
  const conversation = await sdkPair(
    createRequire(SDK_FOLDER)("@microsoft/agent-governance-sdk"),
    servers,
    (kind, detail) => {
      if (kind !== "ws") ledger.violations.push(`${name}: ${kind}: ${detail}`);
    },
  );
  conversation.hears((content) => ledger.note(Number(content)));
  const say = async (number: number) => {
    try {
      await conversation.say(String(number));
      return true;
    } catch (error) {
      // It is not connected just now: what it does not take was not accepted.
      void asMeshError(error);
      return false;
    }
  };
  const { stop, ...load } = underLoad(conversation, ledger, say, PUBLISHED_SAYS_EVERY_MS);
  return {
    ...load,
    async settle() {
      await stop();
      // Its session lives: what is said now arrives.
      const before = ledger.last;
      let number = 1_000_000;
      const lives = await until(() => {
        void say(number++);
        return ledger.last > Math.max(before, 999_999);
      }, patienceMs);
      if (!lives) ledger.violations.push(`${name}: its session is dead`);
    },
  };
}

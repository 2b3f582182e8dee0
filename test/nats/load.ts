import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { call, openLaptop, type Servers } from "../../bench/laptop.ts";
import { type Identity, identityFromSeed } from "../../src/crypto/index.ts";
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
  readonly #name: string;
  readonly #mayLose: boolean;
  #last = -1;
  heard = 0;
  #lastAt = Date.now();
  #longest = 0;

  constructor(name: string, mayLose: boolean) {
    this.#name = name;
    this.#mayLose = mayLose;
  }

  note(number: number): void {
    const now = Date.now();
    this.#longest = Math.max(this.#longest, now - this.#lastAt);
    this.#lastAt = now;
    this.heard++;
    if (number <= this.#last) this.violations.push(`${this.#name}: ${number} came again, or behind ${this.#last}`);
    else if (number !== this.#last + 1 && !this.#mayLose)
      this.violations.push(`${this.#name}: ${number} came behind ${this.#last}`);
    this.#last = Math.max(this.#last, number);
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
function speaker(say: (number: number) => Promise<boolean>, everyMs = SAY_EVERY_MS) {
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

/** Two laptops of ours. */
export async function ourPair(servers: Servers, directory: string, name: string, patienceMs: number): Promise<Pair> {
  const alice = await openLaptop(servers, join(directory, `${name}-a`), `${name}-a`);
  const bob = await openLaptop(servers, join(directory, `${name}-b`), `${name}-b`);
  const [from, to] = [alice.core.keyring.identity.did, bob.core.keyring.identity.did];
  const ledger = new Ledger(name, false);
  let isOpen = true;
  const listening = (async () => {
    while (isOpen) {
      const { messages } = await call(bob, "await", { from: [from], timeout_ms: 1_000 });
      for (const { body } of messages) ledger.note(Number(body));
    }
  })();
  const { said, stop } = speaker(async (number) => {
    await call(alice, "send", { to, message: String(number) });
    return true;
  });
  return {
    name,
    said,
    heard: () => ledger.heard,
    longestGap: () => ledger.longestGap(),
    violations: ledger.violations,
    async settle() {
      await stop();
      if (!(await until(() => ledger.heard >= said(), patienceMs)))
        ledger.violations.push(`${name}: ${ledger.heard} of ${said()} accepted messages arrived`);
    },
    async close() {
      await stop();
      isOpen = false;
      await listening;
      await alice.close();
      await bob.close();
    },
  };
}

interface SdkClient {
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  establishSessionWithPeer(did: string): Promise<unknown>;
  send(did: string, payload: unknown): Promise<void>;
  onMessage(handler: (from: string, payload: { readonly content: string }) => void): void;
  onError(handler: (kind: string, peer: string, detail: string) => void): void;
}
interface Sdk {
  readonly X3DHKeyManager: new (secret: Uint8Array, publicKey: Uint8Array) => object;
  readonly MeshClient: new (options: object) => SdkClient;
}

/** Where the suite of the published client installs it. */
export const SDK_FOLDER = fileURLToPath(new URL("../../.cache/interop/", import.meta.url));

/** Two of the published client, which the cluster lets in without a proof. */
export async function publishedPair({ relayUrl, registryUrl }: Servers, patienceMs: number): Promise<Pair> {
  const sdk: Sdk = createRequire(SDK_FOLDER)("@microsoft/agent-governance-sdk");
  const client = ({ seed, publicKey, did }: Identity) =>
    new sdk.MeshClient({
      relayUrl,
      registryUrl,
      keyManager: new sdk.X3DHKeyManager(seed, publicKey),
      agentDid: did,
      displayName: did.slice(-8),
    });
  const [mine, theirs] = [identityFromSeed(randomBytes(32)), identityFromSeed(randomBytes(32))];
  const [alice, bob] = [client(mine), client(theirs)];
  await bob.connect();
  await alice.connect();
  await alice.establishSessionWithPeer(theirs.did);
  const name = "published client";
  const ledger = new Ledger(name, true);
  bob.onMessage((_, { content }) => ledger.note(Number(content)));
  // A session of the published client that has lost its way does not come back.
  for (const client of [alice, bob]) {
    client.onError((kind, _, detail) => {
      if (kind !== "ws") ledger.violations.push(`${name}: ${kind}: ${detail}`);
    });
  }
  const say = async (number: number) => {
    try {
      await alice.send(theirs.did, { type: "message", content: String(number) });
      return true;
    } catch (error) {
      // It is not connected just now: what it does not take was not accepted.
      void asMeshError(error);
      return false;
    }
  };
  const { said, stop } = speaker(say, PUBLISHED_SAYS_EVERY_MS);
  return {
    name,
    said,
    heard: () => ledger.heard,
    longestGap: () => ledger.longestGap(),
    violations: ledger.violations,
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
    async close() {
      await stop();
      await alice.disconnect();
      await bob.disconnect();
    },
  };
}

import { asMeshError } from "../errors.ts";

/** Waits for agents to come to the relay, whichever replica of it they come to. */
export class Arrivals {
  readonly #isConnected: (did: string) => boolean | Promise<boolean>;
  readonly #note: (text: string) => void;
  readonly #awaited = new Map<string, Set<() => void>>();

  constructor(isConnected: (did: string) => boolean | Promise<boolean>, note: (text: string) => void) {
    this.#isConnected = isConnected;
    this.#note = note;
  }

  /** Calls back once when the agent is connected, soon if it is. Returns what takes that back. */
  await(did: string, arrived: () => void): () => void {
    const waiting = this.#awaited.get(did) ?? new Set();
    this.#awaited.set(did, waiting.add(arrived));
    this.heard(did);
    return () => {
      waiting.delete(arrived);
      if (waiting.size === 0 && this.#awaited.get(did) === waiting) this.#awaited.delete(did);
    };
  }

  /** The relay heard of an agent: it came, lives or left. */
  heard(did: string): void {
    if (!this.#awaited.has(did)) return;
    this.#look(did).catch((error: unknown) => {
      // It beats again, and is looked for again then.
      this.#note(`Whether ${did} is connected could not be seen: ${asMeshError(error).message}`);
    });
  }

  async #look(did: string): Promise<void> {
    if (!(await this.#isConnected(did))) return;
    const waiting = this.#awaited.get(did);
    this.#awaited.delete(did);
    for (const arrived of waiting ?? []) arrived();
  }
}

/** Waits for agents to come to the relay. */
export class Arrivals {
  readonly #isConnected: (did: string) => boolean;
  readonly #awaited = new Map<string, Set<() => void>>();

  constructor(isConnected: (did: string) => boolean) {
    this.#isConnected = isConnected;
  }

  /** Calls back once when the agent is connected, at once if it is. Returns what takes that back. */
  await(did: string, arrived: () => void): () => void {
    if (this.#isConnected(did)) {
      arrived();
      return () => undefined;
    }
    const waiting = this.#awaited.get(did) ?? new Set();
    this.#awaited.set(did, waiting.add(arrived));
    return () => {
      waiting.delete(arrived);
      if (waiting.size === 0) this.#awaited.delete(did);
    };
  }

  /** The relay heard of an agent: it came, lives or left. */
  heard(did: string): void {
    const waiting = this.#awaited.get(did);
    if (!waiting || !this.#isConnected(did)) return;
    this.#awaited.delete(did);
    for (const arrived of waiting) arrived();
  }
}

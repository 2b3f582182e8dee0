/** Runs what belongs to one key in the order of the calls, one at a time; different keys do not wait for each other. */
export class Lanes {
  readonly #tails = new Map<string, Promise<unknown>>();
  readonly #lengths = new Map<string, number>();

  run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    this.#lengths.set(key, this.length(key) + 1);
    // The work before it has its own caller to report to; its failure does not concern what comes after.
    const running = before.then(work, work).finally(() => {
      const left = this.length(key) - 1;
      if (left > 0) this.#lengths.set(key, left);
      else {
        this.#lengths.delete(key);
        this.#tails.delete(key);
      }
    });
    this.#tails.set(
      key,
      running.catch(() => undefined),
    );
    return running;
  }

  length(key: string): number {
    return this.#lengths.get(key) ?? 0;
  }

  /** Resolves when nothing runs and nothing waits. */
  async idle(): Promise<void> {
    while (this.#tails.size > 0) await Promise.all(this.#tails.values());
  }
}

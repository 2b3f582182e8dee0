/**
 * Runs what belongs to one key in the order of the calls, one at a time. What waits behind work that fails is not begun and
 * fails like it: it must not overtake what comes again.
 */
export class FifoLanes {
  readonly #waiting = new Map<string, { readonly begin: () => void; readonly fail: (error: unknown) => void }[]>();

  run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#waiting.get(key);
    if (!before) {
      this.#waiting.set(key, []);
      return this.#begin(key, work);
    }
    return new Promise<T>((resolve, reject) => {
      before.push({ begin: () => this.#begin(key, work).then(resolve, reject), fail: reject });
    });
  }

  async #begin<T>(key: string, work: () => Promise<T>): Promise<T> {
    try {
      const result = await work();
      const waiting = this.#waiting.get(key);
      const next = waiting?.shift();
      if (next) next.begin();
      else this.#waiting.delete(key);
      return result;
    } catch (error) {
      const waiting = this.#waiting.get(key) ?? [];
      this.#waiting.delete(key);
      for (const { fail } of waiting) fail(error);
      throw error;
    }
  }
}

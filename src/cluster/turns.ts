export interface Turns {
  /** Runs what concerns one key after all that was asked for it before, whatever became of that. */
  run<T>(key: string, work: () => Promise<T>): Promise<T>;
  /** Resolves when all that was asked for is over. */
  settled(): Promise<void>;
}

/** Runs what concerns one key one after the other. */
export function takeTurns(): Turns {
  const tails = new Map<string, Promise<unknown>>();
  return {
    run(key, work) {
      const turn = (tails.get(key) ?? Promise.resolve()).then(work, work);
      const end = () => {
        if (tails.get(key) === turn) tails.delete(key);
      };
      tails.set(key, turn);
      turn.then(end, end);
      return turn;
    },
    async settled() {
      await Promise.allSettled(tails.values());
    },
  };
}

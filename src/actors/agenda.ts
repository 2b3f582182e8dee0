interface Entry<T> {
  readonly at: number;
  readonly what: T;
}

/** What is to be done when: the earliest is at hand at once, adding and taking cost the logarithm of the size (a binary heap). */
export class Agenda<T> {
  #heap: Entry<T>[] = [];

  get size(): number {
    return this.#heap.length;
  }
  get first(): Entry<T> | undefined {
    return this.#heap[0];
  }

  add(at: number, what: T): void {
    const entry = { at, what };
    let hole = this.#heap.push(entry) - 1;
    while (hole > 0) {
      const above = (hole - 1) >> 1;
      const parent = this.#heap[above];
      if (!parent || parent.at <= at) break;
      this.#heap[hole] = parent;
      hole = above;
    }
    this.#heap[hole] = entry;
  }

  takeFirst(): Entry<T> | undefined {
    const first = this.#heap[0];
    const last = this.#heap.pop();
    if (last && this.#heap.length > 0) this.#sink(last);
    return first;
  }

  /** Puts an entry where the first was. */
  #sink(entry: Entry<T>): void {
    for (let hole = 0; ; ) {
      const [left, right] = [this.#heap[2 * hole + 1], this.#heap[2 * hole + 2]];
      const isRight = left !== undefined && right !== undefined && right.at < left.at;
      const child = isRight ? right : left;
      if (!child || child.at >= entry.at) {
        this.#heap[hole] = entry;
        return;
      }
      this.#heap[hole] = child;
      hole = 2 * hole + (isRight ? 2 : 1);
    }
  }
}

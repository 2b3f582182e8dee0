/** What happened, in order, and a way to wait for the next of it. */
export class Happenings<T> {
  readonly all: T[] = [];
  #waiting: { readonly isIt: (one: T) => boolean; readonly resolve: (one: T) => void }[] = [];

  add(one: T): void {
    this.all.push(one);
    const met = this.#waiting.filter(({ isIt }) => isIt(one));
    this.#waiting = this.#waiting.filter((each) => !met.includes(each));
    for (const { resolve } of met) resolve(one);
  }

  /** The first one that `isIt` accepts, past or future; the first `from` of the past are not looked at. */
  async first(isIt: (one: T) => boolean, from = 0): Promise<T> {
    const known = this.all.slice(from).find(isIt);
    return known ?? new Promise((resolve) => this.#waiting.push({ isIt, resolve }));
  }
}

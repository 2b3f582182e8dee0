import { ROW, ROW_SIZE, type Rows, SHAPE, SHAPE_SIZE } from "./protocol.ts";

// The whole history in the page: a row of numbers an event, and for each stream the last of its rows at the moment that is shown.

/** A moment is a number of events: those before it have happened. */
export type Moment = number;

/** Room for so many rows at first; it doubles. */
const ROOM = 4096;

export class History {
  /** By their number; 0 is none. */
  readonly words: string[] = [""];
  /** How many events there are. */
  length: Moment = 0;
  readonly #shapes: number[] = [];
  #numbers = new Float64Array(ROOM);
  #times = new Float64Array(ROOM);
  #streams = new Int32Array(ROOM);
  #shaped = new Int32Array(ROOM);
  /** Of each row the row before it of the same stream; -1 for the first. */
  #before = new Int32Array(ROOM);
  /** By stream: the last row of all, and the last one at the moment. */
  readonly #newest: number[] = [];
  readonly #last: number[] = [];
  /** By stream: the note that came last. */
  readonly #noted: number[] = [];
  /** What peers are called, by DID. */
  readonly #names = new Map<string, string>();
  #moment: Moment = 0;

  add({ words, shapes, rows }: Rows): void {
    for (const word of words) this.words.push(word);
    for (const part of shapes) this.#shapes.push(part);
    const end = this.length + rows.length / ROW_SIZE;
    while (end > this.#streams.length) this.#grow();
    let [number, at] = [this.#numbers[this.length - 1] ?? 0, this.#times[this.length - 1] ?? 0];
    for (let from = 0; this.length < end; this.length++, from += ROW_SIZE) {
      const stream = rows[from + ROW.stream] ?? 0;
      number += rows[from + ROW.number] ?? 0;
      at += rows[from + ROW.at] ?? 0;
      this.#numbers[this.length] = number;
      this.#times[this.length] = at;
      this.#streams[this.length] = stream;
      this.#shaped[this.length] = rows[from + ROW.shape] ?? 0;
      this.#before[this.length] = this.#newest[stream] ?? -1;
      this.#newest[stream] = this.length;
      this.#learn(stream, this.get(this.length, "note"));
    }
  }

  #grow(): void {
    this.#numbers = grown(this.#numbers, new Float64Array(this.#numbers.length * 2));
    this.#times = grown(this.#times, new Float64Array(this.#times.length * 2));
    this.#streams = grown(this.#streams, new Int32Array(this.#streams.length * 2));
    this.#shaped = grown(this.#shaped, new Int32Array(this.#shaped.length * 2));
    this.#before = grown(this.#before, new Int32Array(this.#before.length * 2));
  }

  #learn(stream: number, note: number): void {
    if (note === 0 || this.#noted[stream] === note) return;
    this.#noted[stream] = note;
    const name = this.words[stream] ?? "";
    if (name.startsWith("conversation/")) this.#names.set(name.slice("conversation/".length), this.words[note] ?? "");
  }

  /** What a peer is called as far as is known, by its DID or by a stream that is named after it. */
  nameOf(did: string): string | undefined {
    return this.#names.get(did.slice(did.indexOf("/") + 1));
  }

  get(row: number, field: "number" | "at" | "stream" | keyof typeof SHAPE): number {
    if (field === "number") return this.#numbers[row] ?? 0;
    if (field === "at") return this.#times[row] ?? 0;
    if (field === "stream") return this.#streams[row] ?? 0;
    return this.#shapes[(this.#shaped[row] ?? 0) * SHAPE_SIZE + SHAPE[field]] ?? 0;
  }

  text(row: number, field: "stream" | "event" | "state" | "from" | "to" | "note"): string {
    return this.words[this.get(row, field)] ?? "";
  }

  /** The row before this one of the same stream; -1 when it is the first. */
  before(row: number): number {
    return this.#before[row] ?? -1;
  }

  /** Goes to a moment: as far as it is away, so long it takes. */
  go(moment: Moment): void {
    for (; this.#moment < moment; this.#moment++) this.#last[this.get(this.#moment, "stream")] = this.#moment;
    for (; this.#moment > moment; this.#moment--) {
      const row = this.#moment - 1;
      this.#last[this.get(row, "stream")] = this.before(row);
    }
  }

  get moment(): Moment {
    return this.#moment;
  }

  /** The last row of a stream at the moment; -1 when it had none. */
  lastOf(stream: number): number {
    return this.#last[stream] ?? -1;
  }

  /** The streams that there are, in the order in which they came to be. */
  *streams(): Generator<number> {
    for (let word = 1; word < this.words.length; word++) if (this.#newest[word] !== undefined) yield word;
  }

  /** The moment after a commit. */
  after(number: number): Moment {
    let [low, high] = [0, this.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.get(middle, "number") <= number) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The next or the last row of a stream, seen from the moment; undefined when there is none. */
  step(stream: number, way: 1 | -1): number | undefined {
    if (way === -1) {
      const row = this.lastOf(stream);
      return row === -1 ? undefined : row;
    }
    for (let row = this.#moment; row < this.length; row++) if (this.get(row, "stream") === stream) return row;
    return undefined;
  }
}

function grown<T extends Float64Array | Int32Array>(column: T, larger: T): T {
  larger.set(column);
  return larger;
}

import type { Mail } from "../state.ts";

// One recipient's mail in memory: in order of arrival, found by id.

export class Mailbox {
  /** Frames and bytes held, and reserved for those that are being written. */
  frames = 0;
  bytes = 0;
  /** By position; undefined where a frame was removed. */
  #row: { readonly position: number; mail: Mail | undefined }[] = [];
  #holes = 0;
  readonly #byId = new Map<string, Mail[]>();

  get isEmpty(): boolean {
    return this.frames === 0;
  }

  /** Counts a frame that is on its way in, so that those on their way cannot overfill the mailbox together. */
  reserve(size: number): void {
    this.frames++;
    this.bytes += size;
  }

  release(size: number): void {
    this.frames--;
    this.bytes -= size;
  }

  /** Takes a frame whose position is after all others. */
  add(mail: Mail): void {
    this.reserve(mail.size);
    this.#row.push({ position: mail.position, mail });
    const same = this.#byId.get(mail.id);
    if (same) same.push(mail);
    else this.#byId.set(mail.id, [mail]);
  }

  /** The frame of that id and sender, or the oldest of that id when no sender is named. */
  find(id: string, from?: string): Mail | undefined {
    const same = this.#byId.get(id);
    return from === undefined ? same?.[0] : same?.find((mail) => mail.from === from);
  }

  remove(mail: Mail): void {
    const slot = this.#row[this.#indexAfter(mail.position - 1)];
    if (slot?.mail !== mail) return;
    slot.mail = undefined;
    this.release(mail.size);
    const others = this.#byId.get(mail.id)?.filter((other) => other !== mail) ?? [];
    if (others.length > 0) this.#byId.set(mail.id, others);
    else this.#byId.delete(mail.id);
    this.#holes++;
    // Holes are closed when they are half of the row: the cost of each removal stays constant. A new row, because the old
    // one may be being read.
    if (this.#holes * 2 > this.#row.length) {
      this.#row = this.#row.filter((kept) => kept.mail !== undefined);
      this.#holes = 0;
    }
  }

  /** The first frame after a position. */
  first(position: number): Mail | undefined {
    const row = this.#row;
    for (let index = this.#indexAfter(position); index < row.length; index++) {
      const mail = row[index]?.mail;
      if (mail) return mail;
    }
    return undefined;
  }

  /** The frames after a position, in order. */
  *after(position: number): Generator<Mail> {
    const row = this.#row;
    for (let index = this.#indexAfter(position); index < row.length; index++) {
      const mail = row[index]?.mail;
      if (mail) yield mail;
    }
  }

  #indexAfter(position: number): number {
    let low = 0;
    let high = this.#row.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#row[middle]?.position ?? 0) <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

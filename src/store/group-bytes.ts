import { GROUP_BUFFER_KEPT } from "../limits.ts";
import type { Parts } from "./journal-line.ts";

const FIRST_SIZE = 64 * 1024;
/** UTF-8 takes so many bytes a UTF-16 unit at the most. */
const BYTES_PER_UNIT = 3;

const mostOf = (part: string | Buffer): number =>
  typeof part === "string" && part.length <= FIRST_SIZE ? part.length * BYTES_PER_UNIT : Buffer.byteLength(part);

/** What one group of commits is put together in, and then the next. */
export class GroupBytes {
  #bytes = Buffer.allocUnsafe(FIRST_SIZE);
  length = 0;

  /** Begins a group: what is left of one that failed is gone. */
  begin(): void {
    this.length = 0;
  }

  /** Puts text behind what is there. Gives its bytes, which stay where they are until more is added. */
  add(parts: Parts): Buffer {
    const begin = this.length;
    let most = 0;
    for (const part of parts) most += mostOf(part);
    this.#makeRoom(most);
    for (const part of parts) {
      this.length +=
        typeof part === "string" ? this.#bytes.write(part, this.length, "utf8") : part.copy(this.#bytes, this.length);
    }
    return this.#bytes.subarray(begin, this.length);
  }

  /** Ends a group. Gives all of it, which stays until the next begins. */
  end(): Buffer {
    const bytes = this.#bytes.subarray(0, this.length);
    if (this.#bytes.length > GROUP_BUFFER_KEPT) this.#bytes = Buffer.allocUnsafe(FIRST_SIZE);
    return bytes;
  }

  #makeRoom(more: number): void {
    const { length } = this;
    if (this.#bytes.length >= length + more) return;
    const larger = Buffer.allocUnsafe(Math.max(2 * this.#bytes.length, length + more));
    this.#bytes.copy(larger, 0, 0, length);
    this.#bytes = larger;
  }
}

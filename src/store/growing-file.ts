import { fdatasyncSync, writeSync } from "node:fs";
import { setImmediate as turn } from "node:timers/promises";
import { SYNC_IN_PLACE_MAX_MS, SYNC_IN_PLACE_SIZE_MAX, WRITE_IN_PLACE_SIZE_MAX } from "../limits.ts";
import type { OpenFile } from "./file-system.ts";

// A file that only grows. A commit waits for its sync, so two things are done to make that short.
//
// The file is given space before it is needed, as zeros: a sync of bytes that lie in it writes these bytes and nothing else,
// where a file that grows has its size and its map of blocks written too. Who reads the file takes zeros at its end for
// nothing; a clean close cuts them off. Writes that are large anyway get no such space: it would be as many bytes again.
//
// Few bytes are written by the calling thread, since the system only keeps them in memory. And while the disk answers
// swiftly, it waits for the sync too: handing that to another thread and being told of its end takes longer than the sync.
// A sync that is slow ends that.

/** The least and the most space that is made at once, in bytes: as much as was written since the file was opened. */
export interface Space {
  readonly least: number;
  readonly most: number;
}
export const SPACE: Space = { least: 64 * 1024, most: 1024 * 1024 };

const zeros = Buffer.alloc(SPACE.most);

export class GrowingFile {
  size: number;
  readonly #handle: OpenFile;
  readonly #space: Space;
  /** Where the file began to grow. */
  readonly #begin: number;
  /** Where the space ends that was made. */
  #end: number;
  #isSwift = false;
  /** Bytes that were written since the last sync. */
  #unsynced = 0;

  constructor(handle: OpenFile, size: number, space: Space) {
    this.#handle = handle;
    this.#space = space;
    this.size = size;
    this.#begin = size;
    this.#end = size;
  }

  async write(bytes: Uint8Array): Promise<void> {
    const { fd } = this.#handle;
    for (let done = 0; done < bytes.length; ) {
      const left = bytes.length - done;
      const written =
        fd !== undefined && left <= WRITE_IN_PLACE_SIZE_MAX
          ? writeSync(fd, bytes, done, left, this.size)
          : (await this.#handle.write(bytes, done, left, this.size)).bytesWritten;
      done += written;
      this.size += written;
      this.#unsynced += written;
    }
    if (this.size > this.#end) {
      if (bytes.length <= SYNC_IN_PLACE_SIZE_MAX) await this.#makeSpace();
      else this.#end = this.size;
    }
  }

  async #makeSpace(): Promise<void> {
    const { least, most } = this.#space;
    const length = Math.min(most, Math.max(least, this.size - this.#begin), zeros.length);
    this.#end = this.size + length;
    try {
      await this.#handle.write(zeros, 0, length, this.size);
    } catch {
      // A disk with little room: what was to be written is written, and the space was only to make it swifter.
    }
  }

  async sync(): Promise<void> {
    const { fd } = this.#handle;
    const begin = performance.now();
    const inPlace = this.#isSwift && this.#unsynced <= SYNC_IN_PLACE_SIZE_MAX && fd !== undefined;
    this.#unsynced = 0;
    if (inPlace) fdatasyncSync(fd);
    else await this.#handle.datasync();
    this.#isSwift = performance.now() - begin < SYNC_IN_PLACE_MAX_MS;
    // Whoever commits without end must not keep everyone else from their turn.
    if (inPlace) await turn();
  }

  async truncate(size: number): Promise<void> {
    await this.#handle.truncate(size);
    this.size = size;
    this.#end = size;
  }

  async close(): Promise<void> {
    try {
      if (this.#end > this.size) await this.truncate(this.size);
    } catch {
      // The zeros stay: they are taken for nothing.
    }
    await this.#handle.close();
  }
}

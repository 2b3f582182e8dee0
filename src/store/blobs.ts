import { MeshError } from "../errors.ts";
import { release } from "../memory.ts";
import { type Disk, joinPath } from "./disk.ts";
import type { Random } from "./seal.ts";

// Blobs: sealed bodies that are too large for a journal line, a file each. A blob is made durable before the commit that
// refers to it (`Draft.before`), and removed when nothing refers to it any more.

export interface BlobRef {
  readonly blob: string;
  readonly size: number;
}

export class Blobs {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #random: Random;
  #made: Promise<void> | undefined;
  /** The sync of the directory that runs, and the one that begins after it. */
  #settling: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(disk: Disk, directory: string, random: Random) {
    this.#disk = disk;
    this.#directory = directory;
    this.#random = random;
  }

  /** Names a blob at once, so that a commit can be decided; `write` makes it durable, and gives back the memory of its bytes. */
  reserve(sealed: Uint8Array): { ref: BlobRef; write: () => Promise<void> } {
    const blob = Buffer.from(this.#random(16)).toString("hex");
    let isWhole = false;
    return {
      ref: { blob, size: sealed.length },
      // Nobody looks for it under its name before the commit that gives it: it needs no other name until it is whole.
      write: async () => {
        this.#made ??= this.#disk.makeDirectory(this.#directory).catch((error: unknown) => {
          this.#made = undefined;
          throw error;
        });
        await this.#made;
        if (!isWhole) await this.#disk.gather(joinPath(this.#directory, blob), [sealed]);
        isWhole = true;
        release(sealed);
        await this.#settle();
      },
    };
  }

  /** Makes the names of all blobs durable that were written so far; those that are written meanwhile share the next sync. */
  #settle(): Promise<void> {
    this.#next ??= this.#settling
      .catch(() => undefined)
      .then(() => {
        this.#settling = this.#next ?? Promise.resolve();
        this.#next = undefined;
        return this.#disk.settle(this.#directory);
      });
    return this.#next;
  }

  /** @throws MeshError `store_damaged` when it is missing or too short */
  async read(ref: BlobRef): Promise<Uint8Array> {
    const path = joinPath(this.#directory, ref.blob);
    try {
      return await this.#disk.readRange(path, 0, ref.size);
    } catch (cause) {
      const size = await this.#disk.size(path).catch(() => undefined);
      if (size === undefined) throw new MeshError("store_damaged", `${path} is missing.`, { cause });
      if (size < ref.size) throw new MeshError("store_damaged", `${path} is cut short.`, { cause });
      throw cause;
    }
  }

  /** Removes every blob that nothing refers to: what a crash left between its writing and its commit. */
  async sweep(referenced: ReadonlySet<string>): Promise<void> {
    for (const blob of await this.#disk.list(this.#directory)) {
      if (!referenced.has(blob)) await this.#disk.remove(joinPath(this.#directory, blob));
    }
  }

  remove(ref: BlobRef): Promise<void> {
    return this.#disk.remove(joinPath(this.#directory, ref.blob));
  }
}

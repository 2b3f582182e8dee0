/** Disks that hold back, and disks that die. */
import { type AppendFile, type Disk, type Pieces, realDisk } from "../../src/store/disk.ts";

function wrapAppend(file: AppendFile, over: Partial<Pick<AppendFile, "write" | "sync">>): AppendFile {
  return {
    get size() {
      return file.size;
    },
    write: (bytes) => (over.write ? over.write(bytes) : file.write(bytes)),
    sync: () => (over.sync ? over.sync() : file.sync()),
    truncate: (size) => file.truncate(size),
    close: () => file.close(),
  };
}

/** A disk whose syncs wait while it is held. */
export class HeldDisk implements Disk {
  readonly #real = realDisk;
  #isHeld = false;
  #waiting: (() => void)[] = [];
  #reached: () => void = () => undefined;

  /** From now on no sync ends. Resolves when one has begun. */
  hold(): Promise<void> {
    this.#isHeld = true;
    return new Promise((resolve) => {
      this.#reached = resolve;
    });
  }
  release(): void {
    this.#isHeld = false;
    for (const go of this.#waiting.splice(0)) go();
  }
  async append(path: string): Promise<AppendFile> {
    const file = await this.#real.append(path);
    return wrapAppend(file, {
      sync: async () => {
        if (this.#isHeld) {
          await new Promise<void>((resolve) => {
            this.#waiting.push(resolve);
            this.#reached();
          });
        }
        await file.sync();
      },
    });
  }
  makeDirectory = (path: string) => this.#real.makeDirectory(path);
  read = (path: string) => this.#real.read(path);
  pieces = (path: string) => this.#real.pieces(path);
  readRange = (path: string, offset: number, length: number) => this.#real.readRange(path, offset, length);
  size = (path: string) => this.#real.size(path);
  realPath = (path: string) => this.#real.realPath(path);
  replace = (path: string, bytes: Uint8Array) => this.#real.replace(path, bytes);
  create = (path: string, bytes: Uint8Array) => this.#real.create(path, bytes);
  gather = (path: string, pieces: Pieces) => this.#real.gather(path, pieces);
  name = (from: string, to: string) => this.#real.name(from, to);
  list = (directory: string) => this.#real.list(directory);
  settle = (directory: string) => this.#real.settle(directory);
  remove = (path: string) => this.#real.remove(path);
}

/** A disk of a process that is killed at its n-th change: that change and all later ones fail and leave nothing, or half. */
export function killedAt(change: number): Disk & { readonly wasKilled: () => boolean } {
  let changes = 0;
  const dead = () => new Error("killed");
  const step = <T>(work: () => Promise<T>): Promise<T> => (++changes >= change ? Promise.reject(dead()) : work());
  return {
    ...realDisk,
    wasKilled: () => changes >= change,
    makeDirectory: (path) => step(() => realDisk.makeDirectory(path)),
    replace: (path, bytes) => step(() => realDisk.replace(path, bytes)),
    create: (path, bytes) => step(() => realDisk.create(path, bytes)),
    gather: (path, pieces) => step(() => realDisk.gather(path, pieces)),
    name: (from, to) => step(() => realDisk.name(from, to)),
    remove: (path) => step(() => realDisk.remove(path)),
    append: (path) =>
      step(async () => {
        const file = await realDisk.append(path);
        return wrapAppend(file, {
          write: async (bytes) => {
            if (++changes < change) return file.write(bytes);
            if (changes === change) await file.write(bytes.subarray(0, bytes.length >> 1));
            throw dead();
          },
          sync: () => step(() => file.sync()),
        });
      }),
  };
}

/** A home in memory: for what opens thousands of them. */
import type { AppendFile, Disk, Pieces } from "../../src/store/disk.ts";

export type Files = ReadonlyMap<string, Uint8Array>;

/** A disk whose files are in a map. Bytes are never changed in place, so a copy of the map is a copy of the disk. */
export class MemoryDisk implements Disk {
  readonly files: Map<string, Uint8Array>;

  constructor(files: Files = new Map()) {
    this.files = new Map(files);
  }

  /** A directory is there as soon as something is in it. */
  makeDirectory = async () => undefined;

  async read(path: string): Promise<Uint8Array | undefined> {
    return this.files.get(path);
  }

  async *pieces(path: string): AsyncGenerator<Uint8Array> {
    const bytes = this.files.get(path);
    if (bytes) yield bytes;
  }

  async size(path: string): Promise<number | undefined> {
    const bytes = this.files.get(path);
    if (!bytes) throw new Error(`there is no ${path}`);
    return bytes.length;
  }

  async realPath(path: string): Promise<string> {
    return path;
  }

  async readRange(path: string, offset: number, length: number): Promise<Uint8Array> {
    const bytes = this.files.get(path);
    if (!bytes || bytes.length < offset + length) throw new Error(`${path} ends before byte ${offset + length}`);
    return bytes.subarray(offset, offset + length);
  }

  async replace(path: string, bytes: Uint8Array): Promise<void> {
    this.files.set(path, Uint8Array.from(bytes));
  }

  async create(path: string, bytes: Uint8Array): Promise<boolean> {
    if (this.files.has(path)) return false;
    await this.replace(path, bytes);
    return true;
  }

  async gather(path: string, pieces: Pieces): Promise<void> {
    const bytes = await Array.fromAsync(pieces, (piece) => Uint8Array.from(piece));
    await this.replace(path, Buffer.concat(bytes));
  }

  async name(from: string, to: string): Promise<boolean> {
    const bytes = this.files.get(from);
    if (!bytes) throw new Error(`there is no ${from}`);
    if (this.files.has(to)) return false;
    this.files.set(to, bytes);
    this.files.delete(from);
    return true;
  }

  async append(path: string): Promise<AppendFile> {
    const { files } = this;
    const bytes = () => files.get(path) ?? new Uint8Array();
    files.set(path, bytes());
    return {
      get size() {
        return bytes().length;
      },
      write: async (more) => void files.set(path, Buffer.concat([bytes(), more])),
      sync: async () => undefined,
      truncate: async (size) => void files.set(path, bytes().slice(0, size)),
      close: async () => undefined,
    };
  }

  settle = async () => undefined;

  async list(directory: string): Promise<string[]> {
    const below = [...this.files.keys()].filter((path) => path.startsWith(`${directory}/`));
    return [...new Set(below.map((path) => path.slice(directory.length + 1).split("/")[0] ?? ""))].sort();
  }

  async remove(path: string): Promise<void> {
    for (const each of this.files.keys()) if (each === path || each.startsWith(`${path}/`)) this.files.delete(each);
  }
}

import { basename, dirname } from "node:path";
import type { FileSystem, OpenFile } from "../../src/store/file-system.ts";
import type { Dice } from "./dice.ts";

// The files of one machine. What a program sees is what it wrote; what the disk holds is what was synced, and at a loss of
// power of the rest anything: nothing, all, a part torn at any byte, sectors in any order. A name belongs to its directory
// and is on disk when the directory was synced.

const SECTOR = 64;

type Change =
  | { readonly kind: "write"; readonly at: number; readonly bytes: Uint8Array }
  | { readonly kind: "truncate"; readonly size: number };

function changed(content: Uint8Array, change: Change): Uint8Array {
  if (change.kind === "truncate") {
    if (change.size <= content.length) return content.slice(0, change.size);
    const longer = new Uint8Array(change.size);
    longer.set(content);
    return longer;
  }
  const { at, bytes } = change;
  const out = new Uint8Array(Math.max(content.length, at + bytes.length));
  out.set(content);
  out.set(bytes, at);
  return out;
}

/** A Buffer's own `slice` is no copy, and whose it is may do with it what it likes when it is written. */
const copyOf = (bytes: Uint8Array) => new Uint8Array(bytes);

export class FileNode {
  readonly kind = "file";
  /** As programs see it. */
  content: Uint8Array = new Uint8Array();
  /** As the disk surely holds it. */
  durable: Uint8Array = new Uint8Array();
  /** Grows whenever something that was durable is taken away. */
  generation = 0;
  #unsynced: Change[] = [];

  change(change: Change): void {
    this.content = changed(this.content, change);
    this.#unsynced.push(change);
  }

  sync(): void {
    for (const change of this.#unsynced) this.#keep(change);
    this.#unsynced = [];
  }

  /** A sync that failed: what of it reached the disk nobody knows, and the next sync does not write it again. */
  syncInVain(dice: Dice): void {
    for (const change of this.#unsynced) if (dice.chance(0.5)) this.#keep(change);
    this.#unsynced = [];
  }

  #keep(change: Change): void {
    if (change.kind === "truncate" || change.at < this.durable.length) this.generation++;
    this.durable = changed(this.durable, change);
  }

  /** The power fails. Gives whether anything was lost. */
  crash(dice: Dice): boolean {
    const before = this.content;
    const fate = dice.pick(["nothing", "all", "torn", "scattered"]);
    const unsynced = this.#unsynced;
    this.#unsynced = [];
    if (fate === "all") for (const change of unsynced) this.#keep(change);
    if (fate === "torn") {
      const whole = dice.between(0, unsynced.length);
      for (const change of unsynced.slice(0, whole)) this.#keep(change);
      const torn = unsynced[whole];
      if (torn?.kind === "write")
        this.#keep({ ...torn, bytes: torn.bytes.slice(0, dice.between(0, torn.bytes.length)) });
    }
    if (fate === "scattered") {
      for (const change of unsynced) {
        if (change.kind === "truncate") {
          if (dice.chance(0.5)) this.#keep(change);
          continue;
        }
        for (let at = 0; at < change.bytes.length; at += SECTOR) {
          const bytes = change.bytes.slice(at, at + SECTOR);
          if (dice.chance(0.6)) this.#keep({ kind: "write", at: change.at + at, bytes });
        }
      }
    }
    this.content = this.durable;
    return before.length !== this.content.length || Buffer.compare(before, this.content) !== 0;
  }
}

type Entries = Map<string, FileNode | DirectoryNode>;

export class DirectoryNode {
  readonly kind = "directory";
  entries: Entries = new Map();
  durable: Entries = new Map();
  #unsynced: ((entries: Entries) => void)[] = [];

  change(change: (entries: Entries) => void): void {
    change(this.entries);
    this.#unsynced.push(change);
  }
  sync(): void {
    for (const change of this.#unsynced) change(this.durable);
    this.#unsynced = [];
  }
  /** The power fails: of what was not synced the first changes were made, or all, or none. */
  crash(dice: Dice): boolean {
    const kept = dice.pick([0, this.#unsynced.length, dice.between(0, this.#unsynced.length)]);
    const lost = kept < this.#unsynced.length;
    for (const change of this.#unsynced.slice(0, kept)) change(this.durable);
    this.#unsynced = [];
    this.entries = new Map(this.durable);
    return lost;
  }
}

const failure = (code: string, what: string) => Object.assign(new Error(`${code}: ${what}`), { code });

/** How the disk behaves while it has a fault. */
export type DiskFault = "full" | "broken" | undefined;

/** A file system whose calls take effect at once; `Machine` makes them take time and fail. */
export class SimulatedFiles {
  readonly root = new DirectoryNode();
  fault: DiskFault;
  readonly #dice: Dice;

  constructor(dice: Dice) {
    this.#dice = dice;
  }

  node(path: string, durable = false): FileNode | DirectoryNode | undefined {
    let node: FileNode | DirectoryNode | undefined = this.root;
    for (const name of path.split("/").filter((part) => part !== "")) {
      if (node?.kind !== "directory") return undefined;
      node = (durable ? node.durable : node.entries).get(name);
    }
    return node;
  }

  directory(path: string): DirectoryNode {
    const node = this.node(path);
    if (node?.kind !== "directory") throw failure("ENOENT", path);
    return node;
  }

  file(path: string): FileNode {
    const node = this.node(path);
    if (node?.kind !== "file") throw failure(node ? "EISDIR" : "ENOENT", path);
    return node;
  }

  /** A file that was there before, whole and durable, and so is its directory. */
  put(path: string, bytes: Uint8Array): void {
    this.#made(dirname(path));
    const node = new FileNode();
    node.change({ kind: "write", at: 0, bytes });
    node.sync();
    const directory = this.directory(dirname(path));
    directory.change((entries) => entries.set(basename(path), node));
    directory.sync();
  }

  #made(path: string): void {
    if (this.node(path)) return;
    this.#made(dirname(path));
    const above = this.directory(dirname(path));
    above.change((entries) => entries.set(basename(path), new DirectoryNode()));
    above.sync();
  }

  /** The power fails. Gives how many files and directories lost something. */
  crash(): number {
    let lost = 0;
    const seen = new Set<FileNode>();
    const fall = (directory: DirectoryNode) => {
      if (directory.crash(this.#dice)) lost++;
      for (const node of directory.entries.values()) {
        if (node.kind === "directory") fall(node);
        else if (!seen.has(node)) {
          seen.add(node);
          if (node.crash(this.#dice)) lost++;
        }
      }
    };
    fall(this.root);
    return lost;
  }

  // The calls. Each may fail as the disk's fault says.

  #mayWrite(what: string): void {
    if (this.fault === "broken" && this.#dice.chance(0.3)) throw failure("EIO", what);
    if (this.fault === "full" && this.#dice.chance(0.8)) throw failure("ENOSPC", what);
  }
  #mayRead(what: string): void {
    if (this.fault === "broken" && this.#dice.chance(0.1)) throw failure("EIO", what);
  }

  open(path: string, flags: "r" | "r+" | "a+" | "wx"): OpenFile {
    this.#mayRead(`open ${path}`);
    const known = this.node(path);
    if (flags === "wx" && known) throw failure("EEXIST", path);
    if (flags === "wx" || (flags === "a+" && !known)) {
      this.#mayWrite(`open ${path}`);
      const node = new FileNode();
      this.directory(dirname(path)).change((entries) => entries.set(basename(path), node));
      return this.#handle(path, node);
    }
    if (!known) throw failure("ENOENT", path);
    return this.#handle(path, known);
  }

  #handle(path: string, node: FileNode | DirectoryNode): OpenFile {
    const file = (): FileNode => {
      if (node.kind !== "file") throw failure("EISDIR", path);
      return node;
    };
    const write = (bytes: Uint8Array, position: number) => {
      try {
        this.#mayWrite(`write ${path}`);
      } catch (error) {
        // Some of it arrives.
        const some = copyOf(bytes).subarray(0, this.#dice.between(0, bytes.length));
        if (some.length > 0) file().change({ kind: "write", at: position, bytes: some });
        throw error;
      }
      file().change({ kind: "write", at: position, bytes: copyOf(bytes) });
    };
    const sync = () => {
      if (this.fault === "broken" && this.#dice.chance(0.3)) {
        if (node.kind === "file") node.syncInVain(this.#dice);
        throw failure("EIO", `fsync ${path}`);
      }
      node.sync();
    };
    return {
      read: async (into, at, length, position) => {
        this.#mayRead(`read ${path}`);
        const part = file().content.subarray(position, position + length);
        into.set(part, at);
        return { bytesRead: part.length };
      },
      write: async (from, at, length, position) => {
        write(from.subarray(at, at + length), position);
        return { bytesWritten: length };
      },
      stat: async () => ({ size: file().content.length }),
      chmod: async () => undefined,
      truncate: async (size) => {
        this.#mayRead(`truncate ${path}`);
        file().change({ kind: "truncate", size });
      },
      sync: async () => sync(),
      datasync: async () => sync(),
      close: async () => undefined,
    };
  }

  readFile(path: string): Uint8Array {
    this.#mayRead(`read ${path}`);
    return this.file(path).content.slice();
  }
  readdir(path: string): string[] {
    this.#mayRead(`readdir ${path}`);
    return [...this.directory(path).entries.keys()];
  }
  stat(path: string): { size: number; isFile(): boolean } {
    const node = this.node(path);
    if (!node) throw failure("ENOENT", path);
    return { size: node.kind === "file" ? node.content.length : 0, isFile: () => node.kind === "file" };
  }
  /** There are no links here. */
  realpath(path: string): string {
    if (!this.node(path)) throw failure("ENOENT", path);
    return path;
  }
  mkdir(path: string): string | undefined {
    let first: string | undefined;
    let at = "";
    for (const name of path.split("/").filter((part) => part !== "")) {
      const above = this.directory(at);
      at = `${at}/${name}`;
      if (above.entries.has(name)) continue;
      this.#mayWrite(`mkdir ${at}`);
      const made = new DirectoryNode();
      above.change((entries) => entries.set(name, made));
      first ??= at;
    }
    return first;
  }
  rename(from: string, to: string): void {
    this.#mayWrite(`rename ${from}`);
    const node = this.file(from);
    this.directory(dirname(to)).change((entries) => {
      entries.delete(basename(from));
      entries.set(basename(to), node);
    });
  }
  link(from: string, to: string): void {
    this.#mayWrite(`link ${from}`);
    if (this.node(to)) throw failure("EEXIST", to);
    const node = this.file(from);
    this.directory(dirname(to)).change((entries) => entries.set(basename(to), node));
  }
  unlink(path: string): void {
    this.#mayRead(`unlink ${path}`);
    this.file(path);
    this.directory(dirname(path)).change((entries) => entries.delete(basename(path)));
  }
  rm(path: string): void {
    this.#mayRead(`rm ${path}`);
    const node = this.node(path);
    if (!node) return;
    if (node.kind === "directory") for (const name of [...node.entries.keys()]) this.rm(`${path}/${name}`);
    this.directory(dirname(path)).change((entries) => entries.delete(basename(path)));
  }
}

/** The calls as promises, each through `call`, which may take time, fail, or never come back. */
export function fileSystemOf(
  files: SimulatedFiles,
  call: <T>(what: string, work: () => T | Promise<T>) => Promise<T>,
): FileSystem {
  const handle = (path: string, open: OpenFile): OpenFile => ({
    read: (...args) => call(`read ${path}`, () => open.read(...args)),
    write: (...args) => call(`write ${path}`, () => open.write(...args)),
    stat: () => call(`stat ${path}`, () => open.stat()),
    chmod: (mode) => call(`chmod ${path}`, () => open.chmod(mode)),
    truncate: (size) => call(`truncate ${path}`, () => open.truncate(size)),
    sync: () => call(`sync ${path}`, () => open.sync()),
    datasync: () => call(`sync ${path}`, () => open.datasync()),
    close: () => call(`close ${path}`, () => open.close()),
  });
  return {
    open: async (path, flags) => handle(path, await call(`open ${path}`, () => files.open(path, flags))),
    readFile: (path) => call(`readFile ${path}`, () => files.readFile(path)),
    readdir: (path) => call(`readdir ${path}`, () => files.readdir(path)),
    stat: (path) => call(`stat ${path}`, () => files.stat(path)),
    realpath: (path) => call(`realpath ${path}`, () => files.realpath(path)),
    mkdir: (path) => call(`mkdir ${path}`, () => files.mkdir(path)),
    rename: (from, to) => call(`rename ${to}`, () => files.rename(from, to)),
    link: (from, to) => call(`link ${to}`, () => files.link(from, to)),
    unlink: (path) => call(`unlink ${path}`, () => files.unlink(path)),
    rm: (path) => call(`rm ${path}`, () => files.rm(path)),
  };
}

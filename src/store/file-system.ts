import fs from "node:fs/promises";

// What a disk asks of the operating system, call by call: between any two of them the power may fail. A port of its own, so
// that a simulation runs the disk's own steps on files of its making.

/** An open file or directory. */
export interface OpenFile {
  /** The operating system's own number of it; a file that no such system has, has none. */
  readonly fd?: number;
  read(into: Uint8Array, at: number, length: number, position: number): Promise<{ readonly bytesRead: number }>;
  write(from: Uint8Array, at: number, length: number, position: number): Promise<{ readonly bytesWritten: number }>;
  stat(): Promise<{ readonly size: number }>;
  chmod(mode: number): Promise<void>;
  truncate(size: number): Promise<void>;
  /** fsync; of a directory: its entries are on disk. */
  sync(): Promise<void>;
  datasync(): Promise<void>;
  close(): Promise<void>;
}

/** As `node:fs/promises`. */
export interface FileSystem {
  open(path: string, flags: "r" | "r+" | "a+" | "wx", mode?: number): Promise<OpenFile>;
  readFile(path: string): Promise<Uint8Array>;
  readdir(path: string): Promise<string[]>;
  stat(path: string): Promise<{ readonly size: number; isFile(): boolean }>;
  /** The path without links in it. */
  realpath(path: string): Promise<string>;
  /** The first directory that had to be made, if any. */
  mkdir(path: string, options: { readonly recursive: true; readonly mode: number }): Promise<string | undefined>;
  rename(from: string, to: string): Promise<void>;
  link(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  rm(path: string, options: { readonly recursive?: boolean; readonly force: true }): Promise<void>;
}

export const nodeFileSystem: FileSystem = fs;

import type { Message } from "./home-operation.ts";
import { HOME_LOG_MESSAGES_MAX, HOME_LOG_RATIO_MAX, HOME_LOG_SIZE_MIN } from "./limits.ts";

// What the operations of a home's log come to: its files, in memory. Who wrote the log and who reads it make the same of it.
//
// Messages whose bytes no file has any more are taken out of the log, so it has gaps. That goes from the message that counts
// to its parts: whichever are left say nothing that a later one does not say anew.

class File {
  #bytes: Uint8Array = new Uint8Array();
  size = 0;
  /** The messages that its bytes came with: the one that counts before its parts. */
  readonly messages: number[] = [];

  /** From `at` on it is these bytes. */
  write(at: number, pieces: readonly Uint8Array[]): void {
    const size = pieces.reduce((sum, { length }) => sum + length, at);
    if (size > this.#bytes.length) {
      // One that grows is given as much again.
      const grown = new Uint8Array(this.size === 0 ? size : Math.max(size, 2 * this.#bytes.length));
      grown.set(this.#bytes.subarray(0, this.size));
      this.#bytes = grown;
    }
    if (at > this.size) this.#bytes.fill(0, this.size, at);
    let position = at;
    for (const piece of pieces) {
      this.#bytes.set(piece, position);
      position += piece.length;
    }
    this.size = size;
  }

  /** A copy, since what follows it may change it. */
  slice(begin = 0, end = this.size): Uint8Array {
    return this.#bytes.slice(begin, Math.min(end, this.size));
  }
}

interface Checkpoint {
  readonly writer: string;
  readonly number: number;
  /** The position of its first message. */
  readonly begin: number;
  readonly files: Map<string, File>;
}

/** A message is not what its log's earlier ones let expect. */
export class Misfit extends Error {}

export class HomeFiles {
  #files = new Map<string, File>();
  #size = 0;
  /** Bytes and messages of the log that were not taken out of it. */
  #logSize = 0;
  #logMessages = 0;
  readonly #sizes = new Map<number, number>();
  /** Parts that wait for what they belong to. */
  #parts: { writer: string; bytes: Uint8Array[]; messages: number[] } = { writer: "", bytes: [], messages: [] };
  #checkpoint: Checkpoint | undefined;
  /** Messages before it are of no more use; 0 while there was no checkpoint. */
  begin = 0;
  /** Messages that no file needs any more, in the order in which they are to be taken out. */
  superseded: number[] = [];

  /** Takes in the message at a position of the log. @throws Misfit */
  apply(position: number, message: Message): void {
    const { writer, number, operation, bytes } = message;
    this.#count(position, bytes.length);
    if (operation.op === "part") {
      this.#part(position, message, operation.index);
      return;
    }
    const parts =
      operation.op === "write" || operation.op === "file" ? this.#joined(message, operation.parts) : undefined;
    if (!parts) this.#dropParts();
    const checkpoint = this.#checkpoint;
    const isIts = checkpoint?.writer === writer && (operation.op === "file" || operation.op === "end");
    // Whoever broke it off has written something else since.
    if (checkpoint && !isIts) this.#dropCheckpoint(checkpoint);
    switch (operation.op) {
      case "fence":
        return;
      case "write":
        this.#write(operation.path, operation.at, parts, position);
        return;
      case "name":
        this.#name(operation.from, operation.to);
        return;
      case "remove":
        for (const path of this.#below(operation.path)) this.#remove(path);
        return;
      case "checkpoint":
        this.#checkpoint = { writer, number, begin: position, files: new Map() };
        return;
      case "file": {
        if (!checkpoint || !isIts || !parts) {
          this.superseded.push(position);
          return;
        }
        const file = new File();
        file.write(0, parts.pieces);
        file.messages.push(position, ...parts.messages);
        checkpoint.files.set(operation.path, file);
        return;
      }
      case "end":
        if (checkpoint && isIts && checkpoint.number === operation.checkpoint) this.#beginWith(checkpoint);
        return;
    }
  }

  #count(position: number, size: number): void {
    this.#sizes.set(position, size);
    this.#logSize += size;
    this.#logMessages++;
  }

  #part(position: number, { writer, bytes }: Message, index: number): void {
    if (index === 0) this.#dropParts();
    if (index === 0) this.#parts.writer = writer;
    const { bytes: before, messages } = this.#parts;
    const isNext = writer === this.#parts.writer && index === before.length;
    if (isNext) before.push(bytes);
    (isNext ? messages : this.superseded).push(position);
  }

  /** The bytes of a message behind those of its parts. */
  #joined({ writer, bytes }: Message, count: number) {
    if (count === 0) this.#dropParts();
    const { writer: of, bytes: before, messages } = this.#parts;
    if (count !== before.length || (count > 0 && of !== writer)) throw new Misfit("parts of it are missing");
    this.#parts = { writer: "", bytes: [], messages: [] };
    return { pieces: [...before, bytes], messages };
  }

  #dropParts(): void {
    for (const position of this.#parts.messages) this.superseded.push(position);
    this.#parts = { writer: "", bytes: [], messages: [] };
  }

  #dropCheckpoint({ files }: Checkpoint): void {
    for (const { messages } of files.values()) for (const position of messages) this.superseded.push(position);
    this.#checkpoint = undefined;
  }

  #beginWith({ files, begin }: Checkpoint): void {
    this.#files = files;
    this.#size = [...files.values()].reduce((sum, { size }) => sum + size, 0);
    this.#checkpoint = undefined;
    this.begin = begin;
    this.superseded = this.superseded.filter((position) => position >= begin);
    for (const position of this.#sizes.keys()) if (position < begin) this.#forget(position);
  }

  #write(
    path: string,
    at: number,
    parts: { readonly pieces: readonly Uint8Array[]; readonly messages: readonly number[] } | undefined,
    position: number,
  ): void {
    if (!parts) return;
    const file = this.#files.get(path) ?? new File();
    this.#files.set(path, file);
    if (at === 0) for (const each of file.messages.splice(0)) this.superseded.push(each);
    file.messages.push(position, ...parts.messages);
    this.#size -= file.size;
    file.write(at, parts.pieces);
    this.#size += file.size;
  }

  /** What was named and is gone since may be out of the log already. */
  #name(from: string, to: string): void {
    const file = this.#files.get(from);
    if (!file) return;
    this.#files.delete(from);
    this.#files.set(to, file);
  }

  #remove(path: string): void {
    const file = this.#files.get(path);
    if (!file) return;
    this.#files.delete(path);
    this.#size -= file.size;
    for (const position of file.messages) this.superseded.push(position);
  }

  #forget(position: number): void {
    const size = this.#sizes.get(position);
    if (size === undefined) return;
    this.#sizes.delete(position);
    this.#logSize -= size;
    this.#logMessages--;
  }

  /** A message was taken out of the log. */
  erased(position: number): void {
    this.#forget(position);
  }

  /** Whether the log should be begun anew: it has become long for what it says. */
  get isLong(): boolean {
    const fair = HOME_LOG_RATIO_MAX * this.#size;
    return (
      (this.#logSize > fair && this.#logSize > HOME_LOG_SIZE_MIN) ||
      this.#logMessages > HOME_LOG_MESSAGES_MAX + 2 * this.#files.size
    );
  }

  // Looking

  get paths(): string[] {
    return [...this.#files.keys()];
  }
  /** Bytes of a file; undefined when there is none. */
  size(path: string): number | undefined {
    return this.#files.get(path)?.size;
  }
  read(path: string, begin?: number, end?: number): Uint8Array | undefined {
    return this.#files.get(path)?.slice(begin, end);
  }
  /** The file of that path, and what lies below it. */
  #below(path: string): string[] {
    return this.paths.filter((each) => each === path || each.startsWith(below(path)));
  }
  isDirectory(path: string): boolean {
    return this.paths.some((each) => each.startsWith(below(path)));
  }
  /** Names in a directory, sorted. A directory is there as long as something is in it. */
  list(directory: string): string[] {
    const start = below(directory);
    const inside = this.paths.filter((path) => path.startsWith(start)).map((path) => path.slice(start.length));
    return [...new Set(inside.map((path) => path.split("/")[0] ?? ""))].sort();
  }
}

const below = (path: string) => (path.endsWith("/") ? path : `${path}/`);

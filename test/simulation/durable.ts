import type { StoredEvent } from "../../src/store/journal.ts";
import type { FileNode, SimulatedFiles } from "./disk.ts";

// What would be left of a journal if the power failed now and all that can be lost were lost. Nothing may leave a process
// that is not in here.

interface Scanned {
  readonly node: FileNode;
  readonly generation: number;
  readonly size: number;
}

export class DurableJournal {
  readonly #files: SimulatedFiles;
  readonly #directory: () => string;
  #scanned = new Map<string, Scanned>();
  #streams = new Map<string, StoredEvent[]>();

  /** @param directory where the segments lie, at each look */
  constructor(files: SimulatedFiles, directory: string | (() => string)) {
    this.#files = files;
    this.#directory = typeof directory === "string" ? () => directory : directory;
  }

  /** Whether an event of a stream is on disk. */
  has(stream: string, isIt: (event: StoredEvent) => boolean): boolean {
    this.#scan();
    return this.#streams.get(stream)?.some(isIt) ?? false;
  }
  /** Whether such an event is on disk, in whatever stream of a kind. */
  hasAny(prefix: string, isIt: (event: StoredEvent) => boolean): boolean {
    this.#scan();
    return this.#streams.entries().some(([stream, events]) => stream.startsWith(prefix) && events.some(isIt));
  }

  #scan(): void {
    const directory = this.#files.node(this.#directory(), true);
    const segments = directory?.kind === "directory" ? [...directory.durable].sort(([a], [b]) => (a < b ? -1 : 1)) : [];
    const isSame = ([name, node]: (typeof segments)[number]) => {
      const known = this.#scanned.get(name);
      return !known || (known.node === node && known.generation === node.generation);
    };
    if (this.#scanned.size > segments.length || !segments.every(isSame)) {
      this.#scanned = new Map();
      this.#streams = new Map();
    }
    for (const [name, node] of segments) {
      if (node.kind !== "file") continue;
      const from = this.#scanned.get(name)?.size ?? 0;
      if (node.durable.length === from && from > 0) continue;
      const text = Buffer.from(node.durable.subarray(from)).toString("utf8");
      const end = text.lastIndexOf("\n") + 1;
      for (const line of text.slice(0, end).split("\n")) this.#take(line);
      const size = from + Buffer.byteLength(text.slice(0, end));
      this.#scanned.set(name, { node, generation: node.generation, size });
    }
  }

  #take(line: string): void {
    let json: { readonly e?: readonly ({ readonly s: string } & StoredEvent)[] };
    try {
      json = JSON.parse(line);
    } catch {
      // A torn line is no line.
      return;
    }
    for (const { s, ...event } of json.e ?? []) {
      const events = this.#streams.get(s);
      if (events) events.push(event as StoredEvent);
      else this.#streams.set(s, [event as StoredEvent]);
    }
  }
}

import type { Place } from "../../store/journal.ts";

// Messages of one direction, in the order of the journal: all that somebody still waits for, and the newest of the others.

/** in: held (its sender is not admitted) | unread | read. out: queued | sent | uncertain | delivered | read | undeliverable. */
export const MESSAGE_STATES = [
  "held",
  "unread",
  "read",
  "queued",
  "sent",
  "uncertain",
  "delivered",
  "undeliverable",
] as const;
export type MessageState = (typeof MESSAGE_STATES)[number];

export interface MessageEntry {
  readonly id: string;
  readonly peer: string;
  /** Epoch milliseconds. */
  readonly at: number;
  readonly state: MessageState;
  /** Its words were destroyed. */
  readonly forgotten?: boolean;
  readonly place: Place;
}

/** A peer and an id of one of its messages. */
export const keyOf = (peer: string, id: string) => `${peer} ${id}`;

/** Somebody waits for it: it is never left out. */
const isOpen = ({ state }: MessageEntry) => state === "held" || state === "unread" || state === "queued";

export class MessageList {
  readonly #kept: number;
  readonly #onLeft: (key: string) => void;
  readonly #entries = new Map<string, MessageEntry>();
  /** Those of them that somebody waits for, in the same order but for what is taken back. */
  readonly #open = new Map<string, MessageEntry>();

  /**
   * @param kept how many entries that nobody waits for are kept at least; at twice as many the oldest leave
   * @param onLeft told of each that leaves
   */
  constructor(kept: number, onLeft: (key: string) => void = () => undefined) {
    this.#kept = kept;
    this.#onLeft = onLeft;
  }

  get(key: string): MessageEntry | undefined {
    return this.#entries.get(key);
  }

  values(): IterableIterator<MessageEntry> {
    return this.#entries.values();
  }

  /** Those that somebody still waits for. */
  open(): MapIterator<MessageEntry> {
    return this.#open.values();
  }

  /** How many nobody waits for any more. */
  get #settled(): number {
    return this.#entries.size - this.#open.size;
  }

  put(entry: MessageEntry): void {
    const key = keyOf(entry.peer, entry.id);
    this.#entries.set(key, entry);
    if (isOpen(entry)) this.#open.set(key, entry);
    else this.#open.delete(key);
    if (this.#settled > 2 * this.#kept) this.#trim();
  }

  #trim(): void {
    for (const [key, entry] of this.#entries) {
      if (this.#settled <= this.#kept) return;
      if (isOpen(entry)) continue;
      this.#entries.delete(key);
      this.#onLeft(key);
    }
  }
}

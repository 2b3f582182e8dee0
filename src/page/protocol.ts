// What the inspector's server tells its page, over a WebSocket, as JSON. Texts that come again and again are sent once and then
// meant by their number: `words` holds those that are new, in order, from 1 on.

/** What a row has, one number after the other: what it has more than the row before it in `number` and `at`, and the others as they are. */
export const ROW = {
  /** The number of the commit. */
  number: 0,
  /** Epoch milliseconds. */
  at: 1,
  /** A word: the stream's name. */
  stream: 2,
  /** A shape. */
  shape: 3,
} as const;
export const ROW_SIZE = 4;

/** What many rows have in common, one number after the other; 0 is no word. */
export const SHAPE = {
  /** A word: the event's type. */
  event: 0,
  /** A word: the paths of the states that are active after it, separated by spaces. */
  state: 1,
  /** Words: who told whom, if it went between two. */
  from: 2,
  to: 3,
  /** A word: what a conversation's peer is called, or how far an offload is. */
  note: 4,
  /** 1, or 0 when the machine had no use for it. */
  accepted: 5,
} as const;
export const SHAPE_SIZE = 6;

/** Events of the journal, in order; those that are there come first, and then each as it comes. */
export interface Rows {
  readonly type: "rows";
  /** Those that are new, from where the last ones ended. */
  readonly words: readonly string[];
  /** Those that are new, from 0 on. */
  readonly shapes: readonly number[];
  readonly rows: readonly number[];
}

/** All that was in the journal when the page came has been told. */
export interface Ready {
  readonly type: "ready";
  /** The home that is shown. */
  readonly home: string;
}

/** An actor that lives without a journal, such as the link to the relay. */
export interface Live {
  readonly type: "live";
  readonly stream: string;
  readonly state: string;
  readonly event: string | null;
  readonly at: number;
}

/** There will be no more: why. */
export interface Ended {
  readonly type: "ended";
  readonly reason: string;
}

export type Told = Rows | Ready | Live | Ended;

/** Whoever is meant by it in the sequence diagram. */
export const LAPTOP = "this home";

/** A stream at a moment, as the server answers `state?stream=…&number=…`; without a number, as it is now. */
export interface Shown {
  readonly stream: string;
  readonly events: number;
  readonly number: number;
  readonly at: string | null;
  readonly context: Readonly<Record<string, unknown>>;
  readonly timers: readonly { readonly id: string; readonly at: string }[];
  readonly accepts: readonly string[];
  readonly effects: readonly string[];
}

import { MESSAGE_STATES, type MessageEntry } from "./message-list.ts";

// Messages as they stand in a snapshot file: thousands of rows, so each is short and quickly read. DIDs and segments are
// named once and then by number. The file is a cache of our own whose hash was checked: rows are looked at, not parsed.

interface Messages {
  readonly incoming: Iterable<MessageEntry>;
  readonly outgoing: Iterable<MessageEntry>;
  /** `<peer> <id>` */
  readonly recent: Iterable<string>;
  /** Peers that are not admitted. */
  readonly held: Iterable<string>;
}

/** id, peer, at, state, segment, offset, length. A state behind the last one is that of a message whose words were destroyed. */
type MessageRow = readonly [string, number, number, number, number, number, number];
/** id, peer */
type RecentRow = readonly [string, number];

/** Gives each text a number, in the order in which they come. */
class Names {
  readonly #numbers = new Map<string, number>();
  numberOf(name: string): number {
    const known = this.#numbers.get(name);
    if (known !== undefined) return known;
    this.#numbers.set(name, this.#numbers.size);
    return this.#numbers.size - 1;
  }
  get list(): string[] {
    return [...this.#numbers.keys()];
  }
}

export function captureMessages({ incoming, outgoing, recent, held }: Messages): unknown {
  const peers = new Names();
  const segments = new Names();
  const row = ({ id, peer, at, state, forgotten, place }: MessageEntry): MessageRow => [
    id,
    peers.numberOf(peer),
    at,
    MESSAGE_STATES.indexOf(state) + (forgotten ? MESSAGE_STATES.length : 0),
    segments.numberOf(place.segment),
    place.offset,
    place.length,
  ];
  const recentRow = (key: string): RecentRow => {
    const space = key.indexOf(" ");
    return [key.slice(space + 1), peers.numberOf(key.slice(0, space))];
  };
  return {
    incoming: Array.from(incoming, row),
    outgoing: Array.from(outgoing, row),
    recent: Array.from(recent, recentRow),
    held: [...held],
    peers: peers.list,
    segments: segments.list,
  };
}

const isRow = (value: unknown, length: number): value is readonly [string, ...number[]] =>
  Array.isArray(value) &&
  value.length === length &&
  value.every((part, i) => typeof part === (i ? "number" : "string"));
const isTexts = (value: unknown): value is readonly string[] =>
  Array.isArray(value) && value.every((each) => typeof each === "string");

/** @throws when it is in no form that is known */
export function restoreMessages(state: unknown): Messages {
  const { incoming, outgoing, recent, held, peers, segments } = {
    ...(typeof state === "object" ? state : undefined),
  } as {
    readonly [part in "incoming" | "outgoing" | "recent" | "held" | "peers" | "segments"]?: unknown;
  };
  if (!isTexts(peers) || !isTexts(segments) || !isTexts(held)) throw new Error("messages in an unknown form");
  const named = (names: readonly string[], number: number | undefined): string => {
    const name = names[number ?? -1];
    if (name === undefined) throw new Error("a message names what is not there");
    return name;
  };
  const rows = (value: unknown, length: number) => {
    if (!Array.isArray(value)) throw new Error("messages in an unknown form");
    return value.map((each: unknown) => {
      if (!isRow(each, length)) throw new Error("a message in an unknown form");
      return each;
    });
  };
  const entry = ([id, peer, at = 0, stateNumber = -1, segment, offset = 0, length = 0]: readonly [
    string,
    ...number[],
  ]): MessageEntry => {
    const forgotten = stateNumber >= MESSAGE_STATES.length;
    const entryState = MESSAGE_STATES[forgotten ? stateNumber - MESSAGE_STATES.length : stateNumber];
    if (!entryState) throw new Error("a message in an unknown state");
    return {
      id,
      peer: named(peers, peer),
      at,
      state: entryState,
      ...(forgotten && { forgotten }),
      place: { segment: named(segments, segment), offset, length },
    };
  };
  return {
    incoming: rows(incoming, 7).map(entry),
    outgoing: rows(outgoing, 7).map(entry),
    recent: rows(recent, 2).map(([id, peer]) => `${named(peers, peer)} ${id}`),
    held,
  };
}

// What bounds this room alone, as ../limits.ts says it for the rest.

/** Characters of one message that `run` prints, so that other messages stay visible. `run` says how to see the rest. */
export const FEED_WORDS_LENGTH_MAX = 4_000;

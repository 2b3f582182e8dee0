// What bounds this room alone, as ../limits.ts says it for the rest.

/** Characters of one message that `run` prints as it comes, so that others can be seen: the rest is told, with how to see it. */
export const FEED_WORDS_LENGTH_MAX = 4_000;

// What bounds the words of servers and peers that reach a person, as ../limits.ts says it for the rest.

/** Kinds of frames in no known form that are told of, each once: peers choose the kinds, and could fill a log with ever new ones. */
export const UNKNOWN_KINDS_MAX = 32;
/** The longest quotation of a server's words in a sentence of ours: the rest of them is cut off. */
export const QUOTE_LENGTH_MAX = 120;
/** Why a link ended, as its machine keeps it: the rest is cut off. */
export const CLOSE_REASON_LENGTH_MAX = 200;

// What bounds texts of the wire, as ../limits.ts says it for the rest.

/** The length of the token in a connect, as the reference relay limits it. There it is a token of the cluster's identity provider. */
export const CONNECT_TOKEN_LENGTH_MAX = 16_384;
/** The length of a relay's words in an error frame. The rest is cut off. */
export const RELAY_WORDS_LENGTH_MAX = 500;
/** Lists and objects around each other in JSON from outside, several times what any has: a deeper text counts as no JSON. */
export const JSON_DEPTH_MAX = 32;
/**
 * Strings, commas and opening brackets of one JSON text from outside, since building them costs far more than sending them: a text
 * with more counts as no JSON. A frame has a few dozen, and an arrival notice of 256 ids 600. A registry's answer that lists
 * 200 agents with all their capabilities, and the longest list of results of a deployed sandbox, have about 20,000.
 */
export const FRAME_PARTS_MAX = 4_096;
export const BODY_PARTS_MAX = 65_536;

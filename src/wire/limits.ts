// What bounds texts of the wire, as ../limits.ts says it for the rest.

/** The length of the token in a connect, as the reference relay limits it. There it is a token of the cluster's identity provider. */
export const CONNECT_TOKEN_LENGTH_MAX = 16_384;
/** The length of a relay's words in an error frame. The rest is cut off. */
export const RELAY_WORDS_LENGTH_MAX = 500;

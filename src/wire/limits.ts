// What bounds texts of the wire, as ../limits.ts says it for the rest.

/** The token of a connect, as at the reference relay, where it is a token of the cluster's identity provider. */
export const CONNECT_TOKEN_LENGTH_MAX = 16_384;
/** What a relay says in an error frame: the rest of it is cut off. */
export const RELAY_WORDS_LENGTH_MAX = 500;

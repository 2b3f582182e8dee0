// What bounds the dealings with deployed clusters, as ../../limits.ts says it for the rest.

const SECOND_MS = 1000;

/** How long a caller waits for a controller that answers over the relay: then it is told so, and the asking goes on. */
export const PAIR_WAIT_MS = 120 * SECOND_MS;
/** Words of a controller that are quoted when they mean nothing that is known: the rest is cut off. */
export const REFUSAL_LENGTH_MAX = 200;
/** Plaintext messages of a controller that are taken in at once, which are in memory: a further one is left at the relay. */
export const PLAIN_WAITING_MAX = 256;
/** Senders whose plaintext was refused that are remembered, so that each is told of once: then they are told of anew. */
export const REFUSED_SENDERS_KEPT = 256;
/** Agents of a sandbox's name that are pinged, online ones and the newest first: the others are not looked at. */
export const CANDIDATES_MAX = 8;
/** When a registry that did not answer is asked again whether the sender of a hello carries the sandbox's name. */
export const NAME_RETRY_MS = 5 * SECOND_MS;
/** How often chunks of one transfer are sent again when they are asked for: then the asking is passed over. */
export const RESENDS_MAX = 4;

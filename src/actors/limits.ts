// What bounds delivery over relays that may lose mail, and to peers that may lose sessions.

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;

/** How long arrivals are gathered before a peer is told of them over a plain relay: one notice names many. */
export const ARRIVAL_DELAY_MS = 100;
/** How often a peer is told, and listened to, that messages are missing: each time it sends all of them again. */
export const MISSING_EVERY_MS = SECOND_MS;
/** When a message that a peer has not confirmed is sent again over a plain relay: doubled from the first to the last, which repeats. */
export const RESEND_MIN_MS = 5 * SECOND_MS;
export const RESEND_MAX_MS = 5 * MINUTE_MS;
/** After which silence a plain peer may have lost its sessions and is knocked at anew: doubled up to the second while it stays silent. */
export const RENEW_AFTER_MS = 30 * SECOND_MS;
export const RENEW_EVERY_MAX_MS = 60 * MINUTE_MS;
/** How long a plain client keeps frames that came before a knock (3 s): a new knock to it waits until those are gone. */
export const RENEW_QUIET_MS = 4 * SECOND_MS;
/** For how long frames that were under way may cross a knock of ours: later ones were sent by a peer that does not have it. */
export const SUPERSEDED_LATE_MS = 15 * SECOND_MS;

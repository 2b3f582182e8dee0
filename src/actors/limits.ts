// What bounds this room alone, as ../limits.ts says it for the rest.

const KiB = 1024;
const MiB = 1024 * KiB;
const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const DAY_MS = 24 * 60 * MINUTE_MS;

// Messages

/**
 * The JSON of a chat message, which goes as one frame, so that it has less than the 1 MiB that the Python client takes and a sandbox
 * of NemoClaw lets through: either would lose a larger one, so it is refused with `limit_reached`.
 */
export const CHAT_PAYLOAD_SIZE_MAX = ((MiB - 2 * KiB) * 3) / 4;
/** Message text that one inbox answer carries: the rest is told and left unread. */
export const INBOX_CHARACTERS_MAX = 100_000;
/** Message text that one answer to a program carries, so that it fits a line of the owner's socket: it asks again for the rest. */
export const WORDS_PAGE_MAX = 4 * MiB;
/**
 * Messages of each direction that are done with (read; sent or undeliverable) and still listed, all of which a restart reads:
 * at twice as many the older half leaves `inbox --all` and is unknown to `sent`; its words stay in the journal.
 */
export const MESSAGES_KEPT = 5_000;
/** Bodies whose words one call asks for, so that its answer fits a line of the owner's socket: whoever wants more asks again. */
export const WORDS_ASKED_MAX = 16;
/** News that one question may name as known, each of which is looked up: more are refused with `input_invalid`. */
export const NEWS_KNOWN_MAX = 10_000;

// Peers

/** Candidates that an ambiguous name is answered with, so that it can be read: the rest is counted. */
export const CANDIDATES_SHOWN_MAX = 8;
/** Capabilities that a registry is asked for, one request each, which lists agents by capability only: the answer says so. */
export const DISCOVER_QUESTIONS_MAX = 24;
/** Agents that a registry is asked about one by one, two requests each, when its lists do not say who is online: of others nothing is said. */
export const DISCOVER_DETAILS_MAX = 32;
/** Such requests that are under way at once. */
export const DISCOVER_AT_ONCE = 8;

// Payloads that travel in chunks

/** Transfers of one peer that may be incomplete at once, which bounds what their parts take: the oldest is dropped and reported. */
export const TRANSFERS_OPEN_MAX = 8;
/** Transfers of one peer that have ended and are remembered, so that a part that comes again is known: the oldest is forgotten. */
export const TRANSFERS_ENDED_KEPT = 256;
/**
 * How long the parts of such transfers wait when no further one comes of a peer that sends nothing again, as long as relays keep
 * mail: then those that are there are let go of.
 */
export const TRANSFER_WAIT_MS = 3 * DAY_MS;

// Relays that may lose mail, and peers that may lose sessions

/** How long arrivals are gathered before a peer is told of them over a plain relay: one notice names many. */
export const ARRIVAL_DELAY_MS = 100;
/** How often a peer is told, and listened to, that messages are missing: each time it sends all of them again. */
export const MISSING_EVERY_MS = SECOND_MS;
/** When a message that a peer has not confirmed is sent again over a plain relay: doubled from the first to the last, which repeats. */
export const RESEND_MIN_MS = 5 * SECOND_MS;
export const RESEND_MAX_MS = 5 * MINUTE_MS;
/**
 * After which silence a plain peer may have lost its sessions: the next message goes with a new knock, and whether the peer was restarted
 * is looked up. Both take a one-time prekey of the peer, so the pause is doubled up to the second while it stays silent.
 */
export const RENEW_AFTER_MS = 30 * SECOND_MS;
export const RENEW_EVERY_MAX_MS = 60 * MINUTE_MS;
/** How long a plain client keeps frames that came before a knock (3 s): a new knock to it waits until those are gone. */
export const RENEW_QUIET_MS = 4 * SECOND_MS;
/** For how long frames that were under way may cross a knock of ours: later ones were sent by a peer that does not have it. */
export const SUPERSEDED_LATE_MS = 15 * SECOND_MS;

// The words of servers and peers that reach a person

/** Kinds of frames in no known form that are told of, each once: peers choose the kinds, and could fill a log with ever new ones. */
export const UNKNOWN_KINDS_MAX = 32;
/** The longest quotation of a server's words in a sentence of ours: the rest of them is cut off. */
export const QUOTE_LENGTH_MAX = 120;
/** Why a link ended, as its machine keeps it: the rest is cut off. */
export const CLOSE_REASON_LENGTH_MAX = 200;

// What bounds this room alone, as ../limits.ts says it for the rest.

const KiB = 1024;
const MiB = 1024 * KiB;
const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const DAY_MS = 24 * 60 * MINUTE_MS;

// Messages

/**
 * Bytes of a chat message's JSON. A chat message is one frame, and this keeps the frame below 1 MiB: the Python client and a sandbox of
 * NemoClaw would lose a larger one. A larger message is refused with `limit_reached`.
 */
export const CHAT_PAYLOAD_SIZE_MAX = ((MiB - 2 * KiB) * 3) / 4;
/** Message text that one inbox answer carries: the rest is told and left unread. */
export const INBOX_CHARACTERS_MAX = 100_000;
/** Message text in one answer to a program, so that the answer fits a line of the owner's socket. The program asks again for the rest. */
export const WORDS_PAGE_MAX = 4 * MiB;
/**
 * Messages of each direction that are done with (read; sent or undeliverable) and still listed, all of which a restart reads:
 * at twice as many the older half leaves `inbox --all` and is unknown to `sent`; its words stay in the journal.
 */
export const MESSAGES_KEPT = 5_000;
/** Bodies whose words one call asks for, so that its answer fits a line of the owner's socket. The caller asks again for more. */
export const WORDS_ASKED_MAX = 16;
/** News that one question may name as known, each of which is looked up: more are refused with `input_invalid`. */
export const NEWS_KNOWN_MAX = 10_000;

// Peers

/** Candidates that an ambiguous name is answered with, so that it can be read: the rest is counted. */
export const CANDIDATES_SHOWN_MAX = 8;
/** Capabilities asked of a registry that lists agents only by capability, one request each. The answer says that it may be incomplete. */
export const DISCOVER_QUESTIONS_MAX = 24;
/** Agents asked about one by one, two requests each, if the registry's list does not say who is online. It stays unknown for the rest. */
export const DISCOVER_DETAILS_MAX = 32;
/** Requests of these two kinds that are under way at once. */
export const DISCOVER_AT_ONCE = 8;

// Payloads that travel in chunks

/** Transfers of one peer that may be incomplete at once, which bounds what their parts take: the oldest is dropped and reported. */
export const TRANSFERS_OPEN_MAX = 8;
/** Transfers of one peer that have ended and are remembered, so that a part that comes again is known: the oldest is forgotten. */
export const TRANSFERS_ENDED_KEPT = 256;
/**
 * How long the parts of an incomplete transfer wait after the last one came from a peer that sends nothing again. Relays keep mail for
 * as long. Then the parts are dropped.
 */
export const TRANSFER_WAIT_MS = 3 * DAY_MS;

// Relays that may lose mail, and peers that may lose sessions

/** How long arrivals are gathered before a notice goes to the peer over a plain relay, so that one notice names many. */
export const ARRIVAL_DELAY_MS = 100;
/** How often a side says that messages are missing, and how often the other side reacts by sending all of them again. */
export const MISSING_EVERY_MS = SECOND_MS;
/** The pause before an unconfirmed message is sent again over a plain relay. It doubles from the first value up to the second. */
export const RESEND_MIN_MS = 5 * SECOND_MS;
export const RESEND_MAX_MS = 5 * MINUTE_MS;
/**
 * The silence after which a plain peer may have lost its sessions: the next message goes with a new knock, and a look at the registry
 * shows whether the peer was restarted. Both use up one of the peer's one-time prekeys, so the pause doubles up to the second value.
 */
export const RENEW_AFTER_MS = 30 * SECOND_MS;
export const RENEW_EVERY_MAX_MS = 60 * MINUTE_MS;
/** A new knock waits this long after the last frame, because a plain client keeps unreadable frames for 3 s and tries them again. */
export const RENEW_QUIET_MS = 4 * SECOND_MS;
/** How long a peer's frames may still cross our knock. A later frame in an older session shows that the knock did not reach it. */
export const SUPERSEDED_LATE_MS = 15 * SECOND_MS;

// Words of servers and peers that people see

/** Kinds of frames of an unknown form that are logged, each once. Peers choose the kinds and could fill a log with new ones. */
export const UNKNOWN_KINDS_MAX = 32;
/** The longest quotation of a server's words in one of our sentences. The rest is cut off. */
export const QUOTE_LENGTH_MAX = 120;
/** The reason for a link's end, as its machine stores it. The rest is cut off. */
export const CLOSE_REASON_LENGTH_MAX = 200;

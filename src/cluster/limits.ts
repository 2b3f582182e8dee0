// Limits of the cluster's own room, as ../limits.ts says it for the rest.

const SECOND_MS = 1000;
const KiB = 1024;
const MiB = 1024 * KiB;

/** How long the operator's policy may take to decide: then it has refused, so that nothing passes that nobody looked at. */
export const POLICY_WAIT_MS = 30 * SECOND_MS;
/** What it may print, which is in memory: the rest is not read. */
export const POLICY_OUTPUT_SIZE_MAX = 64 * KiB;
/** Its reason, which is shown as one line: it is cut. */
export const POLICY_REASON_LENGTH_MAX = 500;
/** How long a sandbox waits for the laptop to have its log before it says that the task has ended: then it says so without. */
export const LOG_WAIT_MS = 30 * SECOND_MS;
/** What of the audit record is read when it is opened, to find its last commit: as much as the longest commit takes. */
export const AUDIT_TAIL_SIZE = 4 * 1024 * KiB;
/** More than the signed line takes that begins or closes a segment of the audit record, in bytes. */
export const SEGMENT_LINE_SIZE_MAX = 2 * KiB;
/** Lines of the audit record that one answer lists unless asked for more, and the most, since they are in memory. */
export const AUDIT_PAGE = 50;
export const AUDIT_PAGE_MAX = 10_000;
/** How long the operator's command waits for a sandbox to stand or to be gone: then it says how far it is. */
export const STANDING_WAIT_MS = 30 * SECOND_MS;
/** How long a request waits for a slot that is just being given back: about as long as a sandbox takes to end when it is asked to. */
export const SLOT_FREEING_WAIT_MS = 3 * SECOND_MS;
/** How long a sandbox that is ended before it is on the mesh tries to get there, to leave the registry in order: then it ends as it is. */
export const SANDBOX_LEAVE_WAIT_MS = SECOND_MS;

// Abuse and overload

/** What may come of a stranger before its connect is whole, more than one with the longest token takes: above it, its line is cut. */
export const CONNECT_SIZE_MAX = 24 * KiB;
/** Connects that are remembered while they could be used again, so that none is: above it, the oldest is forgotten. */
export const CONNECTS_REMEMBERED_MAX = 100_000;
/** Sockets that may wait for their connect at once, and how long each may then: above both, the one that came first is closed. */
export const WAITING_SOCKETS_MAX = 512;
export const CROWDED_WAIT_MS = SECOND_MS;

/**
 * What may come at once and how much a minute after that, by agent and by address: far above what one of ours ever does. What
 * is done above each stands in rates.ts.
 */
export const RATE_LIMITS = {
  /** Frames and bytes that are read of one agent: above either, its sockets are read later. */
  frames_per_agent: { burst: 40_000, perMinute: 240_000 },
  bytes_per_agent: { burst: 256 * MiB, perMinute: 60 * 32 * MiB },
  /** Connects that one agent proved: above it they are closed with 1013. One-shot commands connect once each. */
  connects_per_agent: { burst: 600, perMinute: 300 },
  /** WebSockets of one address: above it they are refused with 429 before they are one. */
  connects_per_address: { burst: 2_000, perMinute: 600 },
  /** Registrations of one address, each of which takes a place of AGENTS_MAX: above it they are refused with 429. */
  registrations_per_address: { burst: 200, perMinute: 30 },
  /** One-time prekeys that one address takes, and that are taken of one agent: above either, bundles come without one. */
  bundles_per_address: { burst: 500, perMinute: 60 },
  bundles_per_agent: { burst: 200, perMinute: 10 },
  /** HTTP requests of one address, of all kinds: above it they are refused with 429. */
  requests_per_address: { burst: 2_000, perMinute: 3_000 },
} as const;
/** How much more of all that this machine itself may do, where tests, benchmarks and sandboxes are many: above it as above. */
export const LOCAL_RATE_FACTOR = 10;
/** Agents or addresses whose rate is remembered, of each limit: whoever was heard of longest ago begins anew. */
export const RATES_KEPT_MAX = 20_000;
/** Sockets of one address at once, less than half of all: a further one is closed as soon as it is opened. */
export const ADDRESS_CONNECTIONS_MAX = 4_000;
/**
 * How long a reader may take nothing of what waits in its socket, beside the time that so much takes at the slowest rate (bytes a
 * second) that is still one: then its connection is closed with 4008, and its mail stays.
 */
export const READER_WAIT_MS = 60 * SECOND_MS;
export const READER_RATE_MIN = 64 * KiB;
/**
 * Frames and bytes that a plain client was given and has not confirmed, since a line that breaks may cost all of them: the next
 * frame waits in the mailbox.
 */
export const UNCONFIRMED_FRAMES_MAX = 4;
export const UNCONFIRMED_SIZE_MAX = 256 * KiB;
/**
 * Frames of a plain client that are noted before they may be given, so that a flood does not wait for the disk at every few; their
 * bytes are bounded as above. A relay that is killed costs all of them: the next frame waits in the mailbox.
 */
export const NOTED_FRAMES_MAX = 32;
/**
 * A confirmation is due after the first, and so many times what confirmations take. That is less than the second for which the
 * reference clients wait before they connect again, so that what is given to a dead line meanwhile is known to be lost.
 */
export const CONFIRMATION_MS = 500;
export const CONFIRMATION_TIMES = 4;
/**
 * On a line that died unnoticed, a frame is in doubt that was given sooner after the last confirmation than so many times what one
 * takes: up to there one in so many has arrived. That is a stream; what is further apart, as in a chat, is given again.
 */
export const DOUBT_TIMES = 10;
/** How long a client that sends frames may leave a ping unanswered: then it gets its mail without confirming it, and gets it again. */
export const CONFIRMATION_WAIT_MS = 30 * SECOND_MS;
/** How long the other side of a WebSocket has to say goodbye as well: then the socket is ended. */
export const GOODBYE_WAIT_MS = 10 * SECOND_MS;
/** How often HTTP connections are looked through for those that take too long: how late they may be noticed. */
export const SLOW_REQUESTS_EVERY_MS = 2 * SECOND_MS;
/** What of an error's sentence a line of the log holds, which is one line: it is cut. */
export const LOG_DETAIL_LENGTH_MAX = 500;
/** How often a limit that is met is written to the log, which whoever meets it must not fill: those between are counted only. */
export const LIMIT_LOG_EVERY_MS = 10 * SECOND_MS;

// Draining and readiness

/** The time over which a draining server hands its connections over, so that they do not all come to another one at once. */
export const DRAIN_MS = 10 * SECOND_MS;
/** The steps in which it does, and the least that goes with each: so few are handed over at once. */
export const DRAIN_EVERY_MS = 100;
export const DRAIN_SLICE = 64;
/** How long a connection's frames may take to be durable before it is handed over: then its sender hears of the rest later. */
export const DRAIN_CALM_MS = 2 * SECOND_MS;
/** How long a store that refused counts as failing when nothing more is asked of it: then the server is tried again. */
export const TROUBLE_MS = 30 * SECOND_MS;
/** How often the files of a certificate are looked at: how late one that was renewed is taken. */
export const CERTIFICATE_LOOK_EVERY_MS = 5 * SECOND_MS;
/** How often a relay looks whether its state can be used: how much later its clients are sent to others. */
export const TROUBLE_LOOK_MS = SECOND_MS;

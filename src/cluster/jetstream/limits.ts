// Limits of a cluster's state in NATS, as ../../limits.ts says it for the rest.

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const KiB = 1024;

/** How long a frame is offered to the stream, again and again, while NATS elects and heals: then its sender is refused. */
export const PUT_PATIENCE_MS = 12 * SECOND_MS;
/** How long one answer of NATS is waited for: then it is asked again. */
export const ANSWER_WAIT_MS = 2 * SECOND_MS;
/** How long one node of NATS is waited for that does not take us in: then the next is tried, and of the last one that is said. */
export const CONNECT_WAIT_MS = 5 * SECOND_MS;
/** How often NATS is asked for a sign of life: when one is missing at the next, the connection is given up and made anew. */
export const PING_EVERY_MS = SECOND_MS;
/** How long NATS may be away unnoticed: then this replica says that it is not ready, and sends its clients to others. */
export const AWAY_MS = SECOND_MS;
/** How long a process that starts waits for a NATS that has no leader yet: then it ends with an error. */
export const START_PATIENCE_MS = 30 * SECOND_MS;
/** How long an ack is offered to NATS while its reader stays: then it is lost, and the frame comes again. */
export const ACK_PATIENCE_MS = 60 * SECOND_MS;
/** How long NATS knows a frame that comes again, acked or not: a later repetition is known by its recipient alone. */
export const DEDUPE_WINDOW_MS = HOUR_MS;
/** A frame above it is kept in parts of this size, since a message of NATS is at most 1 MB by default. */
export const INLINE_SIZE_MAX = 256 * KiB;
export const PART_SIZE = 512 * KiB;
/** Parts of one mailbox, 256 MiB: what is too much is refused to its sender. */
export const PARTS_MAX = 512;
/** Frames of one mailbox that are read ahead of its reader's socket, and their bytes: then reading waits for the socket. */
export const READ_AHEAD_FRAMES_MAX = 256;
export const READ_AHEAD_SIZE_MAX = 1024 * KiB;
/** More frames than that are fetched by a consumer of their own; fewer are asked for one by one. */
export const READ_SINGLY_MAX = 16;
/**
 * How long a relay that takes a plain client over waits for the relay before it to settle what it gave: then that one has died, or
 * cannot tell, and what it may have given is removed. And how often it looks.
 */
export const RELEASE_WAIT_MS = SECOND_MS;
export const RELEASE_LOOK_MS = 50;
/** How often a mailbox is looked into although nobody told of mail: how late a lost word of it may be noticed. */
export const LOOK_EVERY_MS = 30 * SECOND_MS;
/** Senders to one connection whose last frame is remembered: of another one the mailbox is read. */
export const SENDERS_REMEMBERED_MAX = 1_024;
/** Frames given ahead of what was read in order: then the mailbox is read. */
export const GIVEN_AHEAD_MAX = 1_024;
/** Pairs of sender and recipient whose last frame is remembered: of another one the recipient's mailbox is read. */
export const PAIRS_REMEMBERED_MAX = 16_384;
/** Mailboxes are spread over so many streams, unless the cluster was begun with another number. */
export const SHARDS = 8;
/** How long an operation of a home is offered to NATS while it elects and heals: then the disk has refused it. */
export const HOME_PATIENCE_MS = 12 * SECOND_MS;
/** Bytes of a file in one message, which is at most 1 MB by default: more goes in parts, and counts with its last one. */
export const HOME_MESSAGE_SIZE_MAX = 512 * KiB;
/** A path in a home: a longer one is refused. */
export const HOME_PATH_LENGTH_MAX = 1_024;
/** Messages of a home that are fetched at once when it is opened, each up to its size above: the next come after them. */
export const HOME_FETCH_MAX = 128;
/** A home's log has so many times the bytes of its files, and so many bytes at least: then it is begun anew. */
export const HOME_LOG_RATIO_MAX = 4;
export const HOME_LOG_SIZE_MIN = 4 * 1024 * KiB;
/** Messages of a home's log, which the next to open must read one by one: then it is begun anew. */
export const HOME_LOG_MESSAGES_MAX = 20_000;
/** Messages that no file needs any more, taken out of a home's log after one operation: more are left to the next. */
export const HOME_ERASED_MAX = 256;
/** Between two tries of what failed at once, since it would fail at once again. */
export const RETRY_REST_MS = 250;

/** How long a record is asked for or offered while NATS elects and heals: then who wanted it changed is refused. */
export const CHANGE_PATIENCE_MS = 8 * SECOND_MS;
/** How often a change is decided anew because another replica's came first: then its asker is refused. */
export const CHANGE_TRIES_MAX = 60;
/** What a replica waits at most before that, times the tries it made up to ten: replicas that contend fall out of step. */
export const CHANGE_JITTER_MS = 4;
/** What one answer asks NATS for at once, record by record: the rest is asked for as they come. */
export const ASKED_AT_ONCE_MAX = 64;
/** How often a replica says that it lives. */
export const LEASE_EVERY_MS = 2 * SECOND_MS;
/** How long it is believed: then its connections stand no more, whoever comes takes their places, and another leads. */
export const LEASE_MS = 8 * SECOND_MS;
/** Replicas whose last word is remembered: of another one the bucket is asked. */
export const REPLICAS_REMEMBERED_MAX = 1_024;
/** How long a place stays that nobody gave up and nobody renewed: then it is gone, which frees what dead replicas left. */
export const PLACE_MS = 24 * HOUR_MS;
/** How often a place is written anew in that time, so that some may fail. */
export const PLACES_RENEWED_PER_LIFE = 4;
/** Agents that one question for agents looks at, since their records are in memory: of more it says how many there are. */
export const DISCOVER_SCAN_MAX = 1_000;
/** Messages that are fetched at once for it: then the next. */
export const SCAN_BATCH = 250;
/** How old an entry of the index is whose registration can be under way no more: then it may be removed. */
export const ENTRY_SETTLES_MS = 10 * MINUTE_MS;
/** Agents whose last sign of life this replica remembers: of another one only what was written down is known. */
export const SEEN_REMEMBERED_MAX = 100_000;
/** How long a controller is waited for while none answers, about as long as another takes to take over: then the cluster is not there. */
export const CONTROLLER_WAIT_MS = 15 * SECOND_MS;
/** How long an operator waits for it without a word: then it is said what is waited for. */
export const ASKED_QUIETLY_MS = 2 * SECOND_MS;
/** How long one that was reached may take for what it is asked, the longest of which is that a sandbox stands: then it is given up. */
export const CONTROLLER_ANSWER_MS = 60 * SECOND_MS;
/** What is asked of it and what it answers, since a message of NATS is at most 1 MB by default: more is refused. */
export const CONTROLLER_MESSAGE_SIZE_MAX = 768 * KiB;
/** What it is asked at once by one replica: more is refused. */
export const CONTROLLER_QUESTIONS_MAX = 1_024;
/** How long its word for an agent is told again, far less than the word holds: then it is asked again, and may have changed its mind. */
export const VOUCH_KEPT_MS = 2 * MINUTE_MS;
/** Agents whose word is kept: of another one it is asked again. */
export const VOUCHES_KEPT_MAX = 4_096;

// Everything has a limit, and it is named here: its reason, and what happens when it is reached.

const KiB = 1024;
const MiB = 1024 * KiB;
const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const DAY_MS = 24 * 60 * MINUTE_MS;

/** A relay frame in bytes: the reference relay closes with 1009 above it. */
export const FRAME_SIZE_MAX = 16 * MiB;
/** A JSON payload above this travels in chunks (the deployed clusters' own bound). */
export const PAYLOAD_SIZE_MAX = 512 * KiB;
/** The bytes of a payload that one chunk message carries. */
export const TRANSFER_CHUNK_SIZE = 512 * KiB;
/** Chunks a transfer may have (the deployed clusters' bound); a transfer with more is refused. */
export const TRANSFER_CHUNKS_MAX = 80;
/** Transfers of one peer that may be incomplete at once; the oldest is dropped and reported. */
export const TRANSFERS_OPEN_MAX = 8;
/** A file in bytes (80 chunks of its base64 hold it); a larger one is refused with `file_too_large` before anything is sent. */
export const FILE_SIZE_MAX = 30_000_000;
/** Files in one offload, each way. */
export const FILES_MAX = 64;
/** A file name in characters, as it crosses the mesh. */
export const FILE_NAME_MAX = 255;
/** A message's text in bytes; a longer one is refused: send a file by offload instead. */
export const MESSAGE_SIZE_MAX = 256 * KiB;
/** A task's text in bytes. */
export const TASK_SIZE_MAX = 128 * KiB;
/** A display name in characters (it is registered as a capability). */
export const NAME_MAX = 64;
/** Capabilities of one agent. */
export const CAPABILITIES_MAX = 32;
/** Characters of one capability. */
export const CAPABILITY_MAX = 64;
/** Messages that wait to be sent to one peer; a further `send` fails with `limit_reached`. */
export const OUTBOX_MAX = 10_000;
/** Frames kept in memory that came before their knock; the oldest is dropped un-acked, so the relay gives it again. */
export const EARLY_FRAMES_MAX = 256;
/** Ratchet sessions kept with one peer; the oldest is closed. */
export const SESSIONS_PER_PEER_MAX = 8;
/** One-time prekeys published at once. */
export const ONE_TIME_PREKEYS = 50;
/** Messages that one inbox answer lists. */
export const INBOX_PAGE_MAX = 200;
/** Characters of message text that one inbox answer carries; the rest is told and left unread. */
export const INBOX_CHARACTERS_MAX = 100_000;
/** Senders that one await may name. */
export const AWAIT_SENDERS_MAX = 32;
/** The longest a tool call waits. */
export const WAIT_MAX_MS = 600 * SECOND_MS;
/** How long a one-shot command gives its queue to drain before it says what is still queued. */
export const SETTLE_MS = 5 * SECOND_MS;
/** Commits between two snapshots of the actors: bounds what a restart folds again. */
export const SNAPSHOT_EVERY_COMMITS = 2_000;
/** Commits and time of one secret epoch: bounds what a stolen store key can read back. */
export const EPOCH_COMMITS_MAX = 5_000;
export const EPOCH_TIME_MAX_MS = 60 * MINUTE_MS;
/** Bytes that must go onto a disk that refused before it counts as writable again: more than most commits take. */
export const STORE_PROBE_SIZE = 64 * KiB;
/** Bytes after which the journal starts a new segment. */
export const SEGMENT_SIZE_MAX = 64 * MiB;
/** Bytes of events that one fdatasync covers; what waits beyond goes with the next. */
export const GROUP_SIZE_MAX = 32 * MiB;
/** Sealed bodies up to this many bytes stay in the journal line; larger ones go to a blob file. */
export const BODY_INLINE_MAX = 32 * KiB;
/** One request to a registry or a controller. */
export const HTTP_TIMEOUT_MS = 15 * SECOND_MS;
/** The largest HTTP body accepted from a registry, a controller or (by them) from an agent. */
export const HTTP_BODY_MAX = 1 * MiB;
/** The longest that a clock waits without looking at the time: how late a deadline is noticed after the machine has slept. */
export const CLOCK_STEP_MAX_MS = 30 * SECOND_MS;
/** Heartbeats to the relay, which calls a silent connection idle after 90 s. */
export const HEARTBEAT_MS = 30 * SECOND_MS;
export const RELAY_IDLE_MS = 90 * SECOND_MS;
/** Time to open the relay's socket and be taken for connected. */
export const LINK_OPEN_TIMEOUT_MS = 10 * SECOND_MS;
/** Reconnect delays: doubled from the first to the last, with jitter. */
export const LINK_BACKOFF_MIN_MS = 250;
export const LINK_BACKOFF_MAX_MS = 30 * SECOND_MS;
/** Retry delays of what a registry or a controller did not answer, and of a disk that refused. */
export const RETRY_MIN_MS = 500;
export const RETRY_MAX_MS = 60 * SECOND_MS;
/** Offline mail at the relay. */
export const MAILBOX_AGE_MAX_MS = 3 * DAY_MS;
export const MAILBOX_FRAMES_MAX = 10_000;
export const MAILBOX_BYTES_MAX = 256 * MiB;
/** The clock difference that a signed timestamp may have. */
export const AUTH_SKEW_MAX_MS = 5 * MINUTE_MS;
/** Agents that one discover answer lists. */
export const DISCOVER_MAX = 200;
/** How long an offload may hear nothing: from the controller until ready, until the hello, and between signs of life. */
export const OFFLOAD_READY_MS = 5 * MINUTE_MS;
export const OFFLOAD_HELLO_MS = 3 * MINUTE_MS;
export const OFFLOAD_STALL_MS = 5 * MINUTE_MS;
/** How long a cancelled offload waits for the cluster to confirm before it is called cancelled all the same. */
export const OFFLOAD_CANCEL_MS = 30 * SECOND_MS;
/** An offload's own time limit unless it names one, and the longest it may name. */
export const OFFLOAD_TIMEOUT_MINUTES = 60;
export const OFFLOAD_TIMEOUT_MINUTES_MAX = 24 * 60;
/** A sandbox's output that is kept as its log. */
export const RUN_LOG_MAX = 1 * MiB;
/** Time between two progress messages of a sandbox, except when its stage changes. */
export const PROGRESS_EVERY_MS = 500;
/** Characters of one progress line and of a summary. */
export const PROGRESS_LINE_MAX = 500;
export const SUMMARY_MAX = 64 * KiB;
/** When what a relay refused (a full mailbox, say) is offered to it again. */
export const RELAY_RETRY_MS = 5 * SECOND_MS;
/** Frames of one peer that wait their turn; further ones are left at the relay, which gives them again. */
export const INBOUND_QUEUE_MAX = 1_000;
/** Ids of received work that are remembered, to know a repetition. */
export const RECENT_IDS_MAX = 20_000;
/** How long a process waits for another one that is just opening, or closing, the same state directory. */
export const OWNER_WAIT_MS = 10 * SECOND_MS;
/** How long an owner has to greet who connects to it; one that is stopped does not. */
export const OWNER_GREETING_MS = 2 * SECOND_MS;
/** How long an owner has to end a call that was taken back. */
export const OWNER_ABORT_MS = 2 * SECOND_MS;
/** One request or answer between processes of one state directory. */
export const OWNER_MESSAGE_MAX = 32 * MiB;
/** Senders and messages that one answer about history lists unless asked for more. */
export const HISTORY_PAGE = 200;
/** Characters of a passphrase that protects the store key: a shorter one is refused, a longer one is not what was meant. */
export const PASSPHRASE_LENGTH_MIN = 8;
export const PASSPHRASE_LENGTH_MAX = 1024;
/** What deriving a key from a passphrase costs: 128 MiB and a good third of a second. */
export const SCRYPT_COST = { n: 2 ** 17, r: 8, p: 1 } as const;
/** The most that a store key file may ask of this machine: more is refused as unreadable. */
export const SCRYPT_MEMORY_MAX = 512 * MiB;
export const SCRYPT_PARALLEL_MAX = 4;

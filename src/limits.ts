// Everything has a limit, and it is named here, or in the limits.ts of the one room that it bounds: its reason, and what happens
// when it is reached. Sizes are bytes, lengths characters; other units stand in the names. What a protocol or a file format fixes
// (sizes of keys, numbers of bits) is no limit, and stands with its protocol.

const KiB = 1024;
const MiB = 1024 * KiB;
const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

// What crosses the mesh

/** A relay frame: the reference relay closes the connection with 1009 above it, and so do we. */
export const FRAME_SIZE_MAX = 16 * MiB;
/** A frame that is handled as a string: a longer one, or its ciphertext, stays bytes, which are free again as soon as it has gone. */
export const FRAME_TEXT_SIZE_MAX = 16 * KiB;
/** The JSON of one message, the bound of the deployed clusters: a larger payload travels in chunks. */
export const PAYLOAD_SIZE_MAX = 512 * KiB;
/** What one chunk message carries, so that it fits a frame of the deployed clusters: a payload is cut into as many as it takes. */
export const TRANSFER_CHUNK_SIZE = 512 * KiB;
/** Chunks of one transfer, the bound of the deployed clusters: a manifest that names more is refused. */
export const TRANSFER_CHUNKS_MAX = 80;
/**
 * A file unless more is allowed, and always one that is sent whole, so that 80 chunks hold its base64: a larger one is refused with
 * `file_too_large` before anything is sent.
 */
export const FILE_SIZE_MAX = 30_000_000;
export const FILE_MEGABYTES = FILE_SIZE_MAX / 1_000_000;
/** The largest whole file of a deployed agent that is read. A file over FILE_SIZE_MAX is read, too, so that its refusal names it. */
export const FILE_SIZE_READ_MAX = 30 * MiB;
/** A piece of a file as peers pull it, small enough that ten transfers at once fit into memory: larger ones are not understood. */
export const FILE_CHUNK_SIZE = 512 * KiB;
/** The smallest piece that an offer may name, so that a file is not thousands of messages: such an offer is not understood. */
export const FILE_CHUNK_SIZE_MIN = 32 * KiB;
/** Pieces of one file, each of which waits as an entry of its conversation's state: as many as the smallest make of FILE_SIZE_MAX. */
export const FILE_CHUNKS_MAX = Math.ceil(FILE_SIZE_MAX / FILE_CHUNK_SIZE_MIN);
/** The most that may be allowed for a file that is pulled, what so many whole pieces hold, in full megabytes: more is a usage error. */
export const FILE_MEGABYTES_MAX = Math.floor((FILE_CHUNKS_MAX * FILE_CHUNK_SIZE) / 1_000_000);
/** The same in bytes: an offer of more is not understood. */
export const FILE_SIZE_ALLOWED_MAX = FILE_MEGABYTES_MAX * 1_000_000;
/** What a piece says of itself, which is read before its bytes: a longer one is not understood. */
export const FILE_HEADER_SIZE_MAX = KiB;
/** Pieces that one pull asks for, and pulls under way at once, of one peer and of all: they bound what of transfers is in memory. */
export const FILE_PULL_CHUNKS = 1;
export const FILE_PULLS_AHEAD = 8;
export const FILE_PULLS_SHARED = 12;
/** Files of one offload, each way, so that a state can list them: more are refused with `limit_reached`, or not taken. */
export const FILES_MAX = 64;
/** Names of written files that a deployed sandbox lists, though it sends only some of them: the rest of a longer list is not read. */
export const OUTPUTS_MAX = 10_000;
/** A file's name as it crosses the mesh, what file systems hold: a longer one is not understood. */
export const FILE_NAME_LENGTH_MAX = 255;
/** Bytes of a name that a file is saved under, which leaves room for a number where names clash: a longer one keeps its end. */
export const FILE_NAME_SIZE_MAX = 240;
/** A path that a caller names, what systems hold: a longer one is refused with `input_invalid`. */
export const PATH_LENGTH_MAX = 4096;
/** A message's text, which people and agents read whole: a longer one is refused with `limit_reached`; files go by offload. */
export const MESSAGE_SIZE_MAX = 256 * KiB;
/** A task's text: a longer one is refused with `limit_reached`; what is long goes along as a file. */
export const TASK_SIZE_MAX = 128 * KiB;
/** A display name, which is registered as a capability: a longer one is refused with `input_invalid`. */
export const NAME_LENGTH_MAX = 64;
/** A name or a DID by which a caller means a peer: a longer one is none, and refused with `input_invalid`. */
export const PEER_LENGTH_MAX = 200;
/** A safety number as a person types it, 60 digits with what stands between them: a longer one is refused with `input_invalid`. */
export const SAFETY_NUMBER_LENGTH_MAX = 200;
/** The length of a pairing token. Its addresses and secret are the operator's choice. A longer text is refused as no token. */
export const TOKEN_LENGTH_MAX = 16_384;
/** The length of a pasted token, with the white space and line breaks around and in it. More is refused with `input_invalid`. */
export const TOKEN_PASTED_LENGTH_MAX = 4 * TOKEN_LENGTH_MAX;
/** Capabilities of one agent, all of which the registry indexes: a registration with more is refused. */
export const CAPABILITIES_MAX = 32;
/** One capability, a word to look for: a registration with a longer one is refused. */
export const CAPABILITY_LENGTH_MAX = 64;
/** The clock difference that a signed timestamp may have: bounds how long a signature can be replayed; beyond it, it is refused. */
export const AUTH_SKEW_MAX_MS = 5 * MINUTE_MS;
/** Where something was asked for, as its asker writes it down (a chat, a session): a longer one is refused with `input_invalid`. */
export const ORIGIN_LENGTH_MAX = 2_000;
/** Agents that one discover answer lists, which an agent reads whole: the answer says that there may be more. */
export const DISCOVER_AGENTS_MAX = 200;

// Conversations and sessions

/** Messages that wait to be sent to one peer, all of which are in memory: a further `send` fails with `limit_reached`. */
export const OUTBOX_MESSAGES_MAX = 10_000;
/** Frames of one peer kept in memory that came before their knock: the oldest is dropped un-acked, so the relay gives it again. */
export const EARLY_FRAMES_MAX = 256;
/** The same over all peers, in whose names anyone may send who has a relay or many identities: the oldest is dropped likewise. */
export const EARLY_FRAMES_ALL_MAX = 4_096;
export const EARLY_SIZE_MAX = 64 * MiB;
/** Frames of one peer that wait their turn in memory: further ones are left at the relay, which gives them again. */
export const INBOUND_FRAMES_MAX = 1_000;
export const INBOUND_SIZE_MAX = 256 * MiB;
/** Peers remembered because a frame could not be judged or came out of order just now. The oldest is forgotten. */
export const UNJUDGED_PEERS_MAX = 4_096;
/** What is kept ready of frames that are sealed and not yet on the wire: any other is built again from its message key. */
export const SEALED_FRAMES_SIZE_KEPT = 4 * MiB;
/** Messages that are sealed in the commit that decides on them: more are sealed one after the other, so that others get their turn. */
export const SEALED_AT_ONCE_MAX = 4;
/** What may wait in our own socket, which is in memory: above it, what is sealed waits on the disk. */
export const LINK_BUFFER_SIZE_MAX = 4 * MiB;
/** Ratchet sessions with one peer, each of which a frame may be tried with: the oldest is closed. */
export const SESSIONS_PER_PEER_MAX = 8;
/** Knocks of different peers that are judged at once, each of which asks the registry: further ones wait their turn. */
export const KNOCKS_AT_ONCE_MAX = 8;
/** How soon after its last one a knock may end a session of the same peer to make room: one that comes earlier is put off. */
export const KNOCK_AGAIN_MS = MINUTE_MS;
/** One-time prekeys published at once, for as many new peers: when they are used up, knocks come without one. */
export const ONE_TIME_PREKEYS = 50;
/** Below so many one-time prekeys, at the registry or here, others are made and published. */
export const ONE_TIME_PREKEYS_LOW = 10;
/** One-time prekeys back from the newest whose private halves are kept for knocks that may come: older ones are destroyed. */
export const ONE_TIME_PREKEYS_KEPT = 2_000;
/** Signed prekeys that are kept beside the published one, each of which a plain client's knock is tried with: the oldest goes. */
export const SIGNED_PREKEYS_KEPT = 8;
/** How often the registry is asked how many are left: between two times at most one lot can be drained. */
export const PREKEYS_CHECK_MS = 6 * HOUR_MS;
/** The longest pause before a registry that did not answer is asked again. */
export const PREKEYS_RETRY_MAX_MS = 15 * MINUTE_MS;
/** How long a signed prekey is published, which bounds what a stolen one opens: then another takes its place. */
export const SIGNED_PREKEY_MS = 7 * DAY_MS;
/** How long the one before is kept for knocks that were under way: then it is destroyed, and such a knock is rejected. */
export const SIGNED_PREKEY_KEPT_MS = 14 * DAY_MS;
/** Ids of received work, and of messages that are listed no more, that are remembered to know a repetition: the oldest is forgotten, long after the relay dropped it. */
export const RECENT_IDS_MAX = 20_000;
/** Messages that one inbox answer lists, which an agent reads whole: the rest is told and left unread. */
export const INBOX_PAGE_MAX = 200;
/** Strangers, and messages of each, that wait for the person to decide: further knocks are put off, messages left at the relay. */
export const STRANGERS_HELD_MAX = 32;
export const STRANGER_MESSAGES_MAX = 16;
/** How long a controller's word that an agent is of its cluster counts, which bounds how long it outlives a revocation. */
export const MEMBERSHIP_MS = 10 * MINUTE_MS;
/** Frames of which a peer is told at once that they could not be read: it is told of further ones later, if they come again. */
export const UNREADABLE_FRAMES_MAX = 64;
/** How long such frames are gathered, and how often a peer is told, and listened to, about them: each time costs a session. */
export const UNREADABLE_DELAY_MS = SECOND_MS;
export const UNREADABLE_EVERY_MS = 30 * SECOND_MS;
/** Messages that were sealed more than once whose last frame's id is remembered, to know them by: the oldest is forgotten. */
export const REFRAMED_KEPT = 256;
/** Messages that one arrival notice names. The next notice names further ones. */
export const ARRIVALS_MAX = 256;
/** Messages kept to be sealed anew, in sessions that a plain peer never answered. Beyond this the oldest count as sent for good. */
export const PLAIN_UNCONFIRMED_KEPT = 1_000;
/** How long receipts are gathered before they are sent: one message tells of many. */
export const RECEIPT_DELAY_MS = SECOND_MS;
/** Messages of which a peer is told at once when so many are owed; and that may be owed while it is away: the oldest are forgotten. */
export const RECEIPT_IDS = 250;
export const RECEIPTS_OWED_MAX = 4 * RECEIPT_IDS;
/** Senders that one await may name: more are refused with `input_invalid`. */
export const AWAIT_SENDERS_MAX = 32;
/** The longest a call waits, so that none hangs for ever: a longer wait is refused with `input_invalid`. */
export const WAIT_MAX_MS = 600 * SECOND_MS;
/** The same, as tools and people say it. */
export const WAIT_MAX_SECONDS = WAIT_MAX_MS / SECOND_MS;

// The store

/** Commits between two snapshots: bounds what a restart folds again. Then a snapshot is written beside the work. */
export const SNAPSHOT_EVERY_COMMITS = 2_000;
/** Commits and time of one secret epoch: bound what a stolen store key can read back. Then the vault is written anew. */
export const EPOCH_COMMITS_MAX = 5_000;
export const EPOCH_TIME_MAX_MS = 60 * MINUTE_MS;
/** A journal segment, which is read whole: the next commit begins another. */
export const SEGMENT_SIZE_MAX = 64 * MiB;
/** Bytes that the calling thread writes, since the system only keeps them in memory: more are written by another thread. */
export const WRITE_IN_PLACE_SIZE_MAX = 512 * KiB;
/** A sync of more bytes goes to another thread, since there is other work to do meanwhile. */
export const SYNC_IN_PLACE_SIZE_MAX = 64 * KiB;
/** A sync that takes less is waited for in place the next time; one that takes longer goes to another thread again. */
export const SYNC_IN_PLACE_MAX_MS = 1;
/** How long a commit that nobody waits for may wait for another to share its sync with: then it is written by itself. */
export const LAZY_COMMIT_MS = 2;
/** Events that one fdatasync covers, which are in memory twice: what waits beyond goes with the next. */
export const GROUP_SIZE_MAX = 2 * MiB;
/** The newest lines whose events stay in memory, since what has just come is read next: older ones are read from the disk. */
export const RECENT_COMMITS_SIZE_MAX = 512 * KiB;
/** What a journal keeps to write groups into, so that it need not be made anew for each: after a larger one it begins with little. */
export const GROUP_BUFFER_KEPT = 2 * GROUP_SIZE_MAX;
/** A sealed body in a journal line, which every restart reads: a larger one of work goes to a blob file. */
export const BODY_INLINE_SIZE_MAX = 32 * KiB;
/** Below the first a body gains too little to be deflated; up to the second it gains as much with little memory and less search. */
export const DEFLATE_SIZE_MIN = 64;
export const DEFLATE_SHORT_SIZE_MAX = 4 * KiB;
/** Characters of a passphrase that protects the store key: a shorter one is refused, a longer one is not what was meant. */
export const PASSPHRASE_LENGTH_MIN = 8;
export const PASSPHRASE_LENGTH_MAX = 1024;
/** How often a passphrase is asked for, since a typing error is likely: then it counts as unknown. */
export const PASSPHRASE_ATTEMPTS_MAX = 3;
/** What deriving a key from a passphrase costs: 128 MiB and a good third of a second. */
export const SCRYPT_COST = { n: 2 ** 17, r: 8, p: 1 } as const;
/** The most that a store key file may ask of this machine: more is refused as unreadable. */
export const SCRYPT_MEMORY_MAX = 512 * MiB;
export const SCRYPT_PARALLEL_MAX = 4;

/** What must go onto a disk that refused, more than most commits take: until it does, the disk does not count as writable. */
export const STORE_PROBE_SIZE = 64 * KiB;

// Time

/** The longest that a clock waits without looking at the time: how late a deadline is noticed after the machine has slept. */
export const CLOCK_STEP_MAX_MS = 30 * SECOND_MS;
/** Deadlines out of date that are kept beside those that count, since taking them out costs more: then the list is made anew. */
export const STALE_DEADLINES_KEPT = 64;
/** Retry delays of what a registry, a controller or a disk did not do: doubled from the first to the last, which repeats. */
export const RETRY_MIN_MS = 500;
export const RETRY_MAX_MS = 60 * SECOND_MS;

// Network

/** One request to a registry or a controller, so that a dead one is noticed: then it counts as unreachable. */
export const HTTP_TIMEOUT_MS = 15 * SECOND_MS;
/** An HTTP body from a registry, a controller or (by them) from an agent: a larger one is refused with `limit_reached`. */
export const HTTP_BODY_SIZE_MAX = 1 * MiB;
/** Heartbeats to the relay, three in the time after which it calls a silent connection idle. */
export const HEARTBEAT_MS = 30 * SECOND_MS;
/** How long a connection to the relay may be silent, as at the reference relay: then it is closed with 4004. */
export const RELAY_IDLE_MS = 90 * SECOND_MS;
/** Time to open the relay's socket and be taken for connected: then the attempt has failed, and the next one follows. */
export const LINK_OPEN_TIMEOUT_MS = 10 * SECOND_MS;
/** How long a new connection to a plain relay waits for the one before it to be closed. A network that is gone closes nothing. */
export const LINK_FAREWELL_MS = SECOND_MS;
/** Time for a proxy's tunnel and TLS behind it: less than a link or a request may take, so that the attempt fails and says why. */
export const TUNNEL_TIMEOUT_MS = 8 * SECOND_MS;
/** Reconnect delays, so that a relay that comes back is not overrun: doubled from the first to the last, with jitter. */
export const LINK_BACKOFF_MIN_MS = 250;
export const LINK_BACKOFF_MAX_MS = 30 * SECOND_MS;
/** The longest of them while the relay says that it is restarting, or that it cannot take anybody in just now. */
export const LINK_RESTART_MAX_MS = 5 * SECOND_MS;
/** When what a relay refused (a full mailbox, say) is offered to it again, as often as it takes. */
export const RELAY_RETRY_MS = 5 * SECOND_MS;

// Offloads

/** How long an offload may hear nothing: until ready, until the hello, and between signs of life. Then it is `lost`. */
export const OFFLOAD_READY_MS = 5 * MINUTE_MS;
export const OFFLOAD_HELLO_MS = 3 * MINUTE_MS;
export const OFFLOAD_STALL_MS = 5 * MINUTE_MS;
/** How long a cancelled offload waits for the cluster to confirm: then it is called cancelled all the same. */
export const OFFLOAD_CANCEL_MS = 30 * SECOND_MS;
/** An offload's own time limit unless it names one, so that none runs for ever: then it is `lost`, and the sandbox is ended. */
export const OFFLOAD_TIMEOUT_MINUTES = 60;
/** The longest that it may name: a longer one is refused with `input_invalid`, and cut by the controller. */
export const OFFLOAD_TIMEOUT_MINUTES_MAX = 24 * 60;
/** When an offload for which the cluster had no slot asks again: doubled from the first to the last. */
export const SLOT_RETRY_MIN_MS = SECOND_MS;
export const SLOT_RETRY_MAX_MS = 30 * SECOND_MS;
/** A sandbox's output that is kept as its log, so that none fills the disk: the rest is dropped. */
export const RUN_LOG_SIZE_MAX = 1 * MiB;
/** Time between two progress messages of a sandbox, each of which is a commit: those between are left out, but for a new stage. */
export const PROGRESS_EVERY_MS = 500;
/** One progress line, which is shown as one: it is cut. */
export const PROGRESS_LINE_LENGTH_MAX = 500;
/** An offload's summary, which an agent reads whole: the sandbox keeps its end, and what comes longer is cut. */
export const SUMMARY_LENGTH_MAX = 64 * KiB;
/** How often a sandbox that has nothing to tell says that it lives, well within the time in which it must. */
export const SIGN_OF_LIFE_EVERY_MS = 20 * SECOND_MS;
/** How long a sandbox's processes have to end by themselves: then they are killed. */
export const SANDBOX_STOP_WAIT_MS = 3 * SECOND_MS;

// One owner, many callers

/** How long a process waits for another one that is just opening, or closing, the same home: then `store_locked`. */
export const OWNER_WAIT_MS = 10 * SECOND_MS;
/** How long an owner has to greet who connects to it, so that one that is stopped is noticed: then it counts as not answering. */
export const OWNER_GREETING_MS = 2 * SECOND_MS;
/** How long an owner has to end a call that was taken back: then the caller goes on without its answer. */
export const OWNER_ABORT_MS = 2 * SECOND_MS;
/** One request or answer between processes of one home, which is in memory: the connection ends above it. */
export const OWNER_MESSAGE_SIZE_MAX = 32 * MiB;
/** The path of the owner's socket, what the systems hold that hold least: a longer one lies in the temporary directory. */
export const SOCKET_PATH_LENGTH_MAX = 100;
/** How often in a row a command goes again to a home whose owner ended as soon as it was asked: then it fails with that error. */
export const VISITS_MAX = 5;
/** How long a one-shot command gives its queue to drain: then it says what is still queued. */
export const SETTLE_MS = 5 * SECOND_MS;
/** The same for a command that only wants to have looked: then it answers with what it knows. */
export const SETTLE_BRIEFLY_MS = SECOND_MS;
/** The demo, which takes seconds: then something hangs, and it gives up with an error. */
export const DEMO_MAX_MS = 120 * SECOND_MS;
/** The largest port there is: a larger one is refused with a usage error. */
export const PORT_MAX = 65_535;

// The local cluster: relay

/** How long a socket may stay silent before its connect, as the reference relay waits: then it is closed with 4001. */
export const CONNECT_WAIT_MS = 10 * SECOND_MS;
/**
 * How long frames for a recipient are refused behind one that was, since none must overtake it: its sender offers all of them
 * again after RELAY_RETRY_MS. If the first of them does not come again in this time, the others are taken without it.
 */
export const RELAY_REFUSE_MS = 3 * RELAY_RETRY_MS;
/** Refused frames of one sender and recipient whose order is kept: those beyond are refused until these have come again. */
export const REFUSED_FRAMES_KEPT = 1_024;
/** Recipients of one sender of whom that is kept: the one whose frames were refused longest ago is forgotten. */
export const REFUSED_RECIPIENTS_KEPT = 256;
/** How long the other sides have to say goodbye to a relay that closes: then their sockets are ended. */
export const RELAY_CLOSE_WAIT_MS = SECOND_MS;
/** Frames and bytes of one connection that are being made durable, which are in memory: above either, its socket is not read. */
export const IN_FLIGHT_FRAMES_MAX = 1_024;
export const IN_FLIGHT_SIZE_MAX = 1 * MiB;
/** What may wait in a socket, which is in memory: above it, delivery stops until the reader has caught up. */
export const SEND_BUFFER_SIZE_MAX = 1 * MiB;
/** What may wait in a socket when replies pile up as well: its peer sends and does not read, and is cut off. */
export const REPLY_BUFFER_SIZE_MAX = SEND_BUFFER_SIZE_MAX + 2 * FRAME_SIZE_MAX;
/** Offline mail of one recipient, by age, number and size: what is too old is dropped, what is too much is refused to its sender. */
export const MAILBOX_AGE_MAX_MS = 3 * DAY_MS;
export const MAILBOX_FRAMES_MAX = 10_000;
export const MAILBOX_SIZE_MAX = 256 * MiB;
/** Mail in memory for all recipients together: above it every mailbox counts as full. */
export const MAIL_SIZE_MAX = 512 * MiB;
/** Acked frames whose ids are remembered, so that a late repetition is known: the oldest are forgotten. */
export const ACKED_FRAMES_KEPT_MAX = 100_000;
/** A journal that is not rewritten however little of it matters, since that would gain nothing: above it, it is. */
export const REWRITE_SIZE_MIN = 4 * MiB;
/** What one fdatasync of a rewrite covers, which bounds the memory that it takes: the rest goes with the next. */
export const REWRITE_BATCH_SIZE_MAX = 4 * MiB;

// The local cluster: registry and controller

/** Sockets of all kinds at once, each of which takes memory: a further one is closed as soon as it is opened. */
export const CLUSTER_CONNECTIONS_MAX = 10_000;
/** How long requests under way may take when the server closes: then their connections are ended. */
export const SERVER_CLOSE_WAIT_MS = 2 * SECOND_MS;
/** How often idle connections and old mail are looked for: how late they may be noticed. */
export const SWEEP_EVERY_MS = 5 * SECOND_MS;
/** What of a body that is too large is still read and thrown away, so that its sender hears the answer: then it is cut off. */
export const BODY_DISCARD_SIZE_MAX = 8 * HTTP_BODY_SIZE_MAX;
/** Agents that one registry knows, all of which are in memory: a further one is refused with `limit_reached`. */
export const AGENTS_MAX = 10_000;
/** How often one agent may say over HTTP that it is there: in between it is refused with 429. */
export const HTTP_HEARTBEAT_EVERY_MS = 10 * SECOND_MS;
/** How often a sign of life of one agent is written down, which is a commit: those between are known in memory alone. */
export const SEEN_EVERY_MS = 5 * MINUTE_MS;
/** One-time prekeys held for one agent, so that none fills the registry: what is uploaded beyond is not taken. */
export const ONE_TIME_HELD_MAX = 400;
/** Ids of one-time prekeys of one agent that were given out, so that none is given twice: the oldest are forgotten. */
export const ONE_TIME_GIVEN_MAX = 2_000;
/** Slots of one grant, far beyond what one machine runs: more are refused with `input_invalid`. */
export const SLOTS_MAX = 1000;
/** How long a grant may last, so that none is forgotten for ever: a longer one is refused with `input_invalid`. */
export const GRANT_TIME_MAX_MS = 365 * DAY_MS;

/** Characters of a file of authorities that a cluster or a home trusts: a few dozen certificates. A larger one is refused. */
export const AUTHORITIES_SIZE_MAX = 256 * 1024;

// What bounds looking inside, as ../limits.ts says it for the rest.

const KiB = 1024;
const MiB = 1024 * KiB;
const SECOND_MS = 1000;

/** Lines of history that one answer lists unless asked for more: the newest. */
export const HISTORY_PAGE = 200;
/** The most lines that one page may be asked for, since it is in memory: more are refused with `input_invalid`. */
export const HISTORY_PAGE_MAX = 10_000;
/** Streams that a refusal names, so that it can be read: the rest is counted. */
export const STREAMS_NAMED_MAX = 8;
/** Differences that a divergence tells, so that it can be read: the rest is counted. */
export const DIFFERENCES_TOLD_MAX = 8;
/** A value in such a difference: it is cut. */
export const DIFFERENCE_LENGTH_MAX = 80;
/** Entries of a list that viewers are shown: the rest is counted. */
export const LIST_SHOWN_MAX = 50;
/** Fields of an object that are looked at for viewers: the rest is left out. */
export const FIELDS_SHOWN_MAX = 64;
/** Viewers at once, each of which is told everything: a further one is refused with 503. */
export const VIEWERS_MAX = 16;
/** Connections to the inspector at once, those included that are not let in: a further one is closed. */
export const INSPECTOR_CONNECTIONS_MAX = 4 * VIEWERS_MAX;
/** What waits for one viewer in memory: one that is slower is cut off, and may come again. */
export const VIEWER_BUFFER_SIZE_MAX = 8 * MiB;
/** What waits for a new viewer before it is told of further actors: then telling pauses until it has caught up. */
export const WELCOME_BUFFER_SIZE_MAX = 512 * KiB;
/** Events that one message to a page holds, so that a page shows something before it has all. */
export const TIMELINE_MESSAGE_ROWS = 4_000;
/** How long an event waits for others to go along with it to pages. */
export const TIMELINE_PAUSE_MS = 40;
/** What a viewer may say, which is nothing of use: more ends its connection with 1009. */
export const VIEWER_MESSAGE_SIZE_MAX = KiB;
/** How long viewers have to answer the closing handshake: then their sockets are ended. */
export const VIEWER_CLOSE_WAIT_MS = SECOND_MS;
/** How long the doctor waits for a registry, a relay or an owner: then it counts as not answering. */
export const DOCTOR_WAIT_MS = 5 * SECOND_MS;
/** Free space that the doctor calls little, and too little: it says that room must be made. */
export const DISK_FREE_LOW_SIZE = 1024 * MiB;
export const DISK_FREE_MIN_SIZE = 64 * MiB;

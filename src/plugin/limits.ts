// What bounds the plugin alone, as ../limits.ts says it for the rest.

const SECOND_MS = 1000;

/** How long a sent message is given to leave before a tool calls it queued: what is queued leaves later by itself. */
export const LEAVE_WAIT_MS = 2 * SECOND_MS;
/** How long a tool waits for what comes after a token was taken: then it answers, and joining goes on by itself. */
export const JOIN_WAIT_MS = 60 * SECOND_MS;
/** Ended offloads that a tool's answer lists, which an agent reads whole: the rest is counted, and `details` has all. */
export const OFFLOADS_ENDED_SHOWN_MAX = 20;
/** Messages, characters of each, and peers or ended offloads that `/mesh` shows, so that it can be read in a chat: the rest is counted. */
export const CHAT_MESSAGES_MAX = 10;
export const CHAT_WORDS_LENGTH_MAX = 1_000;
export const CHAT_LINES_MAX = 20;
/** How long news is gathered before a session is told, so that a burst is one event and what is being read just now is none. */
export const NEWS_GATHER_MS = SECOND_MS;
/** Lines of news of one kind in one event, which goes into a prompt: the rest is counted. */
export const NEWS_LINES_MAX = 8;
/** How long after a failure news is looked for again: a home that fails is not asked in a loop. */
export const NEWS_RETRY_MS = 10 * SECOND_MS;
/** Upload roots that a configuration names, each of which is looked at for each file: more are an error of the configuration. */
export const UPLOAD_ROOTS_MAX = 32;

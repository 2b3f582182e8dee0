// What bounds the asking of a controller that answers over the relay, as ../../limits.ts says it for the rest.

const SECOND_MS = 1000;

/** How long a controller has to answer before it is asked again: doubled from the first to the last, which repeats. */
export const PAIR_ANSWER_MIN_MS = 30 * SECOND_MS;
export const PAIR_ANSWER_MAX_MS = 3600 * SECOND_MS;
/** How often it is asked, over some six hours: then the pairing has failed, and the token's secret is forgotten. */
export const PAIR_ASKS_MAX = 12;
/**
 * A registry that forgets a member again within this time is registered with after a pause that doubles up to the second, since
 * each registration publishes a new lot of one-time prekeys.
 */
export const REGISTRATION_CALM_MS = 3600 * SECOND_MS;
export const REGISTRATION_PAUSE_MAX_MS = 900 * SECOND_MS;
/** How long a person who looks is told that a registry had forgotten this laptop: then it is over, and the history has it. */
export const FORGOTTEN_TOLD_MS = 7 * 24 * 3600 * SECOND_MS;

// What bounds the asking of a controller that answers over the relay, as ../../limits.ts says it for the rest.

const SECOND_MS = 1000;

/** How long a controller has to answer before it is asked again: doubled from the first to the last, which repeats. */
export const PAIR_ANSWER_MIN_MS = 30 * SECOND_MS;
export const PAIR_ANSWER_MAX_MS = 3600 * SECOND_MS;
/** How often it is asked, over some six hours: then the pairing has failed, and the token's secret is forgotten. */
export const PAIR_ASKS_MAX = 12;
/**
 * If a registry forgets a member again within the first time, the member pauses before it registers, because each registration
 * publishes a new batch of one-time prekeys. The pause doubles up to the second time.
 */
export const REGISTRATION_CALM_MS = 3600 * SECOND_MS;
export const REGISTRATION_PAUSE_MAX_MS = 900 * SECOND_MS;
/** How long `whoami` and `doctor` report that a registry had forgotten this laptop. After that only the history shows it. */
export const FORGOTTEN_TOLD_MS = 7 * 24 * 3600 * SECOND_MS;

// Limits of standing sandboxes, as ../../limits.ts says it for the rest.

const SECOND_MS = 1000;

/** How long a standing sandbox whose process ended waits to be started again: at first, and at most, since what ends it may last. */
export const STANDING_RETRY_MIN_MS = SECOND_MS;
export const STANDING_RETRY_MAX_MS = 60 * SECOND_MS;

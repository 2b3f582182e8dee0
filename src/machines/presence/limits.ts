// What bounds the requests by which a registry knows that this laptop is here, as ../../limits.ts says it for the rest.

const SECOND_MS = 1000;

/**
 * How often a registry that cannot see our connection is told that this laptop is here: three times in the 90 s after which
 * deployed sandboxes pass over an agent. It is also how late a registry that forgot this laptop is noticed.
 */
export const PRESENCE_EVERY_MS = 30 * SECOND_MS;
/** By how much the first request after the link came up is put off at most, so that many laptops do not ask in one moment. */
export const PRESENCE_JITTER_MS = 5 * SECOND_MS;

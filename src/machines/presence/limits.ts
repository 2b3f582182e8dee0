// The limits on the requests that tell a registry that this laptop is online; ../../limits.ts explains limits in general.

const SECOND_MS = 1000;

/**
 * How often this laptop sends a heartbeat to a registry that cannot see its connection: three times in the 90 s after which deployed
 * sandboxes ignore an agent. This is also the longest time until this laptop notices that a registry forgot it.
 */
export const PRESENCE_EVERY_MS = 30 * SECOND_MS;
/** The longest delay of the first request after the link came up, so that many laptops do not ask at the same moment. */
export const PRESENCE_JITTER_MS = 5 * SECOND_MS;

// What bounds the way to a sandbox of a deployed cluster, as ../../limits.ts says it for the rest.

const SECOND_MS = 1000;

/** How long a sandbox has to say hello by itself before it is pinged, and how often it is pinged: then the next round begins. */
export const PROBE_EVERY_MS = 20 * SECOND_MS;
/**
 * How long one that answered a ping still has to say hello, since one that is up says it at once: then it is taken for an
 * older one, which waits for the task. It bounds how often a newer one is given a task that it has.
 */
export const PROBE_GRACE_MS = 30 * SECOND_MS;

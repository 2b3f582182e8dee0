// What bounds the inspector's page, as ../limits.ts says it for the rest.

/** How long the moment must stand still before the server is asked what an actor knew then: a slider passes many. */
export const STATE_PAUSE_MS = 60;
/** How long it must before the address tells of it, since browsers let that be done only so often. */
export const LINK_PAUSE_MS = 250;
/** How long it waits with showing while what is recorded comes. */
export const LOADING_PAUSE_MS = 500;

/** Refusals that are remembered to know a repetition, all of which a state lists: one that comes later is written down again. */
export const REFUSALS_KEPT = 256;

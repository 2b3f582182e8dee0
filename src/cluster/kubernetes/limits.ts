// What bounds the sandboxes that run as Kubernetes Jobs, as ../../limits.ts says it for the rest.

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;

/** One request to the API server, so that a dead one is noticed: then it counts as not answering, and is asked again. */
export const API_TIMEOUT_MS = 15 * SECOND_MS;
/** One watch, within the half minute after which the client takes a silent one for dead: then the next one goes on from there. */
export const WATCH_MS = 25 * SECOND_MS;
/** When an API server that does not answer, or refuses, is asked again: doubled from the first to the last, which repeats. */
export const API_RETRY_MIN_MS = 500;
export const API_RETRY_MAX_MS = 10 * SECOND_MS;
/** How long the API server may be away while a sandbox is being made: then its run has failed, and says so. */
export const CREATE_WAIT_MS = MINUTE_MS;
/** Failed attempts to fetch an image, after which no further one is waited for: the run has failed. */
export const IMAGE_PULLS_MAX = 3;
/** Words of Kubernetes (a reason, a message) in what a laptop is told: they are cut. */
export const REASON_LENGTH_MAX = 500;
/** Memory of a pod beside its task's: of the sandbox itself, so that the task is ended for what it takes, and not the sandbox. */
export const SANDBOX_MEMORY_MIB = 256;
/** Disk of a pod beside what its task may write: for what the laptop sends along, and for what the sandbox keeps of it. */
export const SANDBOX_DISK_MIB = 1024;
/** How long a pod may take to end by itself, so that it can say goodbye: then its node kills it. */
export const POD_GRACE_MS = 10 * SECOND_MS;
/** How long a node may be out of reach before its pods are given up, well before its laptop's patience ends: the run has failed. */
export const NODE_LOST_MS = MINUTE_MS;
/** How long a finished Job stays for a controller that is away to see how it ended: then the cluster removes it. */
export const FINISHED_KEPT_MS = 60 * MINUTE_MS;

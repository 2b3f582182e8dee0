// Limits of the cluster's own room, as ../limits.ts says it for the rest.

const SECOND_MS = 1000;
const KiB = 1024;

/** How long the operator's policy may take to decide: then it has refused, so that nothing passes that nobody looked at. */
export const POLICY_WAIT_MS = 30 * SECOND_MS;
/** What it may print, which is in memory: the rest is not read. */
export const POLICY_OUTPUT_SIZE_MAX = 64 * KiB;
/** Its reason, which is shown as one line: it is cut. */
export const POLICY_REASON_LENGTH_MAX = 500;
/** How long a sandbox waits for the laptop to have its log before it says that the task has ended: then it says so without. */
export const LOG_WAIT_MS = 30 * SECOND_MS;
/** What of the audit record is read when it is opened, to find its last commit: as much as the longest commit takes. */
export const AUDIT_TAIL_SIZE = 4 * 1024 * KiB;
/** Lines of the audit record that one answer lists unless asked for more, and the most, since they are in memory. */
export const AUDIT_PAGE = 50;
export const AUDIT_PAGE_MAX = 10_000;
/** How long the operator's command waits for a sandbox to stand or to be gone: then it says how far it is. */
export const STANDING_WAIT_MS = 30 * SECOND_MS;
/** How long a request waits for a slot that is just being given back: about as long as a sandbox takes to end when it is asked to. */
export const SLOT_FREEING_WAIT_MS = 3 * SECOND_MS;
/** How long a sandbox that is ended before it is on the mesh tries to get there, to leave the registry in order: then it ends as it is. */
export const SANDBOX_LEAVE_WAIT_MS = SECOND_MS;

// Limits of what runs a task, as ../../limits.ts says it for the rest. What a task itself may take is the operator's to say
// (`rules.ts`); these bound the watching.

const SECOND_MS = 1000;
const KiB = 1024;
const MiB = 1024 * KiB;

/** How often a task's processes are looked at: how long one of them may take more than it is allowed. */
export const LOOK_EVERY_MS = 200;
/** How often its folders are measured, which costs a look at each file: as late may a full disk be noticed. */
export const MEASURE_EVERY_MS = SECOND_MS;
/** Files and folders that a task may leave, each of which a measurement looks at: with more of them the task is ended. */
export const ENTRIES_MAX = 100_000;
/** How deep its folders may lie in each other, each of which a measurement holds open: with deeper ones the task is ended. */
export const FOLDER_DEPTH_MAX = 256;
/** Names of what was left out of a task's results, which stand in its summary: of the others only their number. */
export const LEFT_OUT_NAMED_MAX = 10;
/** Steps of the progress that leaves before a policy has judged the result: so few, and only upwards, that they spell nothing. */
export const UNJUDGED_PROGRESS_STEP_MIN = 10;
/** How long a task's output is waited for when none of its processes is known to run: whoever still holds it is not read any more. */
export const OUTPUT_END_WAIT_MS = SECOND_MS;
/** What one process may take above the memory of the whole task before the system refuses it: bounds a leap between two looks. */
export const MEMORY_LEAP_MIB = 1024;
/** What the system allows above what the watching does, so that the watching sees it first and can say what it was. */
export const CPU_SLACK_SECONDS = 2;
export const PROCESS_SLACK = 32;
/** How long a task that is cancelled has to end by itself, within SANDBOX_STOP_WAIT_MS: then all of it is killed. */
export const TASK_STOP_WAIT_MS = SECOND_MS;
/** Pauses between two rounds of killing, and how many there are: what is not gone then waits in the kernel, and is reported. */
export const KILL_EVERY_MS = 20;
export const KILL_ROUNDS_MAX = 500;
/** How often in a row a task's processes are looked for that are not stopped yet: then those that were found are killed, and it begins anew. */
export const FREEZE_ROUNDS_MAX = 50;
/** A line of output that is read as one, which is in memory: a longer one is cut in pieces. */
export const LINE_SIZE_MAX = 1 * MiB;
/** The task's output that is kept as its log, both ends of it: what lies between is left out, and the log says so. */
export const TASK_LOG_SIZE_MAX = 2 * MiB;
/** The file in which a runner counts its tokens, which holds two numbers: a larger one says nothing. */
export const USAGE_SIZE_MAX = 4 * KiB;
/** How long trying out what the host lets us isolate may take: then it counts as not allowed. */
export const PROBE_WAIT_MS = 10 * SECOND_MS;
/** Folders that are hidden from a task, and variables that it is given, all of which stand in its command: more are refused. */
export const HIDDEN_MAX = 64;
export const VARIABLES_MAX = 64;
/** What an operator may allow at most, far beyond one machine: more is refused with a usage error. */
export const MEMORY_MIB_MAX = 1_000_000_000;
export const CPU_MINUTES_MAX = 1_000_000;
export const PROCESSES_MAX = 4_000_000;
export const OUTPUT_MB_MAX = 1_000_000;

import { z } from "zod";
import { FILE_MEGABYTES, FILE_MEGABYTES_MAX } from "../../limits.ts";
import { CPU_MINUTES_MAX, HIDDEN_MAX, MEMORY_MIB_MAX, OUTPUT_MB_MAX, PROCESSES_MAX, VARIABLES_MAX } from "./limits.ts";

// What the operator of a cluster allows every task that runs on it.

/** What a task with all its processes may take; null is no bound. */
export const RunLimits = z.object({
  /** Resident memory of its own, MiB. */
  memory_mib: z.int().min(1).max(MEMORY_MIB_MAX).nullable(),
  /** Time of processors, minutes of one. */
  cpu_minutes: z.number().positive().max(CPU_MINUTES_MAX).nullable(),
  /** Processes and threads at once, as the system counts them. */
  processes: z.int().min(1).max(PROCESSES_MAX).nullable(),
  /** What it writes, to its folders and to its output together: millions of bytes. */
  output_mb: z.int().min(1).max(OUTPUT_MB_MAX).nullable(),
});
export type RunLimits = z.infer<typeof RunLimits>;

/**
 * `auto`: none where the host allows to cut it, else that of the host. `none`: none, or the task does not run. `host`: that
 * of the host.
 */
export const NETWORKS = ["auto", "none", "host"] as const;

export const TaskRules = z.object({
  limits: RunLimits,
  network: z.enum(NETWORKS),
  /** Node scripts run under Node's permission model. */
  node_permission: z.boolean(),
  /** Folders that a task must not see, where the host allows to hide them. The task's own may lie within. */
  hidden: z.array(z.string()).max(HIDDEN_MAX),
  /** Megabytes of a file, as it comes with a task or of it. */
  max_file_mb: z.int().min(1).max(FILE_MEGABYTES_MAX),
  /** Variables of the operator's environment that a task is given. */
  variables: z.array(z.string()).max(VARIABLES_MAX),
});
export type TaskRules = z.infer<typeof TaskRules>;

/** Bytes of a file. */
export const fileSizeMaxOf = ({ max_file_mb }: Pick<TaskRules, "max_file_mb">): number => max_file_mb * 1_000_000;

/** What a laptop can bear, and most tasks do not reach. */
export const DEFAULT_LIMITS: RunLimits = { memory_mib: 4096, cpu_minutes: 240, processes: 512, output_mb: 1000 };
/** The same for a Job, whose memory is promised to it: a small pod finds a node. */
export const JOB_LIMITS: RunLimits = { ...DEFAULT_LIMITS, memory_mib: 768 };

/** Every rule of a cluster of scripts whose operator said nothing. */
export const DEFAULT_RULES: TaskRules = {
  limits: DEFAULT_LIMITS,
  network: "auto",
  node_permission: true,
  hidden: [],
  max_file_mb: FILE_MEGABYTES,
  variables: [],
};

/** The same for what tasks are given to: an agent has a model to reach. */
export const rulesFor = (runner: string | null): TaskRules =>
  runner === null ? DEFAULT_RULES : { ...DEFAULT_RULES, network: "host" };

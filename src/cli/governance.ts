import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { type Command, Option } from "commander";
import type { Mesh } from "../actors/mesh.ts";
import type { Governance } from "../cluster/governance.ts";
import type { ClusterOperations } from "../cluster/household.ts";
import {
  CPU_MINUTES_MAX,
  MEMORY_MIB_MAX,
  OUTPUT_MB_MAX,
  PROCESSES_MAX,
  VARIABLES_MAX,
} from "../cluster/runner/limits.ts";
import { DEFAULT_LIMITS, JOB_LIMITS, NETWORKS, type RunLimits, rulesFor } from "../cluster/runner/rules.ts";
import { FILE_MEGABYTES, FILE_MEGABYTES_MAX, OFFLOAD_TIMEOUT_MINUTES_MAX } from "../limits.ts";
import { bound, integer, repeated } from "./arguments.ts";
import type { Io } from "./program.ts";

// What an operator decides about the tasks of a cluster, as options of `kars-local up`.

export interface GovernanceOptions {
  /** Of these 0 is no bound. */
  readonly memory?: number;
  readonly cpuTime: number;
  readonly processes: number;
  readonly outputSize: number;
  readonly maxMinutes: number;
  readonly maxFile: number;
  readonly network?: (typeof NETWORKS)[number];
  readonly nodePermission: boolean;
  readonly passEnv?: readonly string[];
  readonly policy?: string;
  readonly auditTasks: boolean;
}

/** Folders in the operator's home where secrets lie: a script has no business there. */
const PRIVATE = [
  ...[".ssh", ".gnupg", ".password-store", ".aws", ".azure", ".config/gcloud", ".config/gh", ".kube", ".docker"],
  ...[".kars", ".openclaw", ".openclaw-data", ".claude", ".codex", ".mozilla", ".config/google-chrome"],
];

export function addGovernance(command: Command): Command {
  const { memory_mib, cpu_minutes, processes, output_mb } = DEFAULT_LIMITS;
  const none = "none or 0: no bound";
  const memory = `${none} (default: ${memory_mib}; in a Job ${JOB_LIMITS.memory_mib})`;
  return command
    .option("--memory <MiB>", `memory that a task may use; ${memory}`, bound(MEMORY_MIB_MAX))
    .option("--cpu-time <minutes>", `processor time that it may use; ${none}`, bound(CPU_MINUTES_MAX), cpu_minutes ?? 0)
    .option("--processes <n>", `processes and threads that it may have; ${none}`, bound(PROCESSES_MAX), processes ?? 0)
    .option("--output-size <MB>", `what it may write, files and output; ${none}`, bound(OUTPUT_MB_MAX), output_mb ?? 0)
    .option(
      "--max-minutes <n>",
      "the longest that it may take, whatever its laptop asks for",
      integer(1, OFFLOAD_TIMEOUT_MINUTES_MAX),
      OFFLOAD_TIMEOUT_MINUTES_MAX,
    )
    .option(
      "--max-file <MB>",
      "the largest file that may come with a task, or of it",
      integer(1, FILE_MEGABYTES_MAX),
      FILE_MEGABYTES,
    )
    .addOption(
      new Option(
        "--network <which>",
        "none, host, or auto: none where this host allows to cut it (default: auto; host with --runner)",
      ).choices(NETWORKS),
    )
    .option("--no-node-permission", "let Node scripts do what any program may, without Node's permission model")
    .option("--pass-env <name>", "a variable of this environment that tasks are given; may be repeated", repeated)
    .option(
      "--policy <command>",
      "a program that allows or refuses each task and each result, told on its standard input",
    )
    .option("--audit-tasks", "record what tasks say, not only their hash", false);
}

/** @param directory the cluster's own @param limits where the operator says nothing */
export function governanceOf(
  directory: string,
  runner: string | null,
  options: GovernanceOptions,
  limits: RunLimits,
): Governance {
  const {
    memory = limits.memory_mib,
    cpuTime,
    processes,
    outputSize,
    maxMinutes,
    maxFile,
    nodePermission,
    policy,
    auditTasks,
  } = options;
  return {
    rules: {
      limits: {
        memory_mib: memory || null,
        cpu_minutes: cpuTime || null,
        processes: processes || null,
        output_mb: outputSize || null,
      },
      network: options.network ?? rulesFor(runner).network,
      node_permission: nodePermission,
      max_file_mb: maxFile,
      // An agent is the operator's own program, and finds its configuration in the operator's home.
      hidden: [resolve(directory), ...(runner === null ? PRIVATE.map((folder) => join(homedir(), folder)) : [])],
      variables: (options.passEnv ?? []).slice(0, VARIABLES_MAX),
    },
    maxMinutes,
    recordsTasks: auditTasks,
    ...(policy === undefined ? {} : { policy: { command: policy, directory: process.cwd() } }),
  };
}

/** Says on stderr what does not hold for tasks on this host. */
export async function tellIsolation(io: Io, cluster: Mesh<ClusterOperations>): Promise<void> {
  const { tasks } = await cluster.call("cluster_status", {});
  if (tasks === null) return;
  for (const warning of tasks.warnings) io.note(warning);
}

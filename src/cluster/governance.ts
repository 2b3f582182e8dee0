import { platform } from "node:os";
import { MeshError } from "../errors.ts";
import { OFFLOAD_TIMEOUT_MINUTES_MAX } from "../limits.ts";
import { type Disk, joinPath } from "../store/disk.ts";
import type { PolicyHook } from "./policy.ts";
import { type Isolation, probeIsolation } from "./runner/isolation.ts";
import { presetOf } from "./runner/presets.ts";
import { showsProcesses } from "./runner/processes.ts";
import { type RunLimits, rulesFor, type TaskRules } from "./runner/rules.ts";

// What the operator of a cluster decides about all that runs on it, and what of it holds on this host.

export interface Governance {
  /** What tasks may do; `rulesFor` the runner unless given. */
  readonly rules?: TaskRules | undefined;
  /** The program that says what may begin, and what may leave. */
  readonly policy?: PolicyHook | undefined;
  /** The longest that a task may take. */
  readonly maxMinutes?: number | undefined;
  /** The words of tasks are recorded, in the open. */
  readonly recordsTasks?: boolean | undefined;
}

/** How tasks run here. */
export interface TaskStatus {
  readonly runner: string | null;
  readonly network: "none" | "host";
  readonly hidden: boolean;
  readonly own_processes: boolean;
  readonly node_permission: boolean;
  readonly policy: boolean;
  readonly limits: RunLimits & { readonly max_minutes: number; readonly max_file_mb: number };
  /** What does not hold here, a sentence each. */
  readonly warnings: readonly string[];
}

/**
 * What a host allows, tried out in a folder of its own.
 * @throws MeshError `input_invalid` when the operator insists on what it does not allow
 */
export async function tryIsolation(disk: Disk, directory: string, rules: TaskRules): Promise<Isolation> {
  const folder = joinPath(directory, `probe-${process.pid}`);
  const place = { work: joinPath(folder, "work"), scratch: joinPath(folder, "scratch") };
  for (const path of [place.work, place.scratch]) await disk.makeDirectory(path);
  try {
    const isolation = await probeIsolation(rules, place);
    if (rules.network === "none" && !isolation.cutsNetwork)
      throw new MeshError(
        "input_invalid",
        "--network none: this host does not allow to cut the network of a task (it takes unshare and user namespaces). Leave it at auto, or say host.",
      );
    return isolation;
  } finally {
    await disk.remove(folder);
  }
}

function warningsOf(runner: string | null, rules: TaskRules, isolation: Isolation): string[] {
  const who = runner === null ? "Scripts" : "The tasks of the runner";
  const { memory_mib, processes } = rules.limits;
  return [
    ...(isolation.cutsNetwork
      ? []
      : [
          rules.network === "host"
            ? `${who} have the network of this machine${presetOf(runner) ? ", which its model needs" : ""} (--network host).`
            : `${who} have the network of this machine: the host does not allow to cut it (user namespaces).`,
        ]),
    ...(isolation.hidesFolders
      ? []
      : [`${who} can read what this user can, the cluster's own keys among it: the host does not allow to hide them.`]),
    ...(showsProcesses || (memory_mib === null && processes === null)
      ? []
      : [`--memory and --processes are not watched on ${platform()}, which has no /proc.`]),
    ...(process.getuid?.() === 0
      ? ["The cluster runs as root, and so do its tasks. Run it as a user of its own that may do less."]
      : []),
  ];
}

export function taskStatus(
  runner: string | null,
  { policy, rules = rulesFor(runner), maxMinutes = OFFLOAD_TIMEOUT_MINUTES_MAX }: Governance,
  isolation: Isolation,
): TaskStatus {
  return {
    runner,
    network: isolation.cutsNetwork ? "none" : "host",
    hidden: isolation.hidesFolders,
    own_processes: isolation.ownProcesses,
    node_permission: rules.node_permission,
    policy: policy !== undefined,
    limits: { ...rules.limits, max_minutes: maxMinutes, max_file_mb: rules.max_file_mb },
    warnings: warningsOf(runner, rules, isolation),
  };
}

import { execFile } from "node:child_process";
import { realpathSync } from "node:fs";
import { dirname, isAbsolute, relative } from "node:path";
import { promisify } from "node:util";
import { CPU_SLACK_SECONDS, MEMORY_LEAP_MIB, PROBE_WAIT_MS, PROCESS_SLACK } from "./limits.ts";
import { threadsOfUser } from "./processes.ts";
import type { RunLimits, TaskRules } from "./rules.ts";

// A task's command in namespaces of its own, as far as the host allows an ordinary user to make them, and under the limits
// that the system itself holds. What is allowed is found out by doing it.

/** Where a task may read and write: its working directory, and a folder for what is to be forgotten. */
export interface Place {
  readonly work: string;
  readonly scratch: string;
}

/** What holds for a task on this host. */
export interface Isolation {
  /** It has no network but a loopback of its own. */
  readonly cutsNetwork: boolean;
  /** It does not see the folders that are hidden. */
  readonly hidesFolders: boolean;
  /** It sees no other processes, and all of its own end with the first. */
  readonly ownProcesses: boolean;
}

export const NO_ISOLATION: Isolation = { cutsNetwork: false, hidesFolders: false, ownProcesses: false };

/** In the new mount namespace: empty folders over those that are hidden, the task's own put back, and no way to undo it. */
const HIDE = `
set -e
work=$1 scratch=$2 uid=$3 gid=$4 count=$5
shift 5
exec 3<"$work" 4<"$scratch"
while [ "$count" -gt 0 ]; do
  mount -t tmpfs -o mode=0755,size=64k none "$1"
  shift
  count=$((count - 1))
done
mkdir -p "$work" "$scratch"
mount --no-canonicalize --bind /proc/self/fd/3 "$work"
mount --no-canonicalize --bind /proc/self/fd/4 "$scratch"
exec 3<&- 4<&-
cd "$work"
set +e
unshare --user --map-user="$uid" --map-group="$gid" -- "$@"
exit $?
`;

/** Limits that the system holds for each process; one that it does not know is left to the watching. */
const LIMIT = `
ulimit -c 0
[ "$1" = - ] || ulimit -t "$1" 2>/dev/null
[ "$2" = - ] || ulimit -f "$2" 2>/dev/null
[ "$3" = - ] || ulimit -d "$3" 2>/dev/null
[ "$4" = - ] || ulimit -u "$4" 2>/dev/null || ulimit -p "$4" 2>/dev/null
shift 4
exec "$@"
`;

const NAMESPACES = ["unshare", "--user", "--map-root-user", "--mount", "--ipc"];
const OWN_PROCESSES = ["--pid", "--fork", "--kill-child=KILL", "--mount-proc"];
/** Whoever started it may be killed: then so is this. */
const WITH_PARENT = ["setpriv", "--pdeathsig", "KILL", "--"];

interface Way {
  readonly before: readonly string[];
  readonly isolation: Isolation;
}

/** From the best to nothing; a host is given the first that works there. */
function ways(cut: boolean): Way[] {
  const net = cut ? ["--net"] : [];
  const full: Isolation = { cutsNetwork: cut, hidesFolders: true, ownProcesses: true };
  return [
    { before: [...WITH_PARENT, ...NAMESPACES, ...net, ...OWN_PROCESSES], isolation: full },
    { before: [...NAMESPACES, ...net, ...OWN_PROCESSES], isolation: full },
    { before: [...NAMESPACES, ...net], isolation: { ...full, ownProcesses: false } },
  ];
}

const isWithin = (folder: string, path: string): boolean => {
  const way = relative(folder, path);
  return way === "" || !(way.startsWith("..") || isAbsolute(way));
};

/**
 * The folders to cover: none twice, none that is not there, and none in which lies what runs the task.
 * @param needed paths that a task must go on seeing
 */
export function coverable(hidden: readonly string[], needed: readonly string[] = [process.execPath]): string[] {
  const real = hidden.flatMap((folder) => {
    try {
      return [realpathSync(folder)];
    } catch {
      // What is not there need not be hidden.
      return [];
    }
  });
  const shortest = [...new Set(real)].sort((a, b) => a.length - b.length);
  return shortest.filter(
    (folder, index) =>
      dirname(folder) !== folder &&
      !needed.some((path) => isWithin(folder, path)) &&
      !shortest.slice(0, index).some((above) => isWithin(above, folder)),
  );
}

function wrap(
  { before, isolation }: Way,
  place: Place,
  hidden: readonly string[],
  command: readonly string[],
): string[] {
  if (!isolation.hidesFolders) return [...command];
  const ids = [process.getuid?.() ?? 0, process.getgid?.() ?? 0].map(String);
  return [
    ...before,
    ...["sh", "-c", HIDE, "sh", place.work, place.scratch, ...ids, String(hidden.length)],
    ...hidden,
    ...command,
  ];
}

const works = async ([program = "", ...args]: readonly string[], cwd: string): Promise<boolean> => {
  try {
    await promisify(execFile)(program, args, { cwd, timeout: PROBE_WAIT_MS, killSignal: "SIGKILL" });
    return true;
  } catch {
    return false;
  }
};

/** The best way that this host allows. @param wanted whether the network is to be cut @param place two folders of one's own */
async function wayOf(wanted: boolean, place: Place, hidden: readonly string[]): Promise<Way> {
  if (process.platform === "linux") {
    for (const way of ways(wanted)) if (await works(wrap(way, place, hidden, ["true"]), place.work)) return way;
  }
  return { before: [], isolation: NO_ISOLATION };
}

/** What holds for a task on this host, under these rules. @param place two folders to try it with, which stay as they are */
export async function probeIsolation(rules: Pick<TaskRules, "network" | "hidden">, place: Place): Promise<Isolation> {
  return (await wayOf(rules.network !== "host", place, coverable(rules.hidden))).isolation;
}

/**
 * A command that runs in its place as isolated as the host allows, under the limits.
 * @throws Error when the rules want the network cut, and the host does not allow it
 */
export async function isolate(
  command: readonly string[],
  place: Place,
  rules: TaskRules,
): Promise<{ readonly command: string[]; readonly isolation: Isolation }> {
  const hidden = coverable(rules.hidden);
  const way = await wayOf(rules.network !== "host", place, hidden);
  if (rules.network === "none" && !way.isolation.cutsNetwork)
    throw new Error(
      "This cluster runs tasks without network only (--network none), and its host does not allow to cut it. Tell its operator.",
    );
  return { command: wrap(way, place, hidden, limited(command, rules.limits)), isolation: way.isolation };
}

/** The command under the limits that the system holds for each process. */
function limited(command: readonly string[], limits: RunLimits): string[] {
  if (process.platform === "win32") return [...command];
  const { memory_mib, cpu_minutes, processes, output_mb } = limits;
  const values = [
    cpu_minutes === null ? "-" : Math.ceil(cpu_minutes * 60) + CPU_SLACK_SECONDS,
    // In blocks of 512 bytes, one more than is allowed.
    output_mb === null ? "-" : Math.ceil((output_mb * 1_000_000) / 512) + 1,
    memory_mib === null ? "-" : (memory_mib + MEMORY_LEAP_MIB) * 1024,
    // Older systems count all that the user runs.
    processes === null ? "-" : threadsOfUser() + processes + PROCESS_SLACK,
  ];
  return ["sh", "-c", LIMIT, "sh", ...values.map(String), ...command];
}

import { readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { FREEZE_ROUNDS_MAX, KILL_EVERY_MS, KILL_ROUNDS_MAX } from "./limits.ts";

// The processes of a task, as /proc shows them: the one that was started, all below it, those that were seen below it
// earlier and have left it since, and those that keep something of it: its mark in their environment, its folders as their
// working directory, its input or output. One that leaves the tree unseen and lets go of all of that is not known any more.

/** The variable that marks every process of a task. */
export const MARK = "KARS_TASK";
/** Ticks of a second in /proc, fixed by the kernel's interface. */
const TICKS_PER_SECOND = 100;

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly threads: number;
  /** Processor time of its own and of its children that it has waited for, seconds. */
  readonly cpuSeconds: number;
  /** With the pid, what tells a process from a later one of the same number. */
  readonly started: string;
  readonly isZombie: boolean;
}

/** What a task takes at one moment. */
export interface Consumption {
  /** Processes and threads. */
  readonly tasks: number;
  readonly memoryBytes: number;
  readonly cpuSeconds: number;
}

/** Whether this host shows its processes. */
export const showsProcesses = process.platform === "linux";

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // It ended meanwhile, or belongs to somebody else.
    return "";
  }
}

function look(pid: number): Process | undefined {
  const text = read(`/proc/${pid}/stat`);
  // The name stands in parentheses and may hold anything; what follows is numbers.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const number = (index: number) => Number(fields[index] ?? 0);
  if (fields.length < 20) return undefined;
  return {
    pid,
    parent: number(1),
    threads: number(17),
    cpuSeconds: (number(11) + number(12) + number(13) + number(14)) / TICKS_PER_SECOND,
    started: fields[19] ?? "",
    isZombie: fields[0] === "Z" || fields[0] === "X",
  };
}

const all = (): Process[] =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => look(Number(name)))
    .filter((found) => found !== undefined);

/** Memory that is the process's own or shared with its kin; not the text of programs. */
function memoryOf(pid: number): number {
  const text = read(`/proc/${pid}/status`);
  const kib = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? 0);
  return (kib("RssAnon") + kib("RssShmem")) * 1024;
}

const isMarked = (pid: number, mark: string): boolean =>
  `\0${read(`/proc/${pid}/environ`)}`.includes(`\0${MARK}=${mark}\0`);

const linkOf = (path: string): string => {
  try {
    return readlinkSync(path);
  } catch {
    // It ended meanwhile, or belongs to somebody else.
    return "";
  }
};

/** What input, output and errors of a process lead to, as far as nobody has that by chance. */
const linesOf = (pid: number): string[] =>
  [0, 1, 2].map((fd) => linkOf(`/proc/${pid}/fd/${fd}`)).filter((link) => /^(?:socket|pipe):\[/.test(link));

/** The folders in which a task works, below the one that marks it. */
function placesOf(mark: string): string[] {
  return ["work", "scratch"].flatMap((name) => {
    try {
      return [realpathSync(join(mark, name))];
    } catch {
      // It is not there, and nobody works in it.
      return [];
    }
  });
}

/** Threads of this user on the whole host. */
export function threadsOfUser(): number {
  const uid = process.getuid?.();
  if (!showsProcesses || uid === undefined) return 0;
  const isOurs = ({ pid }: Process) => new RegExp(`^Uid:\\s+${uid}\\s`, "m").test(read(`/proc/${pid}/status`));
  return all().reduce((sum, each) => sum + (isOurs(each) ? each.threads : 0), 0);
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has just ended.
  }
}

/** The processes of one task. On hosts without /proc only the first one is known. */
export class TaskProcesses {
  readonly #root: number | undefined;
  readonly #mark: string | undefined;
  readonly #known = new Map<number, string>();
  readonly #places: readonly string[];
  readonly #lines: ReadonlySet<string>;

  /**
   * @param root the process that was started, by its id, if it is known
   * @param mark what its environment says in `MARK`, the sandbox's folder; undefined where none can leave the tree of the first
   */
  constructor(root: number | undefined, mark: string | undefined) {
    this.#root = root;
    this.#mark = mark;
    this.#places = mark === undefined ? [] : placesOf(mark);
    this.#lines = new Set(mark === undefined || root === undefined || !showsProcesses ? [] : linesOf(root));
  }

  /** Whether a process keeps something of the task. */
  #keeps(pid: number, mark: string): boolean {
    if (isMarked(pid, mark) || linesOf(pid).some((line) => this.#lines.has(line))) return true;
    const at = linkOf(`/proc/${pid}/cwd`);
    return this.#places.some((place) => at === place || at.startsWith(`${place}/`) || at === `${place} (deleted)`);
  }

  /** Those that live. */
  #living(): Process[] {
    if (!showsProcesses) return [];
    const processes = all();
    const isKnown = ({ pid, started }: Process) => this.#known.get(pid) === started;
    const members = new Set(processes.filter((each) => each.pid === this.#root || isKnown(each)).map(({ pid }) => pid));
    for (let grown = -1; grown !== members.size; ) {
      grown = members.size;
      for (const { pid, parent } of processes) if (members.has(parent)) members.add(pid);
    }
    const mark = this.#mark;
    if (mark !== undefined)
      for (const { pid } of processes) if (!members.has(pid) && this.#keeps(pid, mark)) members.add(pid);
    const found = processes.filter(({ pid }) => members.has(pid));
    for (const { pid, started } of found) this.#known.set(pid, started);
    return found.filter(({ isZombie }) => !isZombie);
  }

  consumption(): Consumption {
    const living = this.#living();
    return {
      tasks: living.reduce((sum, { threads }) => sum + threads, 0),
      memoryBytes: living.reduce((sum, { pid }) => sum + memoryOf(pid), 0),
      cpuSeconds: living.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0),
    };
  }

  /** Sends a signal to each of them. Returns how many there were. */
  signal(signal: NodeJS.Signals): number {
    if (!showsProcesses) return this.#first(signal);
    const living = this.#living();
    for (const { pid } of living) send(pid, signal);
    return living.length;
  }

  /** Sends a signal to the one that was started. */
  #first(signal: NodeJS.Signals): 0 {
    if (this.#root !== undefined) send(this.#root, signal);
    return 0;
  }

  /**
   * Stops all of them: whoever is stopped makes no others, and keeps its place among those that the system allows. Killed one
   * by one, what multiplies would be back before the last is gone.
   */
  #freeze(): void {
    const stopped = new Set<number>();
    for (let round = 0; round < FREEZE_ROUNDS_MAX; round++) {
      const fresh = this.#living().filter(({ pid }) => !stopped.has(pid));
      if (fresh.length === 0) return;
      for (const { pid } of fresh) {
        send(pid, "SIGSTOP");
        stopped.add(pid);
      }
    }
  }

  /** Kills until none is left. Returns how many could not be killed. */
  async end(): Promise<number> {
    // In namespaces of their own all of them end with it, which is faster than they can be counted.
    this.#first("SIGKILL");
    for (let round = 0; round < KILL_ROUNDS_MAX; round++) {
      this.#freeze();
      if (this.signal("SIGKILL") === 0) return 0;
      await new Promise((resolve) => setTimeout(resolve, KILL_EVERY_MS));
    }
    return this.#living().length;
  }
}

/** Kills what carries this mark, wherever it went. For those who did not start it. */
export function endMarked(mark: string): Promise<number> {
  return new TaskProcesses(undefined, mark).end();
}

import type { Stats } from "node:fs";
import type { Held } from "./held.ts";
import { ENTRIES_MAX, FOLDER_DEPTH_MAX, LOOK_EVERY_MS, MEASURE_EVERY_MS } from "./limits.ts";
import { measure } from "./measure.ts";
import { type Consumption, showsProcesses, type TaskProcesses } from "./processes.ts";
import type { RunLimits } from "./rules.ts";

// Watches that a task with all its processes stays within its limits, and says which one it did not keep.

const MiB = 1024 * 1024;
const round = (value: number) => Math.round(value * 10) / 10;

/** A limit that was reached, as a sentence with what was used and how the operator raises it. */
const breach = (used: string, allowed: string, option: string): string =>
  `it used ${used}; this cluster allows a task ${allowed}, which its operator can raise with ${option}`;

/** What of the limits such a consumption breaks. */
export function breachOf(limits: RunLimits, { tasks, memoryBytes, cpuSeconds }: Consumption): string | undefined {
  const { memory_mib, cpu_minutes, processes } = limits;
  if (memory_mib !== null && memoryBytes > memory_mib * MiB)
    return breach(`${Math.ceil(memoryBytes / MiB)} MiB of memory`, `${memory_mib} MiB`, "--memory");
  if (processes !== null && tasks > processes)
    return breach(`${tasks} processes and threads`, `${processes} at once`, "--processes");
  if (cpu_minutes !== null && cpuSeconds > cpu_minutes * 60)
    return breach(`${round(cpuSeconds / 60)} minutes of processor time`, `${cpu_minutes}`, "--cpu-time");
  return undefined;
}

export interface WatchOptions {
  readonly limits: RunLimits;
  readonly processes: TaskProcesses;
  /** Its folders, and what lay in them before it began. */
  readonly folders: readonly Held[];
  readonly before: number;
  /** Bytes that it printed so far. */
  readonly printed: () => number;
  /** Called once, with the limit that was reached. */
  readonly onBreach: (what: string) => void;
  /** Called as often as its folders are measured. */
  readonly onMeasured: () => void;
}

export class Watch {
  readonly #options: WatchOptions;
  #stopped = false;
  #breached = false;
  readonly #looking: NodeJS.Timeout | undefined;
  #measuring: NodeJS.Timeout | undefined;
  /** Folders that the latest measurement found closed. */
  #closed = new Set<string>();

  constructor(options: WatchOptions) {
    this.#options = options;
    if (showsProcesses) this.#looking = setInterval(() => this.#look(), LOOK_EVERY_MS);
    this.#measureSoon();
  }

  #found(what: string | undefined): void {
    if (what === undefined || this.#breached) return;
    this.#breached = true;
    this.#options.onBreach(what);
  }

  #look(): void {
    const { limits, processes } = this.#options;
    this.#found(breachOf(limits, processes.consumption()));
  }

  #measureSoon(): void {
    this.#measuring = setTimeout(() => {
      this.#options.onMeasured();
      this.measured().finally(() => {
        if (!this.#stopped) this.#measureSoon();
      });
    }, MEASURE_EVERY_MS);
  }

  /** What was printed is counted as it comes. */
  printed(): void {
    this.#output(this.#options.printed());
  }

  #output(bytes: number): void {
    const { output_mb } = this.#options.limits;
    if (output_mb !== null && bytes > output_mb * 1_000_000)
      this.#found(breach(`${round(bytes / 1_000_000)} MB of files and output`, `${output_mb} MB`, "--output-size"));
  }

  /** Measures the folders now. @param isOver whether none of the task's processes can mind that closed folders are opened */
  async measured(isOver = false): Promise<void> {
    const { folders, before, printed } = this.#options;
    // A program may close a folder for a moment, to try something out; one that stays closed is opened, and counts.
    const known = this.#closed;
    const closed = new Set<string>();
    const opens = ({ dev, ino }: Stats) => {
      closed.add(`${dev}:${ino}`);
      return isOver || known.has(`${dev}:${ino}`);
    };
    const { bytes, entries, depth } = await measure(folders, opens);
    this.#closed = closed;
    if (entries > ENTRIES_MAX) this.#found(`it left more than ${ENTRIES_MAX} files, the most that a task may`);
    if (depth > FOLDER_DEPTH_MAX)
      this.#found(`it left folders more than ${FOLDER_DEPTH_MAX} deep in each other, the most that a task may`);
    this.#output(Math.max(0, bytes - before) + printed());
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#looking);
    clearTimeout(this.#measuring);
  }
}

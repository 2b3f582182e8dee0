import { readdirSync, readFileSync } from "node:fs";

// Processes of this machine, as Linux shows them.

const parentOf = (pid: string): number => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const [state = "", parent = ""] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return state === "Z" ? 0 : Number(parent);
  } catch {
    return 0;
  }
};

/** Ids of the processes that a process has started and that still run. */
export const childrenOf = (pid: number): number[] =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && parentOf(name) === pid)
    .map(Number);

export function isAlive(pid: number): boolean {
  return parentOf(String(pid)) > 0;
}

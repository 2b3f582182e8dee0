import type { Difference } from "../inspect/divergence.ts";
import { line } from "./output.ts";

// What changed between two states of a stream, for people.

const text = (value: unknown) => (value === undefined ? "nothing" : JSON.stringify(value));

/** Lists whose entries are told by name: which came and which went. */
const LISTS = ["effects", "accepts"] as const;

/** A line a change; of the lists one line each. */
export function formatChanges(changes: readonly Difference[]): string[] {
  const listOf = ({ path, recorded, now }: Difference) =>
    recorded === undefined || now === undefined ? LISTS.find((list) => path.startsWith(`${list}.`)) : undefined;
  const lines = changes
    .filter((change) => listOf(change) === undefined)
    .map(({ path, recorded, now }) => line(`${path}: ${text(recorded)} -> ${text(now)}`));
  for (const list of LISTS) {
    const inIt = changes.filter((change) => listOf(change) === list);
    const names = (came: boolean) =>
      inIt.filter(({ now }) => (now !== undefined) === came).map(({ path }) => path.slice(list.length + 1));
    const parts = [
      ["now also", names(true)],
      ["no longer", names(false)],
    ] as const;
    const told = parts.filter(([, some]) => some.length > 0).map(([how, some]) => `${how} ${some.join(", ")}`);
    if (told.length > 0) lines.push(line(`${list}: ${told.join("; ")}`));
  }
  return lines;
}

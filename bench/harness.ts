import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

// Ratios, side by side in one run: whatever slows the machine down for a while slows down ours and the peer alike.

/** Where peers are installed and homes are built: on the disk of the project, since a temporary folder may be memory. */
export const CACHE = fileURLToPath(new URL("../.cache/bench/", import.meta.url));

/** One way to do the work of a row. `round` does it once more and gives its figure. */
export interface Contender {
  readonly name: string;
  readonly round: () => Promise<number>;
}

/** The middle of some figures, and the least and the greatest of them. */
export interface Summary {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

/** What the ratio (or, without a peer, our own figure) has to hold. */
export type Goal = { readonly atLeast: number } | { readonly atMost: number };

/** One line of the table. */
export interface Row {
  readonly work: string;
  readonly unit: string;
  readonly ours: Summary;
  readonly peer?: { readonly name: string; readonly figure: Summary };
  /** Ours divided by the peer's, round by round. */
  readonly ratio?: Summary;
  /** Without one the row only informs. */
  readonly goal?: Goal;
}

export interface Subject {
  /** As it is named on the command line. */
  readonly name: string;
  readonly about: string;
  readonly measure: (tell: (line: string) => void) => Promise<readonly Row[]>;
}

export function summary(figures: readonly number[]): Summary {
  const sorted = figures.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [low = Number.NaN, high = Number.NaN] = [sorted[0], sorted.at(-1)];
  const upper = sorted[middle] ?? Number.NaN;
  const median = sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
  return { median, low, high };
}

/**
 * Runs ours and the peers in turn, round after round; the order is reversed each time, so that nobody always comes after
 * the same one. A first round warms up and does not count.
 * @returns a row for each peer
 */
export async function compare(
  work: { readonly work: string; readonly unit: string; readonly rounds: number },
  ours: Contender,
  peers: readonly (Contender & { readonly goal?: Goal })[],
): Promise<Row[]> {
  const all = [ours, ...peers];
  const figures = new Map<Contender, number[]>(all.map((each) => [each, []]));
  for (let round = 0; round <= work.rounds; round++) {
    for (const each of round % 2 === 0 ? all : all.toReversed()) {
      const figure = await each.round();
      if (round > 0) figures.get(each)?.push(figure);
    }
  }
  const of = (each: Contender) => figures.get(each) ?? [];
  return peers.map((peer) => ({
    work: work.work,
    unit: work.unit,
    ours: summary(of(ours)),
    peer: { name: peer.name, figure: summary(of(peer)) },
    ratio: summary(of(ours).map((figure, round) => figure / (of(peer)[round] ?? Number.NaN))),
    ...(peer.goal && { goal: peer.goal }),
  }));
}

/** Whether the row's goal holds; undefined when it has none. */
export function holds({ ours, ratio, goal }: Row): boolean | undefined {
  if (!goal) return undefined;
  const { median } = ratio ?? ours;
  return "atLeast" in goal ? median >= goal.atLeast : median <= goal.atMost;
}

/** Gives `work` a directory that is gone afterwards. */
export async function withDirectory<T>(work: (directory: string) => Promise<T>): Promise<T> {
  await mkdir(CACHE, { recursive: true });
  const directory = await mkdtemp(join(CACHE, "run-"));
  try {
    return await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

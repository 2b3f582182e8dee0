import { RECENT_COMMITS_SIZE_MAX } from "../limits.ts";
import type { Commit, Place } from "./journal-line.ts";

/** The newest commits of a journal, by their places: who reads what has just been written need not ask the disk. */
export class RecentCommits {
  /** The oldest first. */
  readonly #commits = new Map<string, Commit>();
  /** Bytes of their lines. */
  #size = 0;

  keep(commit: Commit): void {
    this.#commits.set(keyOf(commit.place), commit);
    this.#size += commit.place.length;
    for (const [key, { place }] of this.#commits) {
      if (this.#size <= RECENT_COMMITS_SIZE_MAX) return;
      this.#commits.delete(key);
      this.#size -= place.length;
    }
  }

  get(place: Place): Commit | undefined {
    return this.#commits.get(keyOf(place));
  }
}

const keyOf = ({ segment, offset }: Place) => `${segment} ${offset}`;

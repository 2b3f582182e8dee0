import type { Commit } from "../store/journal.ts";

/** What is derived from the commits alone, in their order: an index, a list. It can be rebuilt at any time. */
export interface Projection {
  readonly name: string;
  readonly version: number;
  apply(commit: Commit): void;
  capture(): unknown;
  restore(state: unknown): void;
}

import type { History } from "./history.ts";
import type { Live } from "./protocol.ts";

/** What all panels show: one moment, one actor, one search. */
export interface View {
  readonly history: History;
  /** Actors without a history, by stream. */
  readonly live: ReadonlyMap<string, Live>;
  /** The stream that is chosen. */
  readonly chosen: string | undefined;
  readonly query: string;
  readonly onlyChosen: boolean;
  /** Whether the moment is now, and goes on with what happens. */
  readonly isLive: boolean;
}

/** What panels ask for. */
export interface Doing {
  choose(stream: string): void;
  goTo(moment: number): void;
}

/** The row whose event is the last one at the moment, of the chosen stream; -1 when there is none. */
export function rowOf({ history, chosen }: View): number {
  const stream = chosen === undefined ? -1 : history.words.indexOf(chosen);
  return stream <= 0 ? -1 : history.lastOf(stream);
}

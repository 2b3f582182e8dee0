// What may go wrong on the way between two processes, and how often.

export interface NetworkFaults {
  /** That a message on a socket comes a second time, later. */
  readonly repeat: number;
  /** That the socket breaks when something is sent. */
  readonly cut: number;
  /** That a request, or its answer, is lost. */
  readonly loss: number;
  /** That a relay which forgets loses a frame of one client to another. */
  readonly drop: number;
  /** That a knock is refused by whoever stands before the node. */
  readonly refuse: number;
  /** That a knock comes a second time with another key in it. */
  readonly forge: number;
  readonly latencyMs: number;
}

export const CALM: NetworkFaults = { repeat: 0, cut: 0, loss: 0, drop: 0, refuse: 0, forge: 0, latencyMs: 5 };

import { CLOSE } from "../wire/frame.ts";
import { CONNECT_EXPECTED, type Refusal } from "./admission.ts";
import type { Connection } from "./connection.ts";
import { CONNECT_SIZE_MAX, CROWDED_WAIT_MS, WAITING_SOCKETS_MAX } from "./limits.ts";

// The sockets that have not sent a whole frame yet. Nobody knows who they are, so each is given a few kB, and a second when they
// are many.

const CONNECT_TOO_LARGE: Refusal = {
  code: CLOSE.tooLarge,
  reason: "connect_too_large",
  message: `The connect is larger than ${CONNECT_SIZE_MAX} bytes.`,
};

export interface WaitingOptions {
  readonly now: () => number;
  readonly refuse: (connection: Connection, refusal: Refusal) => void;
}

export class Waiting {
  readonly #options: WaitingOptions;
  /** The bytes that have come of each, in the order in which they were opened. */
  readonly #came = new Map<Connection, number>();
  constructor(options: WaitingOptions) {
    this.#options = options;
  }

  entered(connection: Connection): void {
    this.#came.set(connection, 0);
    for (const [first] of this.#came) {
      if (this.#came.size <= WAITING_SOCKETS_MAX || this.#options.now() - first.aliveAt <= CROWDED_WAIT_MS) break;
      this.left(first);
      this.#options.refuse(first, CONNECT_EXPECTED);
    }
  }

  /** Counts what has come, and cuts the line of one that sends too much. False when there is nothing more to count. */
  came(connection: Connection, bytes: number): boolean {
    const before = this.#came.get(connection);
    if (before === undefined) return false;
    this.#came.set(connection, before + bytes);
    if (before + bytes <= CONNECT_SIZE_MAX) return true;
    this.left(connection);
    this.#options.refuse(connection, CONNECT_TOO_LARGE);
    connection.cut();
    return false;
  }

  /** Its first frame is there, or it has ended. */
  left(connection: Connection): void {
    this.#came.delete(connection);
  }
}

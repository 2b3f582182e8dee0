import { LINK_FAREWELL_MS } from "../limits.ts";
import type { Clock, Socket } from "./ports.ts";

/**
 * A connection to a plain relay waits until the one before it is closed. The reference relay strikes a client off its list when a frame
 * for it meets a connection that is being closed. If the client has connected again meanwhile, it gets nothing more.
 */
export class Farewell {
  readonly #clock: Clock;
  #waiting: { readonly socket: Socket; readonly disarm: () => void; readonly go: () => void } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @param go called once, when this socket has ended or after a bounded time, since a network that is gone closes nothing */
  to(socket: Socket, go: () => void): void {
    this.cancel();
    const disarm = this.#clock.at(this.#clock.now() + LINK_FAREWELL_MS, () => this.ended(socket));
    this.#waiting = { socket, disarm, go };
  }

  ended(socket: Socket): void {
    if (this.#waiting?.socket !== socket) return;
    const { go } = this.#waiting;
    this.cancel();
    go();
  }

  /** Nothing is dialed any more. */
  cancel(): void {
    this.#waiting?.disarm();
    this.#waiting = undefined;
  }
}

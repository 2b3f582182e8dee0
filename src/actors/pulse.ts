import { RELAY_IDLE_MS } from "../limits.ts";

/**
 * Whether the other side of a connection still lives. A network that goes away says nothing: after a sleep, or on another network, a
 * socket may look open for many minutes.
 */
export class Pulse {
  /** The last heartbeat: when it was, what waited in the socket then, and whether anything was heard since. */
  #last: { readonly at: number; readonly buffered: number; heard: boolean } | undefined;

  /** Something came from the other side. */
  heard(): void {
    if (this.#last) this.#last.heard = true;
  }

  /**
   * Called before each heartbeat.
   * @param now epoch milliseconds @param buffered bytes that wait in the socket
   * @returns why the connection is lost; undefined while it may live
   */
  beat(now: number, buffered: number): string | undefined {
    const last = this.#last;
    // A relay takes a client that was silent for so long for gone, and a plain relay gives it nothing more on this connection.
    if (last && now - last.at > RELAY_IDLE_MS) return "this machine was asleep";
    if (last && !last.heard && buffered >= last.buffered) return "the relay gives no sign of life";
    this.#last = { at: now, buffered, heard: false };
    return undefined;
  }

  /** Another connection begins. */
  reset(): void {
    this.#last = undefined;
  }
}

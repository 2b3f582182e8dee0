import { SEND_BUFFER_SIZE_MAX } from "../limits.ts";
import type { FrameText } from "../wire/frame-text.ts";
import type { Mail } from "./mailbox.ts";

// Delivery to one connection: a cursor over the recipient's mailbox. What waited and what comes live are the same row, so
// order is the row's order; and a slow reader costs a number, not memory.

/** The part of a WebSocket that delivery needs. */
export interface Outlet {
  readonly readyState: number;
  readonly OPEN: number;
  readonly bufferedAmount: number;
  /** `flushed` is called when the text has been handed to the operating system, or with the error. */
  send(text: FrameText, flushed: (error?: Error | null) => void): void;
}

export class Delivery {
  readonly #outlet: Outlet;
  readonly #mailAfter: (position: number) => Iterable<Mail>;
  #position = 0;
  #isBlocked = false;

  /** @param mailAfter the mailbox's frames after a position, in order */
  constructor(outlet: Outlet, mailAfter: (position: number) => Iterable<Mail>) {
    this.#outlet = outlet;
    this.#mailAfter = mailAfter;
  }

  /** Sends what the mailbox holds after the cursor, as much as the socket takes now; the rest follows by itself. */
  pump(): void {
    const outlet = this.#outlet;
    if (outlet.readyState !== outlet.OPEN) return;
    this.#isBlocked = false;
    for (const mail of this.#mailAfter(this.#position)) {
      if (outlet.bufferedAmount >= SEND_BUFFER_SIZE_MAX) {
        this.#isBlocked = true;
        return;
      }
      this.#position = mail.position;
      outlet.send(mail.text, this.flushed);
    }
  }

  /** To be told of everything that leaves the socket: this is where blocked delivery goes on. */
  readonly flushed = (error?: Error | null): void => {
    // A failed write means that the socket is closing: the mail stays where it is, for the next connection.
    if (!error && this.#isBlocked && this.#outlet.bufferedAmount < SEND_BUFFER_SIZE_MAX / 2) this.pump();
  };
}

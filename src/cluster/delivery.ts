import { SEND_BUFFER_SIZE_MAX } from "../limits.ts";
import type { FrameText } from "../wire/frame-text.ts";
import type { MailFeed } from "./state.ts";

// Delivery to one connection: what its mailbox gives goes out as fast as the socket takes it. A slow reader costs a number,
// not memory.

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
  readonly #feed: MailFeed;
  #isBlocked = false;

  constructor(outlet: Outlet, feed: MailFeed) {
    this.#outlet = outlet;
    this.#feed = feed;
  }

  /** Sends what the mailbox has at hand, as much as the socket takes now; the rest follows by itself. */
  pump(): void {
    const outlet = this.#outlet;
    if (outlet.readyState !== outlet.OPEN) return;
    for (;;) {
      this.#isBlocked = outlet.bufferedAmount >= SEND_BUFFER_SIZE_MAX;
      const mail = this.#isBlocked ? undefined : this.#feed.next();
      if (!mail) return;
      outlet.send(mail.text, this.flushed);
    }
  }

  /** To be told of everything that leaves the socket: this is where blocked delivery goes on. */
  readonly flushed = (error?: Error | null): void => {
    // A failed write means that the socket is closing: the mail stays where it is, for the next connection.
    if (!error && this.#isBlocked && this.#outlet.bufferedAmount < SEND_BUFFER_SIZE_MAX / 2) this.pump();
  };
}

import { SEND_BUFFER_SIZE_MAX } from "../limits.ts";
import type { FrameText } from "../wire/frame-text.ts";
import type { Confirmations } from "./confirmations.ts";
import { READER_RATE_MIN, READER_WAIT_MS } from "./limits.ts";
import type { Mail, MailFeed } from "./state.ts";

// Delivery to one connection: what its mailbox gives goes out as fast as the socket takes it. A slow reader costs a number,
// not memory, and one that takes nothing is known.

/** The part of a WebSocket that delivery needs. */
export interface Outlet {
  readonly readyState: number;
  readonly OPEN: number;
  readonly bufferedAmount: number;
  /** `flushed` is called when the text has been handed to the operating system, or with the error. */
  send(text: FrameText, flushed: (error?: Error | null) => void): void;
}

export interface DeliveryOptions {
  readonly now?: () => number;
  /** Told of mail that was handed to the operating system. */
  readonly onHanded?: ((mail: Mail) => void) | undefined;
  /** What a plain client has confirmed; undefined for a client that acks. */
  readonly confirmations?: Confirmations | undefined;
}

export class Delivery {
  readonly #outlet: Outlet;
  readonly #feed: MailFeed;
  readonly #now: () => number;
  readonly #onHanded: DeliveryOptions["onHanded"];
  readonly #confirmations: Confirmations | undefined;
  #isBlocked = false;
  /** When the socket last took something, or began to have something to take. */
  #takenAt: number;

  constructor(outlet: Outlet, feed: MailFeed, options: DeliveryOptions = {}) {
    const { now = Date.now, onHanded, confirmations } = options;
    this.#outlet = outlet;
    this.#feed = feed;
    this.#now = now;
    this.#onHanded = onHanded;
    this.#confirmations = confirmations;
    this.#takenAt = now();
    if (confirmations) confirmations.onRoom = () => this.pump();
  }

  /** Sends what the mailbox has at hand, as much as the socket takes now; the rest follows by itself. */
  pump(): void {
    const outlet = this.#outlet;
    const confirmations = this.#confirmations;
    if (outlet.readyState !== outlet.OPEN) return;
    for (;;) {
      this.#isBlocked = outlet.bufferedAmount >= SEND_BUFFER_SIZE_MAX || confirmations?.isFull === true;
      const mail = this.#isBlocked ? undefined : this.#feed.next();
      if (!mail) break;
      confirmations?.given(mail);
      this.sending();
      outlet.send(mail.text, (error) => {
        if (!error) this.#onHanded?.(mail);
        this.flushed(error);
      });
    }
    confirmations?.ask();
  }

  /** To be told before anything is sent. */
  sending(): void {
    if (this.#outlet.bufferedAmount === 0) this.#takenAt = this.#now();
  }

  /** To be told of everything that leaves the socket: this is where blocked delivery goes on. */
  readonly flushed = (error?: Error | null): void => {
    // A failed write means that the socket is closing: the mail stays where it is, for the next connection.
    if (error) return;
    this.#takenAt = this.#now();
    if (this.#isBlocked && this.#outlet.bufferedAmount < SEND_BUFFER_SIZE_MAX / 2) this.pump();
  };

  /** Whether the socket has taken nothing for longer than even a slow reader needs for what waits in it. */
  get isStalled(): boolean {
    const { bufferedAmount } = this.#outlet;
    const patienceMs = READER_WAIT_MS + (1000 * bufferedAmount) / READER_RATE_MIN;
    return bufferedAmount > 0 && this.#now() - this.#takenAt > patienceMs;
  }
}

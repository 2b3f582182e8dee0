import { SEND_BUFFER_SIZE_MAX } from "../limits.ts";
import type { FrameText } from "../wire/frame-text.ts";
import { type Confirmations, isMessage } from "./confirmations.ts";
import { NOTED_FRAMES_MAX, READER_RATE_MIN, READER_WAIT_MS, UNCONFIRMED_SIZE_MAX } from "./limits.ts";
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
  /** Told why the client cannot be given what was taken for it: this delivery gives no more. */
  readonly onFailed?: ((error: unknown) => void) | undefined;
}

export class Delivery {
  readonly #outlet: Outlet;
  readonly #feed: MailFeed;
  readonly #now: () => number;
  readonly #onHanded: DeliveryOptions["onHanded"];
  readonly #confirmations: Confirmations | undefined;
  readonly #onFailed: DeliveryOptions["onFailed"];
  #isBlocked = false;
  /** Frames for a plain client that are noted and wait for room. When the connection ends, they are released. */
  readonly #noted: Mail[] = [];
  /** A note of the next frames is being written, and all others wait behind them. */
  #isNoting = false;
  /** When the socket last took something, or began to have something to take. */
  #takenAt: number;

  constructor(outlet: Outlet, feed: MailFeed, options: DeliveryOptions = {}) {
    const { now = Date.now, onHanded, confirmations, onFailed } = options;
    this.#outlet = outlet;
    this.#feed = feed;
    this.#now = now;
    this.#onHanded = onHanded;
    this.#confirmations = confirmations;
    this.#onFailed = onFailed;
    this.#takenAt = now();
    if (confirmations) confirmations.onRoom = () => this.pump();
  }

  /** Sends what the mailbox has at hand, as much as the socket takes now; the rest follows by itself. */
  pump(): void {
    const outlet = this.#outlet;
    if (outlet.readyState !== outlet.OPEN) return;
    for (let mail = this.#next(); mail; mail = this.#next()) this.#give(mail);
    this.#confirmations?.ask();
    this.#noteAhead();
  }

  /** The next frame that may be given now. */
  #next(): Mail | undefined {
    const confirmations = this.#confirmations;
    this.#isBlocked = this.#outlet.bufferedAmount >= SEND_BUFFER_SIZE_MAX || confirmations?.isFull === true;
    if (this.#isBlocked) return undefined;
    const noted = this.#noted.shift();
    if (noted) return noted;
    return this.#isNoting || confirmations?.isAnswering ? undefined : this.#feed.next();
  }

  #give(mail: Mail): void {
    this.#confirmations?.given(mail);
    this.sending();
    this.#outlet.send(mail.text, (error) => {
      if (!error) this.#onHanded?.(mail);
      this.flushed(error);
    });
  }

  /** Notes the next frames of a plain client, so that some are at hand when it has confirmed those before. */
  #noteAhead(): void {
    if (!this.#confirmations?.isAnswering || this.#isNoting || this.#noted.length > NOTED_FRAMES_MAX / 2) return;
    const taken: Mail[] = [];
    let room = UNCONFIRMED_SIZE_MAX - this.#noted.reduce((sum, { size }) => sum + size, 0);
    while (room > 0 && this.#noted.length + taken.length < NOTED_FRAMES_MAX) {
      const mail = this.#feed.next();
      if (!mail) break;
      taken.push(mail);
      room -= mail.size;
    }
    if (taken.length === 0) return;
    this.#isNoting = true;
    const messages = taken.filter(({ text }) => isMessage(text));
    const noting = messages.length > 0 ? this.#feed.note(messages) : Promise.resolve();
    noting.then(
      () => {
        this.#isNoting = false;
        this.#noted.push(...taken);
        this.pump();
      },
      (error: unknown) => this.#onFailed?.(error),
    );
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

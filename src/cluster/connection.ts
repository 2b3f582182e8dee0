import { IN_FLIGHT_FRAMES_MAX, IN_FLIGHT_SIZE_MAX, RELAY_CLOSE_WAIT_MS, REPLY_BUFFER_SIZE_MAX } from "../limits.ts";
import type { FrameText } from "../wire/frame-text.ts";
import type { Caller } from "./address.ts";
import { Confirmations, type ConfirmationsOptions, type Pinged } from "./confirmations.ts";
import { Delivery, type DeliveryOptions, type Outlet } from "./delivery.ts";
import { GOODBYE_WAIT_MS } from "./limits.ts";
import { Refusals } from "./refusals.ts";
import type { Mail, MailFeed } from "./state.ts";

// One socket of the relay: who is at the other end, when it last gave a sign of life, and how much of it is under way.

/** What the relay is told of a socket that it took. */
export interface SocketEnd {
  /** So many bytes have come, and `received` was told of the frames in them. False when nobody counts them any more. */
  came(bytes: number): boolean;
  /** A message; undefined for one that is not text. */
  received(text: FrameText | undefined): void;
  /** A ping of so many bytes, which counts as a frame. */
  pinged(bytes: number): void;
  /** A pong. One that answers no ping counts as a frame. */
  ponged(payload: string): void;
  /** What went wrong; `closed` follows. */
  failed(reason: string): void;
  /** It has ended, with the code of the other side's goodbye, or 1006 when there was none. */
  closed(code: number): void;
}

/** An opened WebSocket as the relay needs it. */
export interface RelaySocket extends Outlet, Pinged {
  readonly isPaused: boolean;
  pause(): void;
  resume(): void;
  /** Says goodbye and waits for the other side's. What comes before that is still given. */
  close(code: number, reason: string): void;
  terminate(): void;
}

/** Who was let in. */
interface Peer {
  readonly did: string;
  /** When it signed that it holds the DID's key; undefined when it did not. */
  readonly provenAt: number | undefined;
  /** The features that it announced and the relay has. */
  readonly extensions: readonly string[];
  readonly feed: MailFeed;
  readonly delivery: Delivery;
  /** What has arrived at a plain client; undefined for any other, whose acks say it. */
  readonly confirmations: Confirmations | undefined;
}

interface LetIn
  extends Omit<Peer, "delivery" | "confirmations">,
    Pick<ConfirmationsOptions, "onSettled">,
    Pick<DeliveryOptions, "onFailed"> {
  /** Whether it announced no extensions. */
  readonly isPlain: boolean;
  readonly onHanded: (mail: Mail) => void;
}

/**
 * Why a socket is not read: its connect is looked at, too much of it is on its way to disk, it sent more than it may, or it is
 * about to be handed over.
 */
type Pause = "connect" | "disk" | "rate" | "drain";

export interface ConnectionOptions {
  readonly socket: RelaySocket;
  readonly caller: Caller | undefined;
  readonly now: () => number;
  readonly after: (milliseconds: number, task: () => void) => () => void;
  /** Told of the close code with which it is ended, once. */
  readonly onEnding: (code: number) => void;
}

export class Connection {
  readonly socket: RelaySocket;
  readonly caller: Caller | undefined;
  readonly #options: ConnectionOptions;
  /** Resolves when the socket has ended. */
  readonly ended: Promise<void>;
  readonly #end: () => void;
  /** Set once, when the connect was verified and its place taken. */
  peer: Peer | undefined;
  /** What came behind a connect whose place is being taken. */
  #early: FrameText[] | undefined;
  /** When it was opened, verified or sent its last heartbeat. */
  aliveAt: number;
  #isClosing = false;
  /** The code with which the relay said goodbye. */
  #goodbye: number | undefined;
  /** It is being handed over: it has been told, and what it sent before it heard of it is still taken. */
  #isLeaving = false;
  readonly #pauses = new Set<Pause>();
  /** Until when it is not read, having sent more than it may. */
  #restsUntil = 0;
  #endRest: (() => void) | undefined;
  /** What was refused of it for now. */
  readonly refusals = new Refusals();
  #inFlightFrames = 0;
  #inFlightBytes = 0;
  #onCalm: (() => void) | undefined;

  constructor(options: ConnectionOptions) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#options = options;
    this.socket = options.socket;
    this.caller = options.caller;
    this.ended = promise;
    this.#end = resolve;
    this.aliveAt = options.now();
  }

  /** Whether it is there to be told something. */
  get isOpen(): boolean {
    return !this.#isClosing && this.socket.readyState === this.socket.OPEN;
  }

  /** Whether frames are still taken from it. */
  get isTakenFrom(): boolean {
    return this.isOpen || this.#isLeaving;
  }

  #pause(why: Pause): void {
    this.#pauses.add(why);
    this.socket.pause();
  }

  #resume(why: Pause): void {
    if (this.#pauses.delete(why) && this.#pauses.size === 0) this.socket.resume();
  }

  /** Its connect is being looked at: what comes behind it waits, and no more is read of it. */
  hold(): void {
    this.#early = [];
    this.#pause("connect");
  }

  /** Whether a frame was kept for later. */
  held(text: FrameText): boolean {
    this.#early?.push(text);
    return this.#early !== undefined;
  }

  letIn({ isPlain, onHanded, onSettled, onFailed, ...peer }: LetIn): Peer {
    const { now } = this.#options;
    const confirmations = isPlain ? new Confirmations(this.socket, peer.feed, { now, onSettled }) : undefined;
    const delivery = new Delivery(this.socket, peer.feed, { now, onHanded, confirmations, onFailed });
    this.peer = { ...peer, delivery, confirmations };
    return this.peer;
  }

  /** Reads on. Gives what came meanwhile. */
  release(): readonly FrameText[] {
    const early = this.#early ?? [];
    this.#early = undefined;
    this.#resume("connect");
    if (this.#inFlightFrames === 0) this.#onCalm?.();
    return early;
  }

  /** Is not read for a while: what it sends waits on its own side. */
  rest(milliseconds: number): void {
    const { now, after } = this.#options;
    this.#restsUntil = Math.max(this.#restsUntil, now() + milliseconds);
    if (this.#endRest || !this.isOpen) return;
    this.#pause("rate");
    this.#endRest = after(milliseconds, () => {
      this.#endRest = undefined;
      const leftMs = this.#restsUntil - now();
      if (leftMs > 0) this.rest(leftMs);
      else this.#resume("rate");
    });
  }

  /** Sends a frame of the relay's own. */
  reply(frame: { readonly type: string; readonly [field: string]: unknown }): void {
    if (!this.isOpen) return;
    if (this.socket.bufferedAmount > REPLY_BUFFER_SIZE_MAX) {
      this.terminate();
      return;
    }
    this.peer?.delivery.sending();
    this.socket.send(JSON.stringify({ v: 1, ...frame }), (error) => this.peer?.delivery.flushed(error));
  }

  /** An error frame. `detail` is where the reference relay has its text. */
  refuse(code: string, message: string, more: { readonly id?: string; readonly [field: string]: unknown } = {}): void {
    this.reply({ type: "error", code, message, detail: message, ...more });
  }

  /** Says goodbye. Who has not done so as well after a while is ended. */
  close(code: number, reason: string, patienceMs: number = GOODBYE_WAIT_MS): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    this.#goodbye = code;
    this.#options.onEnding(code);
    // A paused socket would never read the other side's part of the closing handshake.
    this.#pauses.clear();
    this.socket.resume();
    // The protocol gives a reason 123 bytes.
    this.socket.close(code, reason.replaceAll(/[^\x20-\x7e]/g, "?").slice(0, 123));
    const patient = this.#options.after(patienceMs, () => this.socket.terminate());
    void this.ended.then(patient);
  }

  /** After a goodbye: reads nothing more of it, and ends it when the goodbye has had time to go out. */
  cut(): void {
    this.socket.pause();
    const soon = this.#options.after(RELAY_CLOSE_WAIT_MS, () => this.socket.terminate());
    void this.ended.then(soon);
  }

  /** Ends it without a word, since nothing of one would be read. */
  terminate(): void {
    if (!this.#isClosing) this.#options.onEnding(1006);
    this.#isClosing = true;
    this.socket.terminate();
  }

  /** Closes it for another relay to take over: what it sent before it hears of it is taken until it says goodbye as well. */
  async handOver(code: number, reason: string, patienceMs: number): Promise<void> {
    if (!this.isOpen) return;
    this.#pause("drain");
    if (this.#inFlightFrames > 0 || this.#early !== undefined) {
      await new Promise<void>((resolve) => {
        const patient = this.#options.after(patienceMs, resolve);
        this.#onCalm = () => {
          patient();
          resolve();
        };
      });
    }
    if (!this.isOpen) return;
    this.#isLeaving = this.peer !== undefined;
    this.close(code, reason);
  }

  /** The socket has ended, with the code of the other side's goodbye, or 1006 when there was none. */
  hasEnded(code: number): void {
    const confirmations = this.peer?.confirmations;
    // The other side says 1000 by itself as well, perhaps before it has taken everything.
    if (code === this.#goodbye && code !== 1000) confirmations?.closed();
    confirmations?.settle();
    this.#isLeaving = false;
    this.#endRest?.();
    this.#end();
  }

  /** Counts a frame that is on its way to disk; call what it returns when it has arrived or failed. */
  underway(bytes: number): () => void {
    this.#inFlightFrames++;
    this.#inFlightBytes += bytes;
    if (this.#inFlightFrames >= IN_FLIGHT_FRAMES_MAX || this.#inFlightBytes >= IN_FLIGHT_SIZE_MAX) this.#pause("disk");
    return () => {
      this.#inFlightFrames--;
      this.#inFlightBytes -= bytes;
      if (this.#inFlightFrames === 0) this.#onCalm?.();
      const isCalm = this.#inFlightFrames <= IN_FLIGHT_FRAMES_MAX / 2 && this.#inFlightBytes <= IN_FLIGHT_SIZE_MAX / 2;
      if (isCalm) this.#resume("disk");
    };
  }
}

import { IN_FLIGHT_FRAMES_MAX, IN_FLIGHT_SIZE_MAX, REPLY_BUFFER_SIZE_MAX } from "../limits.ts";
import type { FrameText } from "../wire/frame-text.ts";
import { Delivery, type Outlet } from "./delivery.ts";
import { Refusals } from "./refusals.ts";
import type { MailFeed } from "./state.ts";

// One socket of the relay: who is at the other end, when it last gave a sign of life, and how much of it is under way.

/** An opened WebSocket as the relay needs it. */
export interface RelaySocket extends Outlet {
  readonly isPaused: boolean;
  pause(): void;
  resume(): void;
  /** Says goodbye and waits for the other side's. */
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
}

export class Connection {
  readonly socket: RelaySocket;
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
  /** What was refused of it for now. */
  readonly refusals = new Refusals();
  #inFlightFrames = 0;
  #inFlightBytes = 0;

  constructor(socket: RelaySocket, now: number) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.socket = socket;
    this.ended = promise;
    this.#end = resolve;
    this.aliveAt = now;
  }

  /** Whether frames are still taken from it. */
  get isOpen(): boolean {
    return !this.#isClosing && this.socket.readyState === this.socket.OPEN;
  }

  /** Its connect is being looked at: what comes behind it waits, and no more is read of it. */
  hold(): void {
    this.#early = [];
    this.socket.pause();
  }

  /** Whether a frame was kept for later. */
  held(text: FrameText): boolean {
    this.#early?.push(text);
    return this.#early !== undefined;
  }

  letIn(peer: Omit<Peer, "delivery">): Peer {
    this.peer = { ...peer, delivery: new Delivery(this.socket, peer.feed) };
    return this.peer;
  }

  /** Reads on. Gives what came meanwhile. */
  release(): readonly FrameText[] {
    const early = this.#early ?? [];
    this.#early = undefined;
    this.socket.resume();
    return early;
  }

  /** Sends a frame of the relay's own. */
  reply(frame: { readonly type: string; readonly [field: string]: unknown }): void {
    if (!this.isOpen) return;
    if (this.socket.bufferedAmount > REPLY_BUFFER_SIZE_MAX) {
      this.#isClosing = true;
      this.socket.terminate();
      return;
    }
    this.socket.send(JSON.stringify({ v: 1, ...frame }), (error) => this.peer?.delivery.flushed(error));
  }

  /** An error frame. `detail` is where the reference relay has its text. */
  refuse(code: string, message: string, id?: string): void {
    this.reply({ type: "error", code, message, detail: message, ...(id === undefined ? {} : { id }) });
  }

  close(code: number, reason: string): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    // A paused socket would never read the other side's part of the closing handshake.
    this.socket.resume();
    // The protocol gives a reason 123 bytes.
    this.socket.close(code, reason.replaceAll(/[^\x20-\x7e]/g, "?").slice(0, 123));
  }

  /** The socket has ended. */
  hasEnded(): void {
    this.#end();
  }

  /** Counts a frame that is on its way to disk; call what it returns when it has arrived or failed. */
  underway(bytes: number): () => void {
    this.#inFlightFrames++;
    this.#inFlightBytes += bytes;
    if (this.#inFlightFrames >= IN_FLIGHT_FRAMES_MAX || this.#inFlightBytes >= IN_FLIGHT_SIZE_MAX) this.socket.pause();
    return () => {
      this.#inFlightFrames--;
      this.#inFlightBytes -= bytes;
      const isCalm = this.#inFlightFrames <= IN_FLIGHT_FRAMES_MAX / 2 && this.#inFlightBytes <= IN_FLIGHT_SIZE_MAX / 2;
      if (isCalm && this.socket.isPaused) this.socket.resume();
    };
  }
}

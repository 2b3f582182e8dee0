import { safeParse } from "../parse.ts";
import type { FrameText } from "../wire/frame-text.ts";
import { Head } from "./admission.ts";
import { readJson } from "./frame-json.ts";
import {
  CONFIRMATION_MS,
  CONFIRMATION_TIMES,
  CONFIRMATION_WAIT_MS,
  DOUBT_TIMES,
  UNCONFIRMED_FRAMES_MAX,
  UNCONFIRMED_SIZE_MAX,
} from "./limits.ts";
import type { Mail, MailFeed } from "./state.ts";

// Which frames have arrived at a plain client: one that announced no extensions, as the reference clients do.
//
// A plain client acks the messages that it handled, or nothing at all. A message that it is given twice breaks its session,
// because the reference ratchet moves before it authenticates. So the relay does not wait for acks: it removes a frame from
// the mailbox at the first sign that the frame has arrived. The signs are
//
// - the answer to a ping that was sent behind the frame. The client's WebSocket library answers when it has taken everything
//   before the ping, and hands that to the program even if the line breaks meanwhile;
// - an ack of this frame, or of one that was given after it;
// - the client's half of a closing handshake that the relay began.
//
// A frame from the client is no sign, since it may have been on its way before the client was given anything.
//
// A relay that is killed takes the signs with it. So before a message is given, a durable note says that it may be: if nobody
// settles the note, the next relay to serve the client removes the message, as one that is in doubt.

/** Why a frame left the mailbox: a sign, or doubt whether it has arrived. */
export type Settlement = "pong" | "ack" | "close" | "doubt";

/** The part of a WebSocket that asks for a sign. */
export interface Pinged {
  ping(payload: string): void;
}

export interface ConfirmationsOptions {
  readonly now: () => number;
  /** Told how many frames left the mailbox, and why. */
  readonly onSettled?: ((count: number, by: Settlement) => void) | undefined;
}

/** A frame that was given and not confirmed. */
interface Given extends Pick<Mail, "from" | "id" | "size"> {
  readonly at: number;
  readonly isMessage: boolean;
}

/** Whether a frame moves a ratchet, which only messages do. */
export const isMessage = (text: FrameText): boolean => safeParse(Head, readJson(text)).data?.type === "message";

/** A ping carries the number of frames that were given before it. */
const PAYLOAD = /^kars ([1-9]\d{0,15})$/;

export class Confirmations {
  readonly #socket: Pinged;
  readonly #feed: Pick<MailFeed, "ack" | "release">;
  readonly #options: ConfirmationsOptions;
  /** In the order in which they were given. */
  #given: Given[] = [];
  #bytes = 0;
  /** The number of frames that are settled. */
  #settled = 0;
  /** The number of frames that were given before the last ping. */
  #asked = 0;
  /** When the last sign came, or the client itself. */
  #signAt: number;
  /** How long signs take, rather too long than too short: a slow one is forgotten by and by. */
  #signMs = 1;
  /** The client sends frames but answers no pings, so delivery does not wait for answers. */
  #isDeaf = false;
  /** Called when the next frame may be given again. */
  onRoom: () => void = () => undefined;

  constructor(socket: Pinged, feed: Pick<MailFeed, "ack" | "release">, options: ConfirmationsOptions) {
    this.#socket = socket;
    this.#feed = feed;
    this.#options = options;
    this.#signAt = options.now();
  }

  /** Whether the client answers, so that what it is given will be confirmed. */
  get isAnswering(): boolean {
    return !this.#isDeaf;
  }

  /** Whether the next frame has to wait, so that few frames are in doubt when the line breaks. */
  get isFull(): boolean {
    return !this.#isDeaf && (this.#given.length >= UNCONFIRMED_FRAMES_MAX || this.#bytes >= UNCONFIRMED_SIZE_MAX);
  }

  given({ from, id, size, text }: Mail): void {
    this.#given.push({ from, id, size, at: this.#options.now(), isMessage: isMessage(text) });
    this.#bytes += size;
  }

  /** Sends a ping behind what was given since the last one. */
  ask(): void {
    const count = this.#settled + this.#given.length;
    if (count === this.#asked || this.#isDeaf) return;
    this.#asked = count;
    this.#socket.ping(`kars ${count}`);
  }

  /** Takes a pong. Returns whether it answers a ping of this connection. */
  ponged(payload: string): boolean {
    const count = Number(PAYLOAD.exec(payload)?.[1] ?? Number.NaN);
    if (!(count <= this.#asked)) return false;
    this.#isDeaf = false;
    this.#confirm(count - this.#settled, "pong");
    return true;
  }

  /** Takes an ack, which counts for the oldest frame of that id (and sender, if one is named) that is not confirmed. */
  acked(id: string, from?: string): void {
    const index = this.#given.findIndex((given) => given.id === id && (from === undefined || given.from === from));
    this.#confirm(index + 1, "ack");
  }

  /** The client has answered the relay's goodbye. */
  closed(): void {
    this.#confirm(this.#given.length, "close");
  }

  /** The client has sent a frame. */
  heard(): void {
    const [oldest] = this.#given;
    if (this.#isDeaf || !oldest || this.#options.now() - oldest.at <= CONFIRMATION_WAIT_MS) return;
    this.#isDeaf = true;
    this.onRoom();
  }

  /**
   * The connection counts no more, and this decides about the frames that are not confirmed. What did not arrive stays in the
   * mailbox. But a message that may have arrived, with its sign lost on the way back, is removed: if it was lost, that costs
   * one message, and if it came twice, that would cost all that follow it in its session. Other frames stay, since they do no
   * harm when they come twice so soon.
   *
   * A frame may have arrived if the connection ended before its sign was due. If the connection ended later, the line had died
   * unnoticed at some moment after the last sign, and only what was given soon after that sign is likely to have arrived.
   */
  settle(): void {
    this.#doubt();
    this.#feed.release();
  }

  #doubt(): void {
    const [oldest] = this.#given;
    if (!oldest) return;
    const isDue = this.#options.now() - oldest.at > CONFIRMATION_MS + CONFIRMATION_TIMES * this.#signMs;
    const doubtEnds = isDue ? this.#signAt + DOUBT_TIMES * this.#signMs : Number.POSITIVE_INFINITY;
    const inDoubt = ({ isMessage, at }: Given) => isMessage && at <= doubtEnds;
    const messages = this.#given.filter(inDoubt);
    this.#given = this.#given.filter((given) => !inDoubt(given));
    this.#settled += messages.length;
    this.#remove(messages, "doubt");
  }

  #confirm(count: number, by: Settlement): void {
    const confirmed = this.#given.splice(0, Math.max(0, count));
    const last = confirmed.at(-1);
    if (!last) return;
    this.#settled += confirmed.length;
    this.#signAt = this.#options.now();
    this.#signMs = Math.max(1, this.#signAt - last.at, 0.9 * this.#signMs);
    this.#remove(confirmed, by);
    this.onRoom();
  }

  #remove(frames: readonly Given[], by: Settlement): void {
    for (const { from, id, size } of frames) {
      this.#bytes -= size;
      this.#feed.ack(id, from);
    }
    if (frames.length > 0) this.#options.onSettled?.(frames.length, by);
  }
}

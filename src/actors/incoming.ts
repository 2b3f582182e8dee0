import { asMeshError } from "../errors.ts";
import { EARLY_FRAMES_MAX, INBOUND_FRAMES_MAX, INBOUND_SIZE_MAX, RETRY_MIN_MS, UNJUDGED_PEERS_MAX } from "../limits.ts";
import { release } from "../memory.ts";
import type { Knock, Message, RoutedFrame } from "../wire/frame.ts";
import type { Admission } from "./admission.ts";
import type { Arrivals } from "./arrivals.ts";
import type { Core } from "./core.ts";
import { EarlyFrames } from "./early.ts";
import type { Knocks } from "./knocks.ts";
import { type PeerCounters, Reception } from "./reception.ts";
import type { Sessions } from "./sessions.ts";
import type { Unreadable } from "./unreadable.ts";

// The way in: frames are dealt with one after the other for each peer, and acked when that is durable. What cannot be dealt
// with yet waits here, within bounds, or is left at the relay.

type Verdict = "taken" | "later";

const keyOf = ({ type, id }: RoutedFrame) => `${type} ${id}`;

/** Frames that came and are not taken over yet, in the order of their coming, and their length in characters. */
interface Waiting {
  readonly frames: Map<string, { readonly frame: RoutedFrame; readonly size: number }>;
  size: number;
}

/** Keeps a set or a map from growing for ever: the oldest entry goes. */
function bounded(peers: Pick<Set<string>, "size" | "keys" | "delete">): void {
  const [oldest] = peers.size > UNJUDGED_PEERS_MAX ? peers.keys() : [];
  if (oldest !== undefined) peers.delete(oldest);
}

export class IncomingMail {
  readonly #core: Core;
  readonly #sessions: Sessions;
  readonly #knocks: Knocks;
  readonly #admission: Admission;
  readonly #reception: Reception;
  readonly #unreadable: Unreadable;
  readonly #arrivals: Arrivals;
  /** Frames that came before a session that could read them. */
  readonly #early = new EarlyFrames();
  /** Frames that came and are not taken over yet, by peer: a plain relay has them no more. */
  readonly #untaken = new Map<string, Waiting>();
  /** Peers of whom a message found no room, and whether any was dealt with since: those behind it must not overtake. */
  readonly #left = new Map<string, { progress: boolean }>();
  /** Strangers of whom so much waits that the rest was left at the relay. */
  readonly #heldBack = new Set<string>();
  #paused = false;
  /** Counts the pauses: what waited in a lane before one is begun anew after it, in its order. */
  #round = 0;
  /** Knocks that came and could not be taken yet, by peer: what no session reads may be theirs. */
  readonly #untakenKnocks = new Map<string, Set<string>>();
  /** Peers whose knock is left at the relay: what follows it comes again behind it, and is not taken before. */
  readonly #behindKnock = new Set<string>();

  constructor(
    core: Core,
    sessions: Sessions,
    knocks: Knocks,
    admission: Admission,
    unreadable: Unreadable,
    arrivals: Arrivals,
  ) {
    this.#core = core;
    this.#sessions = sessions;
    this.#arrivals = arrivals;
    this.#knocks = knocks;
    this.#admission = admission;
    this.#unreadable = unreadable;
    this.#reception = new Reception(core, sessions, admission, unreadable);
  }

  /** What came of a peer and was not taken. */
  countersOf(peer: string): PeerCounters | undefined {
    return this.#reception.counters.get(peer);
  }

  /** Counts a frame of a peer that was not taken. */
  count(peer: string, counter: keyof PeerCounters): void {
    this.#reception.count(peer, counter);
  }

  /** What waits here and is not taken over yet, of all peers. */
  get waiting(): { readonly frames: number; readonly size: number } {
    const all = [...this.#untaken.values()];
    return {
      frames: all.reduce((sum, { frames }) => sum + frames.size, 0),
      size: all.reduce((sum, { size }) => sum + size, 0),
    };
  }

  /**
   * Takes a frame from the relay. Frames of one peer are dealt with in their order.
   * @param size its length as it came, in characters
   */
  onFrame(frame: RoutedFrame, size: number): void {
    const untaken = this.#untaken.get(frame.from) ?? { frames: new Map(), size: 0 };
    // A frame that is not taken is not acked either: the relay gives it again, with all behind it, on the next connection.
    if (untaken.frames.size >= INBOUND_FRAMES_MAX || untaken.size >= INBOUND_SIZE_MAX) {
      if (!this.#left.has(frame.from)) this.#left.set(frame.from, { progress: false });
      return;
    }
    if (frame.type === "message" && this.#left.has(frame.from)) return;
    this.#untaken.set(frame.from, untaken);
    untaken.size += size - (untaken.frames.get(keyOf(frame))?.size ?? 0);
    untaken.frames.set(keyOf(frame), { frame, size });
    this.#begin(frame);
  }

  /** A peer was admitted: what was left at the relay is fetched. What came after that was left is left, too. */
  async welcome(peer: string): Promise<void> {
    await this.#core.lanes.run(`in ${peer}`, async () => {
      if (this.#heldBack.delete(peer)) this.#comeAgain();
    });
  }

  /** A new connection is given all that was not acked on this one. */
  #comeAgain(): void {
    const { link } = this.#core;
    link.pause();
    link.proceed();
  }

  /** Takes nothing until `proceed`: what can be made durable later must not overtake what could not be. */
  pause(): void {
    this.#paused = true;
    this.#round++;
  }

  /** Takes what came meanwhile, and what was not taken before. */
  proceed(): void {
    this.#paused = false;
    this.#round++;
    for (const { frames } of this.#untaken.values()) for (const { frame } of frames.values()) this.#begin(frame);
  }

  #begin(frame: RoutedFrame): void {
    const round = this.#round;
    const taking = this.#core.lanes.run(`in ${frame.from}`, async () => {
      if (round === this.#round && !this.#paused) await this.#take(frame);
    });
    this.#tell(
      frame,
      taking.finally(() => this.#fetchLeft(frame.from)),
    );
  }

  /** When all that had found room is dealt with, what was left at the relay is fetched, on a new connection. */
  #fetchLeft(peer: string): void {
    const { lanes } = this.#core;
    const left = this.#left.get(peer);
    const waiting = (this.#untaken.get(peer)?.frames.size ?? 0) - this.#early.count(peer);
    if (!left || waiting > 0 || lanes.length(`in ${peer}`) > 0) return;
    this.#left.delete(peer);
    // Without a session nothing is, and asking again would change nothing.
    if (left.progress && !this.#paused) this.#comeAgain();
  }

  #drop(frame: RoutedFrame): void {
    const untaken = this.#untaken.get(frame.from);
    if (!untaken) return;
    untaken.size -= untaken.frames.get(keyOf(frame))?.size ?? 0;
    untaken.frames.delete(keyOf(frame));
    if (untaken.frames.size === 0) this.#untaken.delete(frame.from);
  }

  /** The frame is dealt with, durably: until then a disk that refuses has it taken again. */
  #done(frame: RoutedFrame): void {
    this.#drop(frame);
    if (frame.type === "message") {
      release(frame.ciphertext);
      this.#confirm(frame);
    }
    this.#core.link.ack(frame);
    const left = this.#left.get(frame.from);
    if (left) left.progress = true;
    this.#fetchLeft(frame.from);
  }

  /** Confirms a message to a peer that sends unconfirmed messages again. A peer that is held gets no confirmation. */
  #confirm({ from: peer, id, message_id = id, after }: Message): void {
    if (after !== undefined && !this.#admission.isHeld(peer) && this.#core.messages.wasReceived(peer, message_id))
      this.#arrivals.confirm(peer, message_id);
  }

  /** Whether a message was sent after another message that has not come. The sender sends both again. */
  #isAhead({ from: peer, after }: Message): boolean {
    return typeof after === "string" && !this.#reception.knows(peer, after);
  }

  /** A failure is told, unless it is the end of the node or a disk that refuses: then the frame is taken again. */
  #tell(frame: RoutedFrame, taking: Promise<void>): void {
    taking.catch((error: unknown) => {
      const { code, message } = asMeshError(error);
      if (code === "closed" || code === "store_io") return;
      this.#drop(frame);
      this.#core.note(`A frame from ${frame.from} could not be taken: ${message}`);
    });
  }

  async #take(frame: RoutedFrame): Promise<void> {
    switch (frame.type) {
      case "knock":
        if ((await this.#takeKnock(frame)) === "taken") this.#done(frame);
        else {
          this.#behindKnock.add(frame.from);
          bounded(this.#behindKnock);
          if (!this.#paused) this.#drop(frame);
        }
        return;
      case "knock_accept":
        await this.#knocks.onAccept(frame);
        await this.#takeEarly(frame.from);
        break;
      case "knock_reject":
        await this.#knocks.onReject(frame);
        break;
      case "message": {
        if (this.#behindKnock.has(frame.from)) {
          this.#drop(frame);
          return;
        }
        if (this.#admission.isDeclined(frame.from)) {
          this.#reception.count(frame.from, "refused");
          this.#knocks.turnAway(frame.from);
          break;
        }
        if (this.#heldBack.has(frame.from) || this.#admission.isFull(frame.from)) {
          this.#drop(frame);
          this.#heldBack.add(frame.from);
          return;
        }
        if (this.#isAhead(frame) && this.#early.count(frame.from) === 0 && this.#reception.canRead(frame.from)) {
          this.#arrivals.missing(frame.from);
          break;
        }
        const durable = this.#isAhead(frame)
          ? "later"
          : this.#reception.take(frame, this.#untakenKnocks.has(frame.from));
        if (durable === "later") this.#keepForLater(frame);
        // The next message need not wait for the disk: it shares the next sync. The ack does wait.
        else
          this.#tell(
            frame,
            durable.then(() => this.#done(frame)),
          );
        return;
      }
    }
    this.#done(frame);
  }

  async #takeKnock(frame: Knock): Promise<Verdict> {
    const knocks = this.#untakenKnocks.get(frame.from) ?? new Set();
    this.#untakenKnocks.set(frame.from, knocks);
    bounded(this.#untakenKnocks);
    if (knocks.size < EARLY_FRAMES_MAX) knocks.add(frame.id);
    this.#behindKnock.delete(frame.from);
    let fate: Verdict;
    try {
      fate = await this.#knocks.take(frame);
    } catch (error) {
      const { code } = asMeshError(error);
      if (code !== "registry_unreachable") throw error;
      // What is behind it waits for it; the registry is asked again.
      await this.#pause(RETRY_MIN_MS);
      const { online, keepsMail } = this.#core.link;
      return online || !keepsMail ? this.#takeKnock(frame) : "later";
    }
    knocks.delete(frame.id);
    if (knocks.size === 0) this.#untakenKnocks.delete(frame.from);
    await this.#takeEarly(frame.from);
    return fate;
  }

  /** The peer has shown which sessions there are: what none of them reads will not be read later either. */
  async #takeEarly(peer: string): Promise<void> {
    for (const message of this.#early.take(peer)) await this.#take(message);
  }

  #pause(duration: number): Promise<void> {
    const { clock } = this.#core.ports;
    return new Promise((resolve) => clock.at(clock.now() + duration, resolve));
  }

  #keepForLater(frame: Message): void {
    const size = this.#untaken.get(frame.from)?.frames.get(keyOf(frame))?.size ?? 0;
    // Its session may have been closed here: then no knock is on its way.
    if (!this.#untakenKnocks.has(frame.from)) {
      this.#unreadable.came(frame.from, frame.id);
      this.#sessions.renewal.unread(frame.from);
    }
    // Un-acked, so that the relay still has them.
    for (const gone of this.#early.keep(frame, size)) this.#drop(gone);
  }
}

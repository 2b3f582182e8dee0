import { EARLY_FRAMES_ALL_MAX, EARLY_FRAMES_MAX, EARLY_SIZE_MAX } from "../limits.ts";
import type { Message } from "../wire/frame.ts";

// Messages that came before a session that could read them. Whoever reaches a relay may send such, in as many names as it
// likes: so they are bounded for each peer and in all, by number and by size.

interface Early {
  readonly frame: Message;
  readonly size: number;
}

export class EarlyFrames {
  /** By peer, the oldest first. */
  readonly #byPeer = new Map<string, Set<Early>>();
  /** Of all peers, the oldest first. */
  readonly #all = new Set<Early>();
  #size = 0;

  /** How many wait of a peer. */
  count(peer: string): number {
    return this.#byPeer.get(peer)?.size ?? 0;
  }

  /**
   * Keeps a message until its peer's are taken; one that is kept already is not kept twice.
   * @param size its length as it came, in characters
   * @returns the messages that had to make room, the oldest first
   */
  keep(frame: Message, size: number): readonly Message[] {
    const ofPeer = this.#byPeer.get(frame.from) ?? new Set();
    for (const known of ofPeer) if (known.frame.id === frame.id) return [];
    this.#byPeer.set(frame.from, ofPeer);
    const early = { frame, size };
    ofPeer.add(early);
    this.#all.add(early);
    this.#size += size;
    const gone: Message[] = [];
    const isFull = () => this.#all.size > EARLY_FRAMES_ALL_MAX || this.#size > EARLY_SIZE_MAX;
    for (let own = ofPeer.size > EARLY_FRAMES_MAX; own || isFull(); own = false) {
      const [oldest] = own ? ofPeer : this.#all;
      if (!oldest) break;
      this.#forget(oldest);
      gone.push(oldest.frame);
    }
    return gone;
  }

  /** Takes out all of a peer, the oldest first. */
  take(peer: string): readonly Message[] {
    const taken = [...(this.#byPeer.get(peer) ?? [])];
    for (const early of taken) this.#forget(early);
    return taken.map(({ frame }) => frame);
  }

  #forget(early: Early): void {
    const { from } = early.frame;
    const ofPeer = this.#byPeer.get(from);
    ofPeer?.delete(early);
    if (ofPeer?.size === 0) this.#byPeer.delete(from);
    this.#all.delete(early);
    this.#size -= early.size;
  }
}

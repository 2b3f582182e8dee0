import { REFUSED_FRAMES_KEPT, REFUSED_RECIPIENTS_KEPT, RELAY_REFUSE_MS } from "../limits.ts";

// What a relay refused of one connection. Frames that were sent behind a refused one must not overtake it: they are refused
// as well, until their sender offers all of them again in their order.

export interface Refusal {
  readonly code: string;
  readonly message: string;
}

interface Refused {
  readonly reason: Refusal;
  /** In the order in which they must come again. */
  readonly frames: { readonly id: string; readonly turn: number }[];
  /** Until when the first of them is waited for: one that never comes again must not block for ever. */
  until: number;
}

export class Refusals {
  readonly #byRecipient = new Map<string, Refused>();
  #turns = 0;

  /** The turn of a frame for a recipient, or why it is refused: another one must come before it. */
  turnOf(to: string, id: string, now: number): number | Refusal {
    const turn = ++this.#turns;
    const refused = this.#byRecipient.get(to);
    const [first] = refused?.frames ?? [];
    if (!refused || !first || refused.until <= now) {
      this.#byRecipient.delete(to);
      return turn;
    }
    if (first.id === id) {
      refused.frames.shift();
      refused.until = now + RELAY_REFUSE_MS;
      return first.turn;
    }
    const isKnown = refused.frames.some((frame) => frame.id === id);
    if (!isKnown && refused.frames.length < REFUSED_FRAMES_KEPT) refused.frames.push({ id, turn });
    return refused.reason;
  }

  /** A frame could not be taken in its turn: it comes again before those behind it. */
  refused(to: string, id: string, turn: number, reason: Refusal, now: number): void {
    const { frames } = this.#byRecipient.get(to) ?? { frames: [] };
    const others = frames.filter((frame) => frame.id !== id);
    this.#byRecipient.delete(to);
    const [longestAgo] = this.#byRecipient.keys();
    if (longestAgo !== undefined && this.#byRecipient.size >= REFUSED_RECIPIENTS_KEPT)
      this.#byRecipient.delete(longestAgo);
    this.#byRecipient.set(to, {
      reason,
      frames: [...others, { id, turn }].sort((a, b) => a.turn - b.turn),
      until: now + RELAY_REFUSE_MS,
    });
  }
}

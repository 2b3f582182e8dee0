import { CLOSE, type ErrorFrame } from "../wire/frame.ts";
import { CLOSE_REASON_LENGTH_MAX } from "./limits.ts";
import { blamesClock, CLOCK_ADVICE, quoted } from "./refusal-words.ts";

// Why a relay refuses this laptop, in words for a person. The reference relay sends the reason in an error frame and closes with only
// a code.

/** The close codes for a refused proof or token, and for another holder of this identity. Connecting again would not help. */
const FINAL_CODES: ReadonlySet<number> = new Set([CLOSE.possessionUnproved, CLOSE.replaced, CLOSE.tokenRefused]);

/** Why the relay closed the link: its own words, or advice for the person. */
function explained(code: number, words: string): string {
  if (blamesClock(words)) return CLOCK_ADVICE;
  if (code === CLOSE.replaced)
    return "another process connected with this laptop's identity: end it, and start this one again";
  return code === CLOSE.tokenRefused
    ? `this relay asks for an access token: set KARS_MESH_RELAY_TOKEN to the one from its operator. The relay says ${quoted(words)}`
    : words;
}

export class RelayComplaints {
  readonly #note: (text: string) => void;
  /** The relay's last words, so that not every attempt to connect logs them again. */
  #last = "";
  /** The relay's words since the last dial, before it let this laptop in. */
  #refusal = "";

  constructor(note: (text: string) => void) {
    this.#note = note;
  }

  dialed(): void {
    this.#refusal = "";
  }

  letIn(): void {
    this.#refusal = "";
    this.#last = "";
  }

  /** An error frame came. @param isIn whether this laptop was let in before */
  said({ id, code, message, detail }: ErrorFrame, isIn: boolean): void {
    const words = message ?? detail ?? code ?? "an error";
    if (!isIn && id === undefined) this.#refusal = words;
    if (words === this.#last) return;
    this.#last = words;
    this.#note(`The relay reports ${quoted(words)}${blamesClock(words) ? `: ${CLOCK_ADVICE}` : ""}.`);
  }

  /** The meaning of a close. `final`: the relay would refuse again. A refusal because of the clock is not final, as the clock may be set. */
  closed(code: number, given: string): { readonly reason: string; readonly final: boolean } {
    const words = this.#refusal || given;
    return {
      reason: explained(code, words).slice(0, CLOSE_REASON_LENGTH_MAX),
      final: FINAL_CODES.has(code) && !blamesClock(words),
    };
  }
}

import { CLOSE, type ErrorFrame } from "../wire/frame.ts";
import { CLOSE_REASON_LENGTH_MAX } from "./limits.ts";
import { blamesClock, CLOCK_ADVICE, quoted } from "./refusal-words.ts";

// What a relay has against this laptop, for the person. The reference relay says it in an error frame and closes with a code alone.

/** A proof that was refused, or another holder of this identity: coming again would change nothing. */
const FINAL_CODES: ReadonlySet<number> = new Set([CLOSE.possessionUnproved, CLOSE.replaced, CLOSE.tokenRefused]);

/** Why the relay let go of us: its own words, or what they ask the person to do. */
function explained(code: number, words: string): string {
  if (blamesClock(words)) return CLOCK_ADVICE;
  if (code === CLOSE.replaced)
    return "another process connected with this laptop's identity: end it, and start this one again";
  return code === CLOSE.tokenRefused
    ? `this relay asks for an access token: put the operator's into KARS_MESH_RELAY_TOKEN. It says ${quoted(words)}`
    : words;
}

export class RelayComplaints {
  readonly #note: (text: string) => void;
  /** What was said last, so that each attempt to connect does not say it again. */
  #last = "";
  /** What was said since the last dial, before this laptop was let in. */
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

  /** What a close means. `final`: the relay will say the same again. A clock that is set right lets the very same laptop in. */
  closed(code: number, given: string): { readonly reason: string; readonly final: boolean } {
    const words = this.#refusal || given;
    return {
      reason: explained(code, words).slice(0, CLOSE_REASON_LENGTH_MAX),
      final: FINAL_CODES.has(code) && !blamesClock(words),
    };
  }
}

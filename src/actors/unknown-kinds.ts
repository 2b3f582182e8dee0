import { UNKNOWN_KINDS_MAX } from "./limits.ts";

// Frames of an unknown form are ignored. A log without them would hide that a relay or a peer speaks another dialect. A log with each
// of them could be filled by anyone.

/** A type in the form that the wire uses. Anything else could be a person's words. */
const TYPE = /^[a-z][a-z0-9_-]{0,31}$/;

function kindOf(json: unknown): string {
  if (json === undefined) return "a frame that is not JSON";
  const type = typeof json === "object" && json !== null && "type" in json ? json.type : undefined;
  return typeof type === "string" && TYPE.test(type) ? `a frame of type ${type}` : "a frame without a readable type";
}

export class UnknownKinds {
  readonly #note: (text: string) => void;
  readonly #told = new Set<string>();

  constructor(note: (text: string) => void) {
    this.#note = note;
  }

  /** Logs once for each kind that such a frame came, with its type and without its content. */
  tell(json: unknown): void {
    const kind = kindOf(json);
    if (this.#told.has(kind) || this.#told.size > UNKNOWN_KINDS_MAX) return;
    this.#told.add(kind);
    this.#note(
      this.#told.size > UNKNOWN_KINDS_MAX
        ? "Frames of further kinds came in a form that this version does not understand. They are counted as malformed and not listed here."
        : `The relay passed on ${kind} in a form that this version does not understand. This frame and further ones of its kind are ignored.`,
    );
  }
}

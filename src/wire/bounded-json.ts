import { isWithin } from "../json.ts";
import { JSON_DEPTH_MAX } from "./limits.ts";

// JSON from outside. A text of a few MB can describe millions of values, and building them stops a process for seconds, before any
// schema sees one. So the structure is measured first.

/** Whether a JSON text has at most `parts` strings, commas and opening brackets, and is not too deep. */
export const isModest = (text: string | Uint8Array, parts: number): boolean =>
  isWithin(text, { depth: JSON_DEPTH_MAX, parts });

/** Parses JSON text of at most `parts` strings, commas and opening brackets. Returns undefined when it is no such text. */
export function parseModest(text: string, parts: number): unknown {
  if (!isModest(text, parts)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    // JSON has no undefined, so the caller can tell; and undefined fails every schema.
    return undefined;
  }
}

import { skim } from "../json.ts";
import type { FrameText } from "../wire/frame-text.ts";
import { CONNECT_SIZE_MAX } from "./limits.ts";

// Frames as a relay reads them and passes them on.

/** What a frame says, but for the long strings in it. */
export function readJson(text: FrameText): unknown {
  if (typeof text !== "string") return skim(text);
  try {
    return JSON.parse(text);
  } catch {
    // No JSON is like any other frame that cannot be read: undefined fails every schema.
    return undefined;
  }
}

/** What a first frame says. It is read whole, because a token is longer than what `readJson` leaves of a string in a long frame. */
export const readConnect = (text: FrameText): unknown =>
  readJson(text.length <= CONNECT_SIZE_MAX ? text.toString() : text);

/** The frame with its sender written in; the rest keeps every byte that it had. */
export function stamped(text: FrameText, from: string): FrameText {
  const stamp = `{"from":${JSON.stringify(from)},`;
  if (typeof text === "string") return text.replace("{", stamp);
  const begin = text.indexOf("{");
  return Buffer.concat([text.subarray(0, begin), Buffer.from(stamp), text.subarray(begin + 1)]);
}

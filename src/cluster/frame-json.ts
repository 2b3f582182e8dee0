import { skim } from "../json.ts";
import { isModest, parseModest } from "../wire/bounded-json.ts";
import type { FrameText } from "../wire/frame-text.ts";
import { FRAME_PARTS_MAX } from "../wire/limits.ts";
import { CONNECT_SIZE_MAX } from "./limits.ts";

// Frames as a relay reads them and passes them on.

/** What a frame says, but for the long strings in it. Undefined, which fails every schema, when it is no JSON, or too deep or too wide. */
export function readJson(text: FrameText): unknown {
  if (typeof text === "string") return parseModest(text, FRAME_PARTS_MAX);
  return isModest(text, FRAME_PARTS_MAX) ? skim(text) : undefined;
}

/** What a first frame says. It is read whole, because a token is longer than what `readJson` leaves of a string in a long frame. */
export const readConnect = (text: FrameText): unknown =>
  text.length <= CONNECT_SIZE_MAX ? readJson(text.toString()) : undefined;

/** The frame with its sender written in; the rest keeps every byte that it had. */
export function stamped(text: FrameText, from: string): FrameText {
  const stamp = `{"from":${JSON.stringify(from)},`;
  if (typeof text === "string") return text.replace("{", stamp);
  const begin = text.indexOf("{");
  return Buffer.concat([text.subarray(0, begin), Buffer.from(stamp), text.subarray(begin + 1)]);
}

import { base64 } from "../crypto/index.ts";
import { FRAME_TEXT_SIZE_MAX } from "../limits.ts";
import { isModest, parseModest } from "./bounded-json.ts";
import { FRAME_PARTS_MAX } from "./limits.ts";

// A frame's JSON text between a socket and whoever deals with it. A long one is bytes all the way, and its ciphertext never is
// a string: one of that size lives in the heap until a collection finds it, and each step that copies it leaves one behind.

/** One that is longer than FRAME_TEXT_SIZE_MAX is UTF-8. */
export type FrameText = string | Buffer;

/** A frame's text as it came, which may lie in a larger piece of memory that others share. */
export function frameText(bytes: Buffer): FrameText {
  if (bytes.length <= FRAME_TEXT_SIZE_MAX) return bytes.toString();
  return bytes.buffer.byteLength > 2 * bytes.length ? Buffer.from(bytes) : bytes;
}

const QUOTE = 0x22;
/** What stands before a ciphertext in compact JSON. Nothing but a key can look like this: a quote in a string has a backslash. */
const KEY = '"ciphertext":"';

/** What the recipient reads of a frame: a long ciphertext is bytes then. Undefined when it is no JSON, or too deep or too wide. */
export function readFrame(text: FrameText): unknown {
  if (typeof text === "string") return parsed(text);
  const begin = text.indexOf(KEY) + KEY.length;
  const end = text.indexOf(QUOTE, begin);
  if (begin >= KEY.length && end - begin > FRAME_TEXT_SIZE_MAX) {
    const frame = parsed(text.toString("utf8", 0, begin) + text.toString("utf8", end));
    if (isEmptied(frame)) {
      const ciphertext = readBase64(text.subarray(begin, end));
      if (ciphertext) return { ...frame, ciphertext };
    }
  }
  // Any other long frame is rare.
  return isModest(text, FRAME_PARTS_MAX) ? parsed(text.toString()) : undefined;
}

/** As JSON.stringify; bytes in place of a ciphertext become base64. */
export function writeFrame(frame: object): FrameText {
  if (!("ciphertext" in frame && frame.ciphertext instanceof Uint8Array)) return JSON.stringify(frame);
  const { ciphertext, ...rest } = frame;
  if (ciphertext.length <= FRAME_TEXT_SIZE_MAX)
    return JSON.stringify({ ...rest, ciphertext: base64.encode(ciphertext) });
  const front = Buffer.from(`${JSON.stringify(rest).slice(0, -1)},${KEY}`);
  const length = Math.ceil(ciphertext.length / 3) * 4;
  const text = Buffer.allocUnsafe(front.length + length + 2);
  text.set(front);
  writeBase64(ciphertext, text, front.length);
  text.write('"}', front.length + length);
  return text;
}

const parsed = (text: string): unknown => parseModest(text, FRAME_PARTS_MAX);

/** Whether what was left out of a message is its own ciphertext. */
const isEmptied = (frame: unknown): frame is { readonly ciphertext: "" } =>
  typeof frame === "object" &&
  frame !== null &&
  "type" in frame &&
  frame.type === "message" &&
  "ciphertext" in frame &&
  frame.ciphertext === "";

/** Bytes that are turned into base64 and back at once, by way of a short string: a multiple of three. */
const STEP = 24 * 1024;

function writeBase64(bytes: Uint8Array, into: Buffer, at: number): void {
  const from = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let done = 0; done < from.length; done += STEP)
    into.write(from.toString("base64", done, Math.min(done + STEP, from.length)), at + (done / 3) * 4, "latin1");
}

/** The bytes of a base64 text, of which there is exactly one for them; undefined when it is none. */
function readBase64(text: Buffer): Uint8Array | undefined {
  const padding = text[text.length - 1] !== PAD ? 0 : text[text.length - 2] !== PAD ? 1 : 2;
  const bytes = Buffer.allocUnsafe(Math.max(0, (text.length / 4) * 3 - padding));
  if (text.length % 4 !== 0 || text.includes("-") || text.includes("_")) return undefined;
  for (let done = 0; done < bytes.length; done += STEP) {
    const part = text.toString("latin1", (done / 3) * 4, ((done + STEP) / 3) * 4);
    // The runtime takes both alphabets, skips what is in neither and stops at a padding: then there are too few.
    if (bytes.write(part, done, "base64") !== Math.min(STEP, bytes.length - done)) return undefined;
  }
  // It overlooks stray bits, which are at the end.
  const last = Math.floor((bytes.length - 1) / 3);
  return bytes.toString("base64", last * 3) === text.toString("latin1", last * 4) ? bytes : undefined;
}

const PAD = 0x3d;

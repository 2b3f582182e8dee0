import { base64, CryptoError, utf8 } from "../crypto/index.ts";
import { safeParse } from "../parse.ts";
import { Chat, TaskRequest, TaskResponse, unwrapped } from "./payload.ts";
import { isRecord, parseJson } from "./text.ts";

// How a person or a model sees a message. The text of a message is stored unchanged, and this file decides how it is shown.

/** The text of a message, or, for bytes that are not text, their standard base64. */
export type Content = { readonly text: string } | { readonly base64: string };

/**
 * The text of a decrypted message, in the form in which it is stored. Bytes that are not UTF-8 become the envelope in which the
 * Python client sends such bytes: `{"raw_b64": "…"}`.
 */
export function textOf(plaintext: Uint8Array): string {
  try {
    return utf8.decode(plaintext);
  } catch (error) {
    if (!(error instanceof CryptoError)) throw error;
    return JSON.stringify({ raw_b64: base64.encode(plaintext) });
  }
}

/** The fields beside a chat message's content: the sender's claim of its name, the time, the message answered, a signature. */
const BESIDE = ["from_agent", "timestamp", "in_reply_to", "__signature", "__sender_amid", "__signed_at"];
const SHOWN_BY_CONTENT: ReadonlySet<string> = new Set(["type", "content", ...BESIDE]);

const CHATS = [Chat, TaskRequest, TaskResponse];

const isBase64 = (text: string): boolean => text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text);

/**
 * Reads the text of a message. A chat message is shown as its content, a JSON string as that string, and the Python client's envelope
 * as its bytes. Any other text is shown as it came, so that nothing of it is lost; so is a chat message with further fields.
 */
export function contentOf(wrapped: string): Content {
  const text = unwrapped(wrapped);
  const value = parseJson(text);
  if (typeof value === "string") return { text: value };
  if (!isRecord(value)) return { text };
  const names = Object.keys(value);
  // A name that comes twice hides a value from every parser.
  if (countMembers(text) !== names.length) return { text };
  if (names.length === 1 && typeof value.raw_b64 === "string" && isBase64(value.raw_b64))
    return { base64: value.raw_b64 };
  if (!names.every((name) => SHOWN_BY_CONTENT.has(name))) return { text };
  const chat = CHATS.map((schema) => safeParse(schema, value).data).find((data) => data !== undefined);
  return { text: chat?.content ?? text };
}

/** Counts the members of a JSON object, given its valid text. A name that comes twice counts twice. */
function countMembers(json: string): number {
  let members = 0;
  let depth = 0;
  for (let at = 0; at < json.length; at++) {
    const character = json[at];
    if (character === '"') at = endOfString(json, at);
    else if (character === "{" || character === "[") depth++;
    else if (character === "}" || character === "]") depth--;
    else if (character === ":" && depth === 1) members++;
  }
  return members;
}

/** The index of the quotation mark that ends the JSON string which begins at `begin`. */
function endOfString(json: string, begin: number): number {
  for (let end = json.indexOf('"', begin + 1); end !== -1; end = json.indexOf('"', end + 1)) {
    let escapes = 0;
    while (json[end - 1 - escapes] === "\\") escapes++;
    if (escapes % 2 === 0) return end;
  }
  return json.length;
}

// JSON text that is long stays bytes: a string of its size lives where only a full collection finds it, and each step that makes
// another copy of it leaves one behind.

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Whether a JSON string holds this byte as it is, in ASCII. */
const isPlain = (byte: number) => byte >= 0x20 && byte < 0x80 && byte !== QUOTE && byte !== BACKSLASH;

const HIGH = 0x80808080;
/** Has a high bit of HIGH only if one of the word's bytes is less than those of `bytes`: for all that are less than 0x80. */
const below = (word: number, bytes: number) => (word - bytes) & ~word;
const ONES = 0x01010101;

/** The same of four bytes at once. */
const arePlain = (word: number) =>
  ((word | below(word, 0x20 * ONES) | below(word ^ (QUOTE * ONES), ONES) | below(word ^ (BACKSLASH * ONES), ONES)) &
    HIGH) ===
  0;

/** A run that has come so far is looked at in words. */
const SHORT_LENGTH = 64;

/** Where the run of plain characters ends that begins at `at`. */
function plainEnd(bytes: Uint8Array, at: number): number {
  let end = at;
  const soon = Math.min(bytes.length, at + SHORT_LENGTH);
  while (end < soon && isPlain(bytes[end] ?? 0)) end++;
  if (end < soon) return end;
  while (end < bytes.length && (bytes.byteOffset + end) % 4 !== 0 && isPlain(bytes[end] ?? 0)) end++;
  if ((bytes.byteOffset + end) % 4 === 0) {
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset + end, (bytes.length - end) >> 2);
    let index = 0;
    while (index < words.length && arePlain(words[index] ?? 0)) index++;
    end += index * 4;
  }
  while (end < bytes.length && isPlain(bytes[end] ?? 0)) end++;
  return end;
}

/** How much structure a JSON text may have. */
export interface JsonBounds {
  /** Lists and objects around each other. */
  readonly depth: number;
  /** Strings, commas and opening brackets together. */
  readonly parts: number;
}

const [LIST, OBJECT, LIST_END, OBJECT_END, COMMA] = [0x5b, 0x7b, 0x5d, 0x7d, 0x2c];

/**
 * Whether a JSON text, a string or UTF-8, has no more structure than the bounds allow. It stops at the first part too many, passes
 * over strings with `indexOf`, and builds nothing, so that a hostile text costs no more than its transport did. Text that is not JSON
 * may pass.
 */
export function isWithin(text: string | Uint8Array, bounds: JsonBounds): boolean {
  const codeAt = (at: number) => (typeof text === "string" ? text.charCodeAt(at) : (text[at] ?? 0));
  const nextQuote = (at: number) => (typeof text === "string" ? text.indexOf('"', at) : text.indexOf(QUOTE, at));
  let depth = 0;
  let parts = 0;
  for (let at = 0; at < text.length; at++) {
    const code = codeAt(at);
    if (code === LIST_END || code === OBJECT_END) depth--;
    if (code !== QUOTE && code !== COMMA && code !== LIST && code !== OBJECT) continue;
    if (++parts > bounds.parts) return false;
    if ((code === LIST || code === OBJECT) && ++depth > bounds.depth) return false;
    if (code !== QUOTE) continue;
    const begin = at + 1;
    at = nextQuote(begin);
    if (at === -1) return true;
    if (codeAt(at - 1) !== BACKSLASH) continue;
    // The first quote may be escaped. Only walking from the beginning tells.
    for (at = begin; at < text.length && codeAt(at) !== QUOTE; at++) if (codeAt(at) === BACKSLASH) at++;
  }
  return true;
}

/** A string that `skim` shortens keeps so many characters, more than any field may have that is read of such a text. */
const SKIMMED_LENGTH = 8 * 1024;

/**
 * Reads JSON text of which only the short fields matter: a string that is longer than SKIMMED_LENGTH and has no escapes is cut to
 * that. It refuses what `JSON.parse` refuses.
 * @param long receives the long strings, each of which is "\0" where it stood
 * @returns undefined when it is no JSON
 */
export function skim(text: Buffer, long?: Buffer[]): unknown {
  let short = "";
  let from = 0;
  for (let at = text.indexOf(QUOTE); at !== -1; at = text.indexOf(QUOTE, at + 1)) {
    // Here a string begins. What follows is its first run of plain characters, and then its end, if it has no others.
    const begin = at + 1;
    at = plainEnd(text, begin);
    if (at - begin > SKIMMED_LENGTH) {
      short += long
        ? `${text.toString("utf8", from, begin)}\\u0000`
        : text.toString("utf8", from, begin + SKIMMED_LENGTH);
      long?.push(text.subarray(begin, at));
      from = at;
    }
    while (at < text.length && text[at] !== QUOTE) at += text[at] === BACKSLASH ? 2 : 1;
  }
  try {
    return JSON.parse(short + text.toString("utf8", from));
  } catch {
    // Undefined fails every schema.
    return undefined;
  }
}

/** A run of plain characters that is not copied; shorter ones are less work together with what is around them. */
const RUN_LENGTH = 1024;

/** UTF-8 text as a JSON string without its quotes, in parts: long runs that need no escapes are the bytes that were given. */
export function escaped(text: Buffer): (string | Buffer)[] {
  const parts: (string | Buffer)[] = [];
  let from = 0;
  const escapeUntil = (end: number) => {
    if (end > from) parts.push(JSON.stringify(text.toString("utf8", from, end)).slice(1, -1));
  };
  for (let at = 0; at < text.length; at++) {
    const begin = at;
    at = plainEnd(text, begin);
    if (at - begin < RUN_LENGTH) continue;
    escapeUntil(begin);
    parts.push(text.subarray(begin, at));
    from = at;
  }
  escapeUntil(text.length);
  return parts;
}

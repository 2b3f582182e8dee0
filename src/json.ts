// JSON text that is long stays bytes: a string of its size lives where only a full collection finds it, and each step that makes
// another copy of it leaves one behind.

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const DELETE = 0x7f;

/** By byte: 1 for what a JSON string holds as it is, in ASCII. */
const PLAIN = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte >= 0x20 && byte < DELETE && byte !== QUOTE && byte !== BACKSLASH ? 1 : 0,
);

/** Where the run of plain characters ends that begins at `at`. */
function plainEnd(bytes: Uint8Array, at: number): number {
  let end = at;
  while (end < bytes.length && PLAIN[bytes[end] ?? 0] === 1) end++;
  return end;
}

/** A string that `skim` shortens keeps so many characters, more than any field may have that is read of such a text. */
const SKIMMED_LENGTH = 8 * 1024;

/**
 * Reads JSON text of which only the short fields matter: a string that is longer than SKIMMED_LENGTH and has no escapes is cut to
 * that. It refuses what `JSON.parse` refuses.
 * @returns undefined when it is no JSON
 */
export function skim(text: Buffer): unknown {
  let short = "";
  let from = 0;
  for (let at = text.indexOf(QUOTE); at !== -1; at = text.indexOf(QUOTE, at + 1)) {
    // Here a string begins. What follows is its first run of plain characters, and then its end, if it has no others.
    const begin = at + 1;
    at = plainEnd(text, begin);
    if (at - begin > SKIMMED_LENGTH) {
      short += text.toString("utf8", from, begin + SKIMMED_LENGTH);
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

/**
 * base58btc (the alphabet of Bitcoin addresses), for byte strings of one size.
 *
 * Decoding is strict: one byte string has exactly one accepted text.
 */
import type { Encoding } from "./bytes.ts";
import { CryptoError } from "./errors.ts";

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const BASE = BigInt(ALPHABET.length);
const ZERO = "1";

/** How many times a text begins with a letter. */
const leading = (text: string, letter: string): number =>
  text.length - text.replace(new RegExp(`^${letter}+`), "").length;

/** base58btc of exactly `bytes` bytes. `decode` throws CryptoError `encoding` on anything else. */
export function base58(bytes: number): Encoding {
  /** log 256 / log 58 < 1.37: what is longer holds more. It bounds the arithmetic, which is quadratic. */
  const lettersMax = Math.ceil(bytes * 1.37);
  return {
    encode(value) {
      let number = 0n;
      for (const byte of value) number = number * 256n + BigInt(byte);
      let text = "";
      for (; number > 0n; number /= BASE) text = (ALPHABET[Number(number % BASE)] ?? "") + text;
      const zeros = value.findIndex((byte) => byte !== 0);
      return ZERO.repeat(zeros === -1 ? value.length : zeros) + text;
    },
    decode(text) {
      if (text.length > lettersMax) throw new CryptoError("encoding", "not base58: it is too long");
      let number = 0n;
      for (const letter of text) {
        const digit = ALPHABET.indexOf(letter);
        if (digit === -1) throw new CryptoError("encoding", "not base58: it has a character outside the alphabet");
        number = number * BASE + BigInt(digit);
      }
      const digits = number === 0n ? "" : number.toString(16);
      const significant = Math.ceil(digits.length / 2);
      // Each leading zero byte is one leading letter: with any other number of them the text would have a twin.
      if (significant + leading(text, ZERO) !== bytes)
        throw new CryptoError("encoding", `not base58 of ${bytes} bytes`);
      const value = new Uint8Array(bytes);
      let rest = number;
      for (let at = bytes - 1; rest > 0n; at--, rest >>= 8n) value[at] = Number(rest & 0xffn);
      return value;
    },
  };
}

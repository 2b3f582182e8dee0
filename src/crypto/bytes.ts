/**
 * Text and bytes: base64 and base64url (RFC 4648 sections 4 and 5), hex, UTF-8, and comparison in constant time.
 *
 * Decoding is strict: one byte string has exactly one accepted text, so what is compared, hashed or used as a key in
 * its encoded form cannot have a twin.
 */
import { bytesToHex, concatBytes, hexToBytes } from "@noble/hashes/utils.js";
import { CryptoError } from "./errors.ts";

/** A reversible text encoding of bytes. `decode` throws CryptoError `encoding` on anything that `encode` does not give. */
export interface Encoding {
  encode(bytes: Uint8Array): string;
  decode(text: string): Uint8Array;
}

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const PAD = 0x3d;
const INVALID = 0xff;

const ascii = new TextDecoder("utf-8");
const utf8Encoder = new TextEncoder();
// ignoreBOM keeps a leading U+FEFF in the text: without it decode(encode(text)) would lose it.
const utf8Decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function base64Encoding(name: string, alphabet: string, padded: boolean): Encoding {
  const letters = utf8Encoder.encode(alphabet);
  // Any byte value can be looked up; what is not in the alphabet gives INVALID, whose high bits no sextet has.
  const values = new Uint8Array(256).fill(INVALID);
  for (let value = 0; value < letters.length; value++) values[letters[value] ?? 0] = value;
  const refuse = (why: string) => new CryptoError("encoding", `not ${name}: ${why}`);

  return {
    encode(bytes) {
      const rest = bytes.length % 3;
      const whole = bytes.length - rest;
      const groups = (whole / 3) * 4;
      const text = new Uint8Array(groups + (rest === 0 ? 0 : padded ? 4 : rest + 1));
      let at = 0;
      for (let from = 0; from < whole; from += 3) {
        const bits = ((bytes[from] ?? 0) << 16) | ((bytes[from + 1] ?? 0) << 8) | (bytes[from + 2] ?? 0);
        text[at++] = letters[bits >>> 18] ?? 0;
        text[at++] = letters[(bits >>> 12) & 63] ?? 0;
        text[at++] = letters[(bits >>> 6) & 63] ?? 0;
        text[at++] = letters[bits & 63] ?? 0;
      }
      if (rest > 0) {
        const bits = ((bytes[whole] ?? 0) << 16) | ((bytes[whole + 1] ?? 0) << 8);
        text[at++] = letters[bits >>> 18] ?? 0;
        text[at++] = letters[(bits >>> 12) & 63] ?? 0;
        if (rest === 2) text[at++] = letters[(bits >>> 6) & 63] ?? 0;
        text.fill(PAD, at);
      }
      return ascii.decode(text);
    },

    decode(text) {
      // A character outside ASCII becomes bytes above 0x7f, which the alphabet does not have.
      const codes = utf8Encoder.encode(text);
      let length = codes.length;
      if (padded) {
        if (length % 4 !== 0) throw refuse("its length is no multiple of 4");
        if (codes[length - 1] === PAD) length--;
        if (codes[length - 1] === PAD) length--;
      }
      const rest = length % 4;
      if (rest === 1) throw refuse("its length is impossible");
      const whole = length - rest;
      const bytes = new Uint8Array((whole / 4) * 3 + (rest === 0 ? 0 : rest - 1));
      let seen = 0;
      let at = 0;
      for (let from = 0; from < whole; from += 4) {
        const a = values[codes[from] ?? 0] ?? INVALID;
        const b = values[codes[from + 1] ?? 0] ?? INVALID;
        const c = values[codes[from + 2] ?? 0] ?? INVALID;
        const d = values[codes[from + 3] ?? 0] ?? INVALID;
        seen |= a | b | c | d;
        bytes[at++] = (a << 2) | (b >>> 4);
        bytes[at++] = (b << 4) | (c >>> 2);
        bytes[at++] = (c << 6) | d;
      }
      if (rest > 0) {
        const a = values[codes[whole] ?? 0] ?? INVALID;
        const b = values[codes[whole + 1] ?? 0] ?? INVALID;
        const c = rest === 3 ? (values[codes[whole + 2] ?? 0] ?? INVALID) : 0;
        seen |= a | b | c;
        if (((rest === 3 ? c << 6 : b << 4) & 0xff) !== 0) throw refuse("its last character has stray bits");
        bytes[at++] = (a << 2) | (b >>> 4);
        if (rest === 3) bytes[at++] = (b << 4) | (c >>> 2);
      }
      if (seen > 63) throw refuse("it has a character outside the alphabet");
      return bytes;
    },
  };
}

/** Standard base64, with padding (RFC 4648 section 4): what relay frames carry. */
export const base64: Encoding = base64Encoding("base64", `${LETTERS}+/`, true);

/** base64url, without padding (RFC 4648 section 5): what the registry and our own records carry. */
export const base64url: Encoding = base64Encoding("base64url", `${LETTERS}-_`, false);

/** Hexadecimal. `encode` gives lower case; `decode` takes an even number of hex digits of either case. */
export const hex: Encoding = {
  encode: (bytes) => bytesToHex(bytes),
  decode(text) {
    if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) throw new CryptoError("encoding", "not hexadecimal");
    return hexToBytes(text);
  },
};

/**
 * UTF-8 without a byte order mark of its own. `encode` writes a lone surrogate as U+FFFD (as `TextEncoder` does);
 * `decode` throws CryptoError `encoding` on bytes that are not well formed UTF-8.
 */
export const utf8 = {
  encode: (text: string): Uint8Array => utf8Encoder.encode(text),
  decode(bytes: Uint8Array): string {
    try {
      return utf8Decoder.decode(bytes);
    } catch {
      // The only thing that a fatal decoder throws for.
      throw new CryptoError("encoding", "not UTF-8");
    }
  },
};

/** All parts in one new array. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return concatBytes(...parts);
}

/** Whether two byte strings are equal, in a time that depends on their lengths only. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let at = 0; at < a.length; at++) difference |= (a[at] ?? 0) ^ (b[at] ?? 0);
  return difference === 0;
}

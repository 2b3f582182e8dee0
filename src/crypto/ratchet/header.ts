/** The message header (HEADER of Double Ratchet section 3.1): dh (32) ‖ pn ‖ n, both u32 big-endian; 40 bytes. */
import { CryptoError } from "../errors.ts";
import { KEY_BYTES } from "../suite.ts";

/** Bytes of an encoded header. */
export const HEADER_BYTES = 40;
/** The greatest message number and the greatest count of a chain: 2^32 - 1. */
export const COUNTER_MAX = 0xffff_ffff;

const NOTHING = new Uint8Array();

/** What travels in the clear beside a ciphertext, and is authenticated with it. */
export interface Header {
  /** DHs: the sender's ratchet public key, X25519, 32 bytes. */
  readonly dh: Uint8Array;
  /** PN: how many messages the sender's previous chain had. */
  readonly pn: number;
  /** N: the message's number in its chain, from 0. */
  readonly n: number;
}

/** Throws CryptoError `header_invalid` unless `dh` has 32 bytes and both numbers fit 32 bits. */
export function validateHeader(header: Header): void {
  if (header.dh.length !== KEY_BYTES) throw new CryptoError("header_invalid", "a ratchet key has 32 bytes");
  if (!isCounter(header.pn) || !isCounter(header.n)) {
    throw new CryptoError("header_invalid", "a message number is an integer of 32 bits");
  }
}

/** The header's 40 bytes. Throws CryptoError `header_invalid` on what `validateHeader` refuses. */
export function encodeHeader(header: Header): Uint8Array {
  return appendHeader(NOTHING, header);
}

/** `front` and the header's 40 bytes after it, in one new array. Throws what `encodeHeader` throws. */
export function appendHeader(front: Uint8Array, header: Header): Uint8Array {
  validateHeader(header);
  const bytes = new Uint8Array(front.length + HEADER_BYTES);
  bytes.set(front);
  bytes.set(header.dh, front.length);
  const view = new DataView(bytes.buffer, front.length);
  view.setUint32(32, header.pn);
  view.setUint32(36, header.n);
  return bytes;
}

/** The header of 40 bytes. Throws CryptoError `header_invalid` on another size. */
export function decodeHeader(bytes: Uint8Array): Header {
  if (bytes.length !== HEADER_BYTES) throw new CryptoError("header_invalid", "a header has 40 bytes");
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  return { dh: bytes.slice(0, KEY_BYTES), pn: view.getUint32(32), n: view.getUint32(36) };
}

function isCounter(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= COUNTER_MAX;
}

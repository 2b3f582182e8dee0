import { randomUUID } from "node:crypto";
import { JetStreamApiCodes, JetStreamApiError, type StoredMsg } from "@nats-io/jetstream";
import type { MsgHdrs } from "@nats-io/transport-node";
import { FRAME_TEXT_SIZE_MAX } from "../../limits.ts";
import type { FrameText } from "../../wire/frame-text.ts";
import type { Mail } from "../state.ts";
import { type Bus, didOfToken, tokenOf, unavailable } from "./bus.ts";
import {
  ACK_PATIENCE_MS,
  ANSWER_WAIT_MS,
  INLINE_SIZE_MAX,
  PART_SIZE,
  PUT_PATIENCE_MS,
  RETRY_REST_MS,
} from "./limits.ts";
import { patiently } from "./patience.ts";

// Frames as messages of NATS. The message's id says to whom and from whom it is; a long frame lies in parts beside its mailbox.

/** `<recipient> <sender> <the sender's id>`, by which the stream knows a repetition. */
const ID_HEADER = "Nats-Msg-Id";
/** `<key> <number>` of the parts of a long frame. */
export const PARTS_HEADER = "Kars-Parts";

export const messageId = (to: string, from: string, id: string): string => `${tokenOf(to)} ${tokenOf(from)} ${id}`;

/** A frame's place: its stream's number follows from its recipient. */
export const shardOf = (bus: Bus, did: string): number =>
  Number.parseInt(tokenOf(did).slice(0, 8), 16) % bus.facts.shards;

export const mailSubject = (bus: Bus, did: string): string => bus.subject("mail", shardOf(bus, did), tokenOf(did));
export const mailStream = (bus: Bus, shard: number): string => bus.name(`mail-${shard}`);
export const partSubject = (bus: Bus, did: string, ...more: readonly (string | number)[]): string =>
  bus.subject("part", shardOf(bus, did), tokenOf(did), ...more);
export const partStream = (bus: Bus, shard: number): string => bus.name(`part-${shard}`);

export interface Parts {
  readonly key: string;
  readonly count: number;
}

/** What a message says of the frame in it. */
export interface Held {
  readonly from: string;
  readonly id: string;
  readonly parts?: Parts | undefined;
}

/** Reads a message's headers; undefined for one that is none of ours. */
export function heldBy(headers: MsgHdrs | undefined): Held | undefined {
  const [, from, ...id] = headers?.get(ID_HEADER).split(" ") ?? [];
  if (from === undefined || id.length !== 1) return undefined;
  const [key, count] = headers?.get(PARTS_HEADER).split(" ") ?? [];
  const parts = key !== undefined && count !== undefined ? { key, count: Number(count) } : undefined;
  return { from: didOfToken(from), id: id[0] ?? "", parts };
}

export const bytesOf = (frame: FrameText): Uint8Array => (typeof frame === "string" ? Buffer.from(frame) : frame);

/** Bytes that came, as a frame: a long one stays bytes. */
export function textOf(bytes: Uint8Array): FrameText {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return buffer.length <= FRAME_TEXT_SIZE_MAX ? buffer.toString() : Buffer.from(buffer);
}

export const isLong = (bytes: Uint8Array): boolean => bytes.length > INLINE_SIZE_MAX;

/** How many parts a long frame takes. */
export const partsOf = (bytes: Uint8Array): number => Math.ceil(bytes.length / PART_SIZE);

/** Stores a long frame's parts under a key of their own. @throws MeshError `nats_unavailable`, `closed` */
export async function storeParts(bus: Bus, to: string, bytes: Uint8Array): Promise<Parts> {
  const key = randomUUID();
  const count = partsOf(bytes);
  for (let n = 0; n < count; n++) {
    const part = bytes.subarray(n * PART_SIZE, (n + 1) * PART_SIZE);
    const options = { msgID: `${key} ${n}`, timeout: ANSWER_WAIT_MS };
    await patiently(bus, PUT_PATIENCE_MS, () => bus.js.publish(partSubject(bus, to, key, n), part, options));
  }
  return { key, count };
}

/** A long frame out of its parts; undefined when they are not all there. */
export async function readParts(bus: Bus, to: string, { key, count }: Parts): Promise<FrameText | undefined> {
  const stream = partStream(bus, shardOf(bus, to));
  const parts: Uint8Array[] = [];
  for (let n = 0; n < count; n++) {
    const part = await bus.jsm.streams.getMessage(stream, { last_by_subj: partSubject(bus, to, key, n) });
    if (!part) return undefined;
    parts.push(part.data);
  }
  return textOf(Buffer.concat(parts));
}

/** Removes a long frame's parts. Never rejects: what stays goes by its age. */
export const dropParts = (bus: Bus, to: string, { key }: Parts): Promise<void> =>
  bus.jsm.streams.purge(partStream(bus, shardOf(bus, to)), { filter: partSubject(bus, to, key, ">") }).then(
    () => undefined,
    (error) => bus.log(`nats: parts of a frame could not be removed: ${unavailable(error).message}`),
  );

/** What of a stored message the mail is made of. */
export type Stored = Pick<StoredMsg, "seq" | "data"> & { readonly header: MsgHdrs | undefined; readonly at: number };

/** A stored message as mail; undefined when it is none of ours, or its parts are gone. */
export async function mailOf(bus: Bus, to: string, { seq, data, header, at }: Stored): Promise<Mail | undefined> {
  const held = heldBy(header);
  if (!held) return undefined;
  const text = held.parts ? await readParts(bus, to, held.parts) : textOf(data);
  return text === undefined
    ? undefined
    : { position: seq, from: held.from, id: held.id, text, size: Buffer.byteLength(text), at };
}

const NO_MESSAGE: number = JetStreamApiCodes.NoMessageFound;

/** Removes a message, again and again while NATS elects and heals. Never rejects; false when it may still be there. */
export async function removeMessage(
  bus: Bus,
  stream: string,
  position: number,
  isGivenUp: () => boolean,
): Promise<boolean> {
  const deadline = Date.now() + ACK_PATIENCE_MS;
  for (;;) {
    try {
      await bus.jsm.streams.deleteMessage(stream, position, false);
      return true;
    } catch (error) {
      // An earlier try may have come through.
      if (error instanceof JetStreamApiError && error.code === NO_MESSAGE) return true;
      if (isGivenUp() || bus.nats.isClosed() || Date.now() > deadline) {
        bus.log(`mail: an ack could not be written: ${unavailable(error).message}`);
        return false;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_REST_MS));
    }
  }
}

/** Which of these frames the stream still has. */
export async function storedOf(
  bus: Bus,
  stream: string,
  frames: readonly { readonly position: number; readonly id: string }[],
): Promise<{ position: number; id: string; parts: Parts | undefined }[]> {
  const found = [];
  for (const { position, id } of frames) {
    const message = await bus.jsm.streams.getMessage(stream, { seq: position });
    const held = heldBy(message?.header);
    if (held?.id === id) found.push({ position, id, parts: held.parts });
  }
  return found;
}

import { DiscardPolicy, type PubAck } from "@nats-io/jetstream";
import { headers } from "@nats-io/transport-node";
import { MeshError } from "../../errors.ts";
import { MAILBOX_AGE_MAX_MS } from "../../limits.ts";
import type { FrameText } from "../../wire/frame-text.ts";
import type { Mailboxes } from "../state.ts";
import { type Bus, tokenOf, unavailable } from "./bus.ts";
import { openFeed } from "./feed.ts";
import {
  bytesOf,
  dropParts,
  heldBy,
  isLong,
  mailStream,
  mailSubject,
  messageId,
  PARTS_HEADER,
  type Parts,
  partStream,
  partSubject,
  partsOf,
  shardOf,
  storeParts,
} from "./frames.ts";
import { FifoLanes } from "./lanes.ts";
import { ANSWER_WAIT_MS, DEDUPE_WINDOW_MS, PAIRS_REMEMBERED_MAX, PARTS_MAX, PUT_PATIENCE_MS } from "./limits.ts";
import { isFull, patiently } from "./patience.ts";
import { openRecords } from "./records.ts";

// The mail in streams of NATS, a subject a recipient, as many streams as the cluster has shards. The stream itself knows a
// repetition, keeps what waits to its number a mailbox and to its age; who serves the recipient hears of what was stored.
//
// Of one sender and recipient one frame is under way at a time. So a frame that NATS lost on the way is known to be lost
// before the next one leaves, and none overtakes it.

const NANOSECONDS = 1_000_000;

/** How the live word of a stored frame begins: `<position> <the position before it of this sender here, or 0> <time>`. */
export const LIVE_HEADER = "Kars-Live";

export async function openJetStreamMailboxes(bus: Bus): Promise<Mailboxes> {
  const common = { max_age: MAILBOX_AGE_MAX_MS * NANOSECONDS, discard: DiscardPolicy.New, allow_direct: true };
  const begun = Array.from({ length: bus.facts.shards }, (_, shard) => [
    bus.stream(`mail-${shard}`, {
      ...common,
      subjects: [bus.subject("mail", shard, "*")],
      duplicate_window: DEDUPE_WINDOW_MS * NANOSECONDS,
      max_msgs_per_subject: bus.facts.mailboxFrames,
      discard_new_per_subject: true,
    }),
    bus.stream(`part-${shard}`, { ...common, subjects: [bus.subject("part", shard, ">")] }),
  ]);
  const opening = openRecords(bus, "given", { ttlMs: MAILBOX_AGE_MAX_MS, patienceMs: PUT_PATIENCE_MS });
  const [given] = await Promise.all([opening, ...begun.flat()]);

  const lanes = new FifoLanes();
  /** The position of the last frame that was stored here, by lane. */
  const last = new Map<string, number>();

  async function hasRoomForParts(to: string, count: number): Promise<boolean> {
    const filter = partSubject(bus, to, ">");
    const { state } = await bus.jsm.streams.info(partStream(bus, shardOf(bus, to)), { subjects_filter: filter });
    return Object.keys(state.subjects ?? {}).length + count <= PARTS_MAX;
  }

  /** Stores the parts that a long frame needs. */
  async function partsFor(to: string, bytes: Uint8Array): Promise<Parts | "full" | undefined> {
    if (!isLong(bytes)) return undefined;
    const hasRoom = await patiently(bus, PUT_PATIENCE_MS, () => hasRoomForParts(to, partsOf(bytes)));
    return hasRoom ? storeParts(bus, to, bytes) : "full";
  }

  /** Publishes until NATS says what became of it. */
  function publish(to: string, from: string, id: string, bytes: Uint8Array, parts: Parts | undefined) {
    const head = headers();
    if (parts) head.set(PARTS_HEADER, `${parts.key} ${parts.count}`);
    return patiently(bus, PUT_PATIENCE_MS, () =>
      bus.js.publish(mailSubject(bus, to), parts ? new Uint8Array() : bytes, {
        msgID: messageId(to, from, id),
        headers: head,
        timeout: ANSWER_WAIT_MS,
      }),
    );
  }

  /** What is stored already may be this very frame, whose first answer was lost: then its parts are needed. */
  async function dropUnlessStored(to: string, seq: number, parts: Parts): Promise<void> {
    try {
      const stored = await bus.jsm.streams.getMessage(mailStream(bus, shardOf(bus, to)), { seq });
      if (heldBy(stored?.header)?.parts?.key !== parts.key) await dropParts(bus, to, parts);
    } catch (error) {
      // They go by their age.
      bus.log(`nats: whether a frame's parts are needed could not be seen: ${unavailable(error).message}`);
    }
  }

  async function put(to: string, from: string, id: string, frame: FrameText) {
    if (bus.nats.isClosed()) throw new MeshError("closed");
    const bytes = bytesOf(frame);
    let parts: Awaited<ReturnType<typeof partsFor>>;
    let ack: PubAck;
    try {
      parts = await partsFor(to, bytes);
      if (parts === "full") return "full";
      ack = await publish(to, from, id, bytes, parts);
    } catch (error) {
      if (!isFull(error)) throw error;
      if (parts && parts !== "full") void dropParts(bus, to, parts);
      return "full";
    }
    if (ack.duplicate) {
      if (parts) void dropUnlessStored(to, ack.seq, parts);
      // Whoever serves the recipient may not have heard of it the first time.
      tell(to, from, id, ack.seq, undefined, 0);
      return "duplicate";
    }
    const lane = `${from} ${to}`;
    tell(to, from, id, ack.seq, parts ? undefined : bytes, last.get(lane) ?? 0);
    last.delete(lane);
    last.set(lane, ack.seq);
    const oldest = last.size > PAIRS_REMEMBERED_MAX ? last.keys().next().value : undefined;
    if (oldest !== undefined) last.delete(oldest);
    return "stored";
  }

  function tell(to: string, from: string, id: string, seq: number, bytes: Uint8Array | undefined, before: number) {
    const head = headers();
    head.set("Nats-Msg-Id", messageId(to, from, id));
    head.set(LIVE_HEADER, `${seq} ${before} ${bytes ? Date.now() : 0}`);
    try {
      bus.nats.publish(bus.subject("live", tokenOf(to)), bytes, { headers: head });
    } catch (error) {
      // It is stored: who serves its recipient looks for itself a little later.
      bus.log(`nats: a live word could not be said: ${unavailable(error).message}`);
    }
  }

  return {
    put: (to, from, id, frame) => lanes.run(`${from} ${to}`, () => put(to, from, id, frame)),
    open: (to, onMail, { givesOnce = false } = {}) => openFeed(bus, to, onMail, givesOnce ? given : undefined),
  };
}

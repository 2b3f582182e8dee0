import { AckPolicy, DeliverPolicy, type JsMsg } from "@nats-io/jetstream";
import { type Bus, unavailable } from "./bus.ts";
import { ANSWER_WAIT_MS, SCAN_BATCH } from "./limits.ts";

/** A message that a bucket holds. */
export interface Scanned {
  /** The last token of its subject. */
  readonly token: string;
  readonly data: Uint8Array;
  readonly revision: number;
  /** When it was stored, in epoch milliseconds by the clock of NATS. */
  readonly at: number;
}

const NANOSECONDS = 1_000_000;
const isMark = (message: JsMsg) => message.headers?.has("KV-Operation") === true;

/**
 * The messages of these subjects of a stream that keeps one of each, oldest first: no more than a bound, of the total that
 * the server counts. It reads by a consumer of its own.
 * @throws MeshError `nats_unavailable`
 */
export async function scan(
  bus: Bus,
  stream: string,
  filter: string,
  countMax: number,
): Promise<{ readonly messages: readonly Scanned[]; readonly total: number }> {
  const { consumers } = bus.jsm;
  try {
    const info = await consumers.add(stream, {
      ack_policy: AckPolicy.None,
      deliver_policy: DeliverPolicy.All,
      filter_subject: filter,
      inactive_threshold: 5 * ANSWER_WAIT_MS * NANOSECONDS,
      mem_storage: true,
      num_replicas: 1,
    });
    const messages: Scanned[] = [];
    try {
      const total = info.num_pending;
      let read = 0;
      for (let left = Math.min(total, countMax); left > 0; ) {
        const batch = await bus.js.consumers.getConsumerFromInfo(info).fetch({
          max_messages: Math.min(left, SCAN_BATCH),
          expires: 2 * ANSWER_WAIT_MS,
        });
        let pending = 0;
        let count = 0;
        for await (const message of batch) {
          // One that was lost on the way would be missing from the answer.
          if (message.info.deliverySequence !== ++read) throw new Error("a message was lost");
          const { subject, data, seq: revision } = message;
          const at = Math.floor(message.info.timestampNanos / NANOSECONDS);
          const token = subject.slice(subject.lastIndexOf(".") + 1);
          if (!isMark(message)) messages.push({ token, data, revision, at });
          pending = message.info.pending;
          count++;
        }
        // What was to come may have been removed meanwhile.
        if (count === 0 && (await consumers.info(stream, info.name)).num_pending > 0) throw new Error("timeout");
        left = Math.min(pending, countMax - read);
      }
      return { messages, total };
    } finally {
      void consumers.delete(stream, info.name).catch(() => undefined); // It goes by itself a little later.
    }
  } catch (error) {
    throw unavailable(error);
  }
}

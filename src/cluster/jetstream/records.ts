import { randomUUID } from "node:crypto";
import { JetStreamApiError, jetstreamManager, type StoredMsg } from "@nats-io/jetstream";
import { headers } from "@nats-io/transport-node";
import { MeshError } from "../../errors.ts";
import type { Bus } from "./bus.ts";
import { ANSWER_WAIT_MS, CHANGE_JITTER_MS, CHANGE_PATIENCE_MS, CHANGE_TRIES_MAX } from "./limits.ts";
import { patiently } from "./patience.ts";

// Records in a bucket that many change at once: each change names the one that it stands on, and of two that stand on the
// same one NATS takes one.
//
// A server of NATS checks the expected revision when a message comes in; in a cluster, before 2.10.23 or so, it does not
// check again when the message is stored: of two that come in together both are stored, and both are told so. What it does
// check then is the message's id. So the id of a change is made of what it stands on, and the second counts as a repetition
// of the first. A first record stands on nothing, revision 0, which every server checks as it stores it.

/** Names one attempt to change a record, to know it again when the answer was lost. */
const CHANGE_HEADER = "Kars-Change";

export interface RecordAt {
  /** The JSON of the record; undefined when there is none, or it is no JSON. */
  readonly value: unknown;
  /** What a change stands on; 0 of no record. */
  readonly revision: number;
  /** When it was written, in epoch milliseconds by the clock of NATS; 0 of no record. */
  readonly at: number;
}

export interface Records {
  /** The stream that they lie in, and the subject of a key. */
  readonly stream: string;
  subject(key: string): string;
  /** As the stream's leader has it, so that nobody is told less than anyone was before. */
  read(key: string): Promise<RecordAt>;
  /** As any copy of the stream has it, which may be a moment old. */
  glance(key: string): Promise<RecordAt>;
  /** Writes it, whatever is there. */
  put(key: string, value: string): Promise<void>;
  /**
   * Writes what stands on a revision; resolves when it is durable.
   * @returns its revision; undefined when the record has changed since
   */
  write(key: string, value: string, on: number): Promise<number | undefined>;
  /** Removes the record of that revision, and no later one. No mark of it stays. */
  erase(revision: number): Promise<void>;
}

const isConflict = (error: unknown) => error instanceof JetStreamApiError && /wrong last sequence/i.test(error.message);
const isGone = (error: unknown) => error instanceof JetStreamApiError && /no message found/i.test(error.message);

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

type BucketOptions = NonNullable<Parameters<Bus["bucket"]>[1]> & {
  /** How long NATS is asked again while it elects and heals. */
  readonly patienceMs?: number;
};

/**
 * Opens a bucket, beginning it when there is none. One in memory is begun again when NATS has lost it: a server that stands
 * alone does not even know that there was one when it comes back.
 */
export async function openRecords(
  bus: Bus,
  name: string,
  { patienceMs = CHANGE_PATIENCE_MS, ...options }: BucketOptions = {},
): Promise<Records> {
  const begin = () => bus.bucket(name, options);
  await begin();
  const { streams, direct } = await jetstreamManager(bus.nats, { timeout: ANSWER_WAIT_MS, checkAPI: false });
  const stream = `KV_${bus.name(name)}`;
  const subject = (key: string) => `$KV.${bus.name(name)}.${key}`;

  /** Asks NATS again while it elects and heals. @throws MeshError `nats_unavailable`, `closed` */
  const ask = <T>(question: () => Promise<T>): Promise<T> =>
    patiently(bus, patienceMs, question, () =>
      // The next attempt tells what comes of it.
      options.inMemory && bus.awayMs === 0 ? begin().catch(() => undefined) : undefined,
    );

  const last = (key: string) => streams.getMessage(stream, { last_by_subj: subject(key) });
  const recordOf = (message: Pick<StoredMsg, "data" | "seq" | "time"> | null): RecordAt =>
    message
      ? { value: jsonOf(message.data), revision: message.seq, at: message.time.getTime() }
      : { value: undefined, revision: 0, at: 0 };

  return {
    stream,
    subject,
    read: (key) => ask(async () => recordOf(await last(key))),
    glance: (key) => ask(async () => recordOf(await direct.getMessage(stream, { last_by_subj: subject(key) }))),
    put: (key, value) =>
      ask(async () => {
        await bus.js.publish(subject(key), value, { timeout: ANSWER_WAIT_MS });
      }),
    async write(key, value, on) {
      const change = randomUUID();
      const head = headers();
      head.set(CHANGE_HEADER, change);
      head.set("Nats-Expected-Last-Subject-Sequence", String(on));
      const msgID = on === 0 ? change : `${key} ${on}`;
      let isUncertain = false;
      return ask(async () => {
        try {
          const { duplicate, seq } = await bus.js.publish(subject(key), value, {
            msgID,
            headers: head,
            timeout: ANSWER_WAIT_MS,
          });
          if (!duplicate) return seq;
        } catch (error) {
          if (!isConflict(error)) {
            isUncertain = true;
            throw error;
          }
        }
        // Another's change came first, unless this one did and its answer was lost.
        if (!isUncertain) return undefined;
        const message = await last(key);
        return message?.header?.get(CHANGE_HEADER) === change ? message.seq : undefined;
      });
    },
    erase: (revision) =>
      ask(async () => {
        try {
          await streams.deleteMessage(stream, revision, false);
        } catch (error) {
          if (!isGone(error)) throw error;
        }
      }),
  };
}

/** The JSON of a message; undefined when it is none. */
export function jsonOf(data: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString());
  } catch {
    // What is no JSON is no record of ours, which fails every schema.
    return undefined;
  }
}

/** Reads, decides and writes again until nobody came between. `attempt` gives undefined when somebody did. */
export async function untilWritten<T>(attempt: () => Promise<{ readonly result: T } | undefined>): Promise<T> {
  for (let tries = 1; tries <= CHANGE_TRIES_MAX; tries++) {
    const done = await attempt();
    if (done) return done.result;
    await pause(Math.random() * CHANGE_JITTER_MS * Math.min(tries, 10));
  }
  throw new MeshError("nats_unavailable", "Too many changed one record at once.");
}

/** Runs work for each of them, a bounded number at a time; the results in their order. */
export async function forEach<T, R>(
  items: readonly T[],
  atOnceMax: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const rest = items.entries();
  const lane = async () => {
    for (const [index, item] of rest) results[index] = await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnceMax, items.length) }, lane));
  return results;
}

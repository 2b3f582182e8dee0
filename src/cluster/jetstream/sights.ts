import { z } from "zod";
import { asMeshError } from "../../errors.ts";
import { SEEN_EVERY_MS } from "../../limits.ts";
import { safeParse } from "../../parse.ts";
import { type Bus, tokenOf } from "./bus.ts";
import { ASKED_AT_ONCE_MAX, SEEN_REMEMBERED_MAX } from "./limits.ts";
import { forEach, openRecords } from "./records.ts";

// When agents were last seen, beside their records: bucket `seen`, epoch milliseconds by agent. Known at once on the replica
// that saw it, written down now and then.

interface Sight {
  readonly at: number;
  /** The last that was written down here. */
  readonly writtenAt: number;
}

export interface Sights {
  /** A sign of life. */
  seen(did: string): void;
  /** When an agent was last seen, in epoch milliseconds; -Infinity when nobody knows. */
  lastSeen(did: string): Promise<number>;
  /** Forgets an agent that is not there any more. */
  forget(did: string): Promise<void>;
  /** Writes down what is known here alone. Never rejects. */
  close(): Promise<void>;
}

/** @param isThere whether an agent has a record: of others nothing is written down */
export async function openSights(
  bus: Bus,
  now: () => number,
  isThere: (did: string) => Promise<boolean>,
): Promise<Sights> {
  const written = await openRecords(bus, "seen");
  const sights = new Map<string, Sight>();
  const writing = new Set<Promise<void>>();

  // When it cannot be written, only a time of last sight is lost.
  async function write(did: string, at: number): Promise<void> {
    try {
      if (await isThere(did)) await written.put(tokenOf(did), String(at));
    } catch (error) {
      bus.log(`registry: a sign of life could not be written: ${asMeshError(error).message}`);
    }
  }

  return {
    seen(did) {
      const at = now();
      const before = sights.get(did)?.writtenAt ?? Number.NEGATIVE_INFINITY;
      const isDue = at - before >= SEEN_EVERY_MS;
      sights.delete(did);
      sights.set(did, { at, writtenAt: isDue ? at : before });
      const oldest = sights.size > SEEN_REMEMBERED_MAX ? sights.keys().next().value : undefined;
      if (oldest !== undefined) sights.delete(oldest);
      if (!isDue) return;
      const task = write(did, at);
      writing.add(task);
      void task.then(() => writing.delete(task));
    },
    async lastSeen(did) {
      const there = safeParse(z.number(), (await written.glance(tokenOf(did))).value).data ?? Number.NEGATIVE_INFINITY;
      return Math.max(there, sights.get(did)?.at ?? Number.NEGATIVE_INFINITY);
    },
    async forget(did) {
      sights.delete(did);
      const { revision } = await written.read(tokenOf(did));
      if (revision > 0) await written.erase(revision);
    },
    async close() {
      await Promise.all(writing);
      const rest = [...sights].filter(([, { at, writtenAt }]) => at > writtenAt);
      sights.clear();
      await forEach(rest, ASKED_AT_ONCE_MAX, ([did, { at }]) => write(did, at));
    },
  };
}

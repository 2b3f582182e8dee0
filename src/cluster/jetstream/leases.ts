import { randomUUID } from "node:crypto";
import { asMeshError } from "../../errors.ts";
import type { Bus } from "./bus.ts";
import { LEASE_EVERY_MS, LEASE_MS, REPLICAS_REMEMBERED_MAX } from "./limits.ts";
import { openRecords } from "./records.ts";

// Which replicas live. Each says so every few seconds; it is believed for a while after it was last seen to say something
// new, by the clock of whoever believes it. The clocks of two machines are never compared.

export interface Leases {
  /** This replica's id. */
  readonly own: string;
  isAlive(replica: string): Promise<boolean>;
  /** Gives the own lease up: at once for all who hear of it. */
  close(): Promise<void>;
}

export async function openLeases(bus: Bus, now: () => number): Promise<Leases> {
  const own = randomUUID();
  const bucket = await openRecords(bus, "replicas", { inMemory: true, ttlMs: LEASE_MS });
  /** What another replica said last, and when that was new here. Empty when it has given its lease up. */
  const heard = new Map<string, { readonly said: string; readonly at: number }>();

  function hear(replica: string, said: string): void {
    if (heard.get(replica)?.said === said) return;
    heard.delete(replica);
    heard.set(replica, { said, at: now() });
    const oldest = heard.size > REPLICAS_REMEMBERED_MAX ? heard.keys().next().value : undefined;
    if (oldest !== undefined) heard.delete(oldest);
  }

  // A bucket's keys are subjects: what is written to it is heard like any word.
  const prefix = `$KV.${bus.name("replicas")}.`;
  const words = bus.nats.subscribe(`${prefix}*`, {
    callback: (error, message) => {
      if (!error) hear(message.subject.slice(prefix.length), message.string());
    },
  });

  let count = 0;
  let isRenewing = false;
  async function renew(): Promise<void> {
    if (isRenewing) return;
    isRenewing = true;
    try {
      await bucket.put(own, String(++count));
    } finally {
      isRenewing = false;
    }
  }
  await renew();
  const timer = setInterval(() => {
    // While NATS is away nobody can enter anything; the next one follows.
    renew().catch((error) => bus.log(`nats: the lease could not be renewed: ${asMeshError(error).message}`));
  }, LEASE_EVERY_MS);
  timer.unref();

  const isFresh = (replica: string) => {
    const last = heard.get(replica);
    return last !== undefined && last.said !== "" && now() - last.at <= LEASE_MS;
  };

  return {
    own,
    async isAlive(replica) {
      if (replica === own || isFresh(replica)) return true;
      // It may have spoken while this one could not hear.
      const { value = "" } = await bucket.glance(replica);
      hear(replica, String(value));
      return isFresh(replica);
    },
    async close() {
      clearInterval(timer);
      if (!bus.nats.isClosed()) words.unsubscribe();
      if (bus.awayMs === 0) await bucket.put(own, "");
    },
  };
}

import { randomUUID } from "node:crypto";
import type { KV } from "@nats-io/kv";
import { z } from "zod";
import { safeParse } from "../../parse.ts";
import { type Bus, unavailable } from "./bus.ts";
import { LEASE_EVERY_MS, LEASE_MS } from "./limits.ts";

// Which replica is the active one: who holds a lease in a key of NATS, which it renews. Another takes it when it has not
// changed for LEASE_MS by that one's own clock, so clocks need not agree.
//
// Two may believe that they lead for a while: the one that was cut off does not know. What they share must refuse the word of
// the earlier one by itself, as a home does that another has opened. So who cannot renew its lease keeps leading until
// another has taken it: a NATS that is away deposes nobody.

const Lease = z.object({ v: z.literal(1), holder: z.string().max(64).nullable() });

export interface LeadOptions {
  /** This replica leads now, until `signal` aborts. When it throws, the lease is given up. */
  readonly onElected: (signal: AbortSignal) => void | Promise<void>;
  /** It leads no more. When this has resolved, the next may lead: what was begun is at its end. */
  readonly onDeposed: () => void | Promise<void>;
}

export interface Leadership {
  readonly isLeader: boolean;
  /** Gives the lease up for another to take it; this one may be elected again later. */
  resign(): void;
  /** The same for good. Resolves when the lease is given up. */
  close(): Promise<void>;
}

/** Takes part in the election of the one that leads. `name`: what there is one of, as a token of a subject. */
export async function lead(bus: Bus, name: string, options: LeadOptions): Promise<Leadership> {
  const bucket = await bus.bucket("leaders");
  const election = new Election(bus, bucket, name, options);
  const ended = election.run();
  return {
    get isLeader() {
      return election.isLeader;
    },
    resign: () => election.resign(),
    close: async () => {
      election.close();
      await ended;
    },
  };
}

class Election {
  isLeader = false;
  readonly #bus: Bus;
  readonly #bucket: KV;
  readonly #name: string;
  readonly #options: LeadOptions;
  readonly #me = randomUUID();
  #isClosed = false;
  #isResigning = false;
  #wake: () => void = () => undefined;
  /** The lease as it was seen to change last, and when, by a clock that only goes forward. */
  #seen = { revision: -1, at: 0 };

  constructor(bus: Bus, bucket: KV, name: string, options: LeadOptions) {
    this.#bus = bus;
    this.#bucket = bucket;
    this.#name = name;
    this.#options = options;
  }

  async run(): Promise<void> {
    const subject = this.#bus.subject("free", this.#name);
    const freed = this.#bus.nats.subscribe(subject, { callback: () => this.#wake() });
    while (!this.#isClosed) {
      const revision = await this.#stand().catch((error: unknown) => {
        this.#bus.log(`nats: the lease of the ${this.#name} could not be asked for: ${unavailable(error).message}`);
        return undefined;
      });
      if (revision === undefined) await this.#rest();
      else {
        await this.#lead(revision);
        // Others come first.
        if (!this.#isClosed) await new Promise((resolve) => setTimeout(resolve, LEASE_EVERY_MS / 2));
      }
    }
    if (!this.#bus.nats.isClosed()) freed.unsubscribe();
  }

  resign(): void {
    this.#isResigning = true;
    this.#wake();
  }

  close(): void {
    this.#isClosed = true;
    this.#wake();
  }

  /** Until the next time to do something, or until there is a reason. */
  async #rest(): Promise<void> {
    if (this.#isClosed || (this.isLeader && this.#isResigning)) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, LEASE_EVERY_MS);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #text(holder: string | null): string {
    return JSON.stringify({ v: 1, holder });
  }

  /** The lease as it stands; undefined when nobody ever had it. */
  async #lease(): Promise<{ readonly revision: number; readonly holder: string | null } | undefined> {
    const entry = await this.#bucket.get(this.#name);
    if (!entry) return undefined;
    const { data } = entry.operation === "PUT" ? safeParse(Lease, entry.json()) : {};
    return { revision: entry.revision, holder: data?.holder ?? null };
  }

  /** Takes the lease if it is free. Its revision then; undefined when another has it. */
  async #stand(): Promise<number | undefined> {
    const lease = await this.#lease();
    const mine = this.#text(this.#me);
    if (!lease) return this.#bucket.create(this.#name, mine);
    const now = performance.now();
    if (lease.revision !== this.#seen.revision) this.#seen = { revision: lease.revision, at: now };
    const isFree = lease.holder === null || lease.holder === this.#me || now - this.#seen.at >= LEASE_MS;
    return isFree ? this.#bucket.update(this.#name, mine, lease.revision) : undefined;
  }

  async #lead(first: number): Promise<void> {
    const term = new AbortController();
    this.isLeader = true;
    this.#isResigning = false;
    this.#bus.log(`the ${this.#name} is active here`);
    const elected = (async () => this.#options.onElected(term.signal))().catch((error: unknown) => {
      this.#bus.log(`the ${this.#name} gives up: ${error instanceof Error ? error.message : String(error)}`);
      this.resign();
    });
    let revision: number | undefined = first;
    for (;;) {
      await this.#rest();
      if (this.#isClosed || this.#isResigning) break;
      revision = await this.#renewed(revision);
      if (revision === undefined) break;
    }
    this.isLeader = false;
    term.abort();
    await elected;
    await (async () => this.#options.onDeposed())().catch((error: unknown) => {
      this.#bus.log(`the ${this.#name} ended badly: ${error instanceof Error ? error.message : String(error)}`);
    });
    this.#bus.log(`the ${this.#name} is not active here any more`);
    if (revision !== undefined) await this.#giveUp(revision);
  }

  /** The lease's revision after it was renewed, or when nobody can tell; undefined when another has it. */
  async #renewed(revision: number): Promise<number | undefined> {
    try {
      return await this.#bucket.update(this.#name, this.#text(this.#me), revision);
    } catch {
      // It may be ours all the same: its answer was lost, or NATS is away.
      const lease = await this.#lease().catch(() => undefined);
      // One that is older was read from a copy that lags behind.
      if (!lease || lease.revision <= revision) return revision;
      return lease.holder === this.#me ? lease.revision : undefined;
    }
  }

  async #giveUp(revision: number): Promise<void> {
    try {
      await this.#bucket.update(this.#name, this.#text(null), revision);
      this.#bus.nats.publish(this.#bus.subject("free", this.#name));
      await this.#bus.nats.flush();
    } catch (error) {
      // The next takes it when it has not changed for long enough.
      this.#bus.log(`nats: the lease of the ${this.#name} could not be given up: ${unavailable(error).message}`);
    }
  }
}

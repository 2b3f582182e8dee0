import { z } from "zod";
import { asMeshError } from "../../errors.ts";
import { safeParse } from "../../parse.ts";
import { type Bus, didOfToken, nameToken, tokenOf } from "./bus.ts";
import { DISCOVER_SCAN_MAX, ENTRY_SETTLES_MS } from "./limits.ts";
import { jsonOf, openRecords } from "./records.ts";
import { type Scanned, scan } from "./scan.ts";

// Who has a capability: an index beside the records, keys `<capability>.<agent>`. An entry is written before the record names
// the capability and removed after it no longer does, so the index may say too much and never too little. Whoever meets
// an entry that the record does not bear out removes it.
//
// An entry says on which revision of the record it was written. While that is the record's revision still, the change that
// it was written for may be under way, and the entry is left alone.

const Entry = z.object({ on: z.int().min(0) });

export interface IndexEntry {
  readonly did: string;
  /** Its own revision, and the record's that it was written on. */
  readonly revision: number;
  readonly on: number;
  /** When it was written, by the clock of NATS. */
  readonly at: number;
}

export interface Capabilities {
  /** Before a change that stands on a revision of the agent's record and names these. */
  add(did: string, capabilities: Iterable<string>, on: number): Promise<void>;
  /** The oldest entries of a capability, at most DISCOVER_SCAN_MAX of `total`. */
  entries(capability: string): Promise<{ readonly entries: readonly IndexEntry[]; readonly total: number }>;
  /**
   * After a change: these are named no more by the record at that revision, 0 when there is none. Never rejects: what stays
   * is removed by whoever meets it.
   */
  drop(did: string, capabilities: Iterable<string>, revision: number): Promise<void>;
  /** Removes an entry that the record at that revision, 0 when there is none, does not bear out. Never rejects. */
  heal(entry: IndexEntry, revision: number): Promise<void>;
}

export async function openCapabilities(bus: Bus): Promise<Capabilities> {
  const index = await openRecords(bus, "capabilities");
  const keyOf = (capability: string, did: string) => `${nameToken(capability)}.${tokenOf(did)}`;

  async function heal({ revision: own, on, at }: IndexEntry, revision: number): Promise<void> {
    const isOver = revision === 0 ? on > 0 : on < revision;
    // What never came of a first registration is told by its age.
    if (!isOver && Date.now() - at < ENTRY_SETTLES_MS) return;
    await index
      .erase(own)
      .catch((error) => bus.log(`registry: an entry of the index could not be removed: ${asMeshError(error).message}`));
  }

  const onOf = (value: unknown): number => safeParse(Entry, value).data?.on ?? 0;
  const entryOf = ({ token, data, revision, at }: Scanned): IndexEntry => ({
    did: didOfToken(token),
    revision,
    on: onOf(jsonOf(data)),
    at,
  });

  return {
    async add(did, capabilities, on) {
      const value = JSON.stringify({ on });
      // Anew, even if there is one: whoever is about to remove that one must not remove this.
      for (const capability of new Set(capabilities)) await index.put(keyOf(capability, did), value);
    },
    async entries(capability) {
      const filter = index.subject(`${nameToken(capability)}.*`);
      const { messages, total } = await scan(bus, index.stream, filter, DISCOVER_SCAN_MAX);
      return { entries: messages.map(entryOf), total };
    },
    async drop(did, capabilities, revision) {
      for (const capability of capabilities) {
        try {
          const { value, revision: own, at } = await index.read(keyOf(capability, did));
          if (own > 0) await heal({ did, revision: own, on: onOf(value), at }, revision);
        } catch (error) {
          bus.log(`registry: an entry of the index could not be read: ${asMeshError(error).message}`);
        }
      }
    },
    heal,
  };
}

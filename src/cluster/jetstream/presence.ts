import { randomUUID } from "node:crypto";
import { z } from "zod";
import { asMeshError } from "../../errors.ts";
import { HTTP_HEARTBEAT_EVERY_MS, RELAY_IDLE_MS } from "../../limits.ts";
import { safeParse } from "../../parse.ts";
import { type Claim, judge, type Presence } from "../state.ts";
import { takeTurns } from "../turns.ts";
import { type Bus, didOfToken, tokenOf, unavailable } from "./bus.ts";
import { openLeases } from "./leases.ts";
import { ANSWER_WAIT_MS, ASKED_AT_ONCE_MAX, PLACE_MS, PLACES_RENEWED_PER_LIFE } from "./limits.ts";
import { forEach, jsonOf, openRecords, type RecordAt, untilWritten } from "./records.ts";

// Who is connected, to whichever replica. A place says who stands for a DID; it is taken by compare-and-set, and whoever lost
// it hears so. The word is only a hint: a replica that hears it, or was away from NATS, looks at the place.
//
// A place stands while the replica lives that it names. Its own replica knows better: there it stands while the connection does.

/** Who stands for a DID, in the bucket `places`. */
const Standing = z.object({ replica: z.string(), connection: z.string(), provenAt: z.number().nullable() });
type Standing = z.infer<typeof Standing>;
/** A sign of life over HTTP, in the bucket `beats`. */
const Beat = z.object({ at: z.number() });
/** What is said on `ended.<agent>`: a connection stands there by now, or those without a proof stand no more. */
const Ended = z.discriminatedUnion("why", [
  z.object({ why: z.literal("replaced"), connection: z.string() }),
  z.object({ why: z.literal("unproven") }),
]);
type Ended = z.infer<typeof Ended>;

/** A connection of this replica that stands. */
interface Local {
  readonly connection: string;
  readonly claim: Claim;
}

export interface JetStreamPresence extends Presence {
  /** Gives up the places and the lease of this replica. Never rejects: what stays lapses. */
  close(): Promise<void>;
}

/** @throws MeshError `nats_unavailable` */
export async function openJetStreamPresence(bus: Bus, now: () => number = Date.now): Promise<JetStreamPresence> {
  const leases = await openLeases(bus, now);
  const places = await openRecords(bus, "places", { inMemory: true, ttlMs: PLACE_MS });
  const beats = await openRecords(bus, "beats", { inMemory: true, ttlMs: RELAY_IDLE_MS });
  const standing = new Map<string, Local>();
  /** Those that have a connection under way: what is heard of them counts when it has its place. */
  const entering = new Set<string>();
  const turns = takeTurns();
  let isClosed = false;

  const placeOf = (place: RecordAt): Standing | undefined => safeParse(Standing, place.value).data;
  const beatOf = (beat: RecordAt): number => safeParse(Beat, beat.value).data?.at ?? Number.NEGATIVE_INFINITY;

  /** Whether what a place says is so. */
  const stands = async (did: string, { replica, connection }: Standing): Promise<boolean> =>
    replica === leases.own ? standing.get(did)?.connection === connection : leases.isAlive(replica);

  function tell(did: string, ended: Ended): void {
    try {
      bus.nats.publish(bus.subject("ended", tokenOf(did)), JSON.stringify(ended));
    } catch (error) {
      // Who missed it looks for itself when NATS is back.
      bus.log(`nats: the end of a connection could not be told: ${unavailable(error).message}`);
    }
  }

  const write = (did: string, { connection, claim }: Local, on: number) => {
    const place: Standing = { replica: leases.own, connection, provenAt: claim.provenAt ?? null };
    return places.write(tokenOf(did), JSON.stringify(place), on);
  };

  /** Takes the place, unless who stands there may keep it. */
  const take = (did: string, local: Local) =>
    untilWritten<ReturnType<typeof judge>>(async () => {
      const place = await places.read(tokenOf(did));
      const found = placeOf(place);
      const other = found && (await stands(did, found)) ? { provenAt: found.provenAt ?? undefined } : undefined;
      const outcome = judge(other, local.claim);
      if (outcome !== "free") return { result: outcome };
      return (await write(did, local, place.revision)) === undefined ? undefined : { result: outcome };
    });

  /** Removes the place if it is still that connection's. */
  async function giveUp(did: string, connection: string): Promise<void> {
    const place = await places.read(tokenOf(did));
    if (placeOf(place)?.connection === connection) await places.erase(place.revision);
  }

  /** Gives it up by and by. Never rejects. */
  const leave = (did: string, connection: string) =>
    turns
      .run(did, () => giveUp(did, connection))
      .catch((error) => bus.log(`presence: a place could not be given up: ${asMeshError(error).message}`));

  function end(did: string, local: Local, why: "replaced" | "unproven"): void {
    if (standing.get(did) === local) standing.delete(did);
    local.claim.ended(why);
  }

  /** Ends the connection here if another has its place by now; writes the place again if it is gone, or is to last. */
  const look = (did: string, isAnew: boolean) =>
    turns.run(did, () =>
      untilWritten(async () => {
        const local = standing.get(did);
        if (!local) return { result: undefined };
        const place = await places.read(tokenOf(did));
        const found = placeOf(place);
        if (found?.connection === local.connection) {
          if (!isAnew) return { result: undefined };
        } else if (found && (await stands(did, found))) {
          // Of two that prove nothing the later stands, which is not the one that has to look.
          const outcome = judge({ provenAt: found.provenAt ?? undefined }, local.claim);
          if (outcome !== "free" || local.claim.provenAt === undefined) {
            end(did, local, "replaced");
            return { result: undefined };
          }
        }
        if ((await write(did, local, place.revision)) === undefined) return undefined;
        if (found && found.connection !== local.connection)
          tell(did, { why: "replaced", connection: local.connection });
        return { result: undefined };
      }),
    );

  /** Looks at these places, again until each could be looked at. Never rejects. */
  async function lookAt(dids: readonly string[], isAnew: boolean): Promise<void> {
    const isLookedAt = await forEach(dids, ASKED_AT_ONCE_MAX, (did) =>
      look(did, isAnew).then(
        () => true,
        (error) => {
          bus.log(`presence: a place could not be read: ${asMeshError(error).message}`);
          return false;
        },
      ),
    );
    const rest = dids.filter((_, index) => !isLookedAt[index]);
    if (rest.length > 0 && !isClosed) setTimeout(() => void lookAt(rest, isAnew), ANSWER_WAIT_MS).unref();
  }

  function endUnproven(did: string): void {
    const local = standing.get(did);
    if (local && local.claim.provenAt === undefined) {
      end(did, local, "unproven");
      void leave(did, local.connection);
    }
    if (entering.has(did)) void turns.run(did, async () => endUnproven(did));
  }

  const lookAtAll = (isAnew: boolean) => void lookAt([...new Set([...standing.keys(), ...entering])], isAnew);

  const prefix = bus.subject("ended", "");
  const words = bus.nats.subscribe(`${prefix}*`, {
    callback: (error, message) => {
      const ended = error ? undefined : safeParse(Ended, jsonOf(message.data)).data;
      if (!ended) return;
      const did = didOfToken(message.subject.slice(prefix.length));
      if (ended.why === "unproven") endUnproven(did);
      else if (entering.has(did) || (standing.get(did)?.connection ?? ended.connection) !== ended.connection)
        void lookAt([did], false);
    },
  });
  const renewal = setInterval(() => lookAtAll(true), PLACE_MS / PLACES_RENEWED_PER_LIFE);
  renewal.unref();
  const callOff = bus.onAttached(() => lookAtAll(false));

  return {
    enter: (did, claim) =>
      turns.run(did, async () => {
        const local: Local = { connection: randomUUID(), claim };
        entering.add(did);
        try {
          const outcome = await take(did, local);
          if (outcome !== "free") return outcome;
          const before = standing.get(did);
          standing.set(did, local);
          before?.claim.ended("replaced");
        } catch (error) {
          // Nobody can tell whether it was written; the next connection of that DID would find it standing.
          void leave(did, local.connection);
          throw error;
        } finally {
          entering.delete(did);
        }
        tell(did, { why: "replaced", connection: local.connection });
        return {
          leave: () => {
            if (standing.get(did) !== local) return;
            standing.delete(did);
            void leave(did, local.connection);
          },
        };
      }),
    async beat(did) {
      const last = await beats.read(tokenOf(did));
      const at = now();
      if (at - beatOf(last) < HTTP_HEARTBEAT_EVERY_MS) return false;
      // When another came first, that was the sign of life.
      return (await beats.write(tokenOf(did), JSON.stringify({ at }), last.revision)) !== undefined;
    },
    async online(dids) {
      const online = await forEach(dids, ASKED_AT_ONCE_MAX, async (did) => {
        if (standing.has(did)) return true;
        const place = placeOf(await places.glance(tokenOf(did)));
        if (place && (await stands(did, place))) return true;
        return now() - beatOf(await beats.glance(tokenOf(did))) <= RELAY_IDLE_MS;
      });
      return new Set(dids.filter((_, index) => online[index]));
    },
    proved(did) {
      endUnproven(did);
      tell(did, { why: "unproven" });
    },
    async close() {
      isClosed = true;
      clearInterval(renewal);
      callOff();
      const left = [...standing];
      standing.clear();
      try {
        if (bus.awayMs === 0) await forEach(left, ASKED_AT_ONCE_MAX, ([did, { connection }]) => leave(did, connection));
        await turns.settled();
        await leases.close();
        words.unsubscribe();
      } catch (error) {
        bus.log(`presence: the places lapse: ${unavailable(error).message}`);
      }
    },
  };
}

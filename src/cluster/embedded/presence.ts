import { HTTP_HEARTBEAT_EVERY_MS, RELAY_IDLE_MS } from "../../limits.ts";
import { type Claim, judge, type Presence } from "../state.ts";

// Who is connected to this process, in memory: when it ends, so do its connections.

export function embeddedPresence(now: () => number): Presence {
  const standing = new Map<string, Claim>();
  /** When an agent last gave a sign of life over HTTP. */
  const beats = new Map<string, number>();
  const sinceBeat = (did: string) => now() - (beats.get(did) ?? Number.NEGATIVE_INFINITY);

  return {
    async enter(did, claim) {
      const before = standing.get(did);
      const outcome = judge(before, claim);
      if (outcome !== "free") return outcome;
      standing.set(did, claim);
      before?.ended("replaced");
      return {
        leave: () => {
          if (standing.get(did) === claim) standing.delete(did);
        },
      };
    },
    async beat(did) {
      if (sinceBeat(did) < HTTP_HEARTBEAT_EVERY_MS) return false;
      beats.delete(did);
      beats.set(did, now());
      // The oldest first: those that nobody asks for any more are let go of.
      for (const [other, at] of beats) {
        if (now() - at <= RELAY_IDLE_MS) break;
        beats.delete(other);
      }
      return true;
    },
    online: async (dids) => new Set(dids.filter((did) => standing.has(did) || sinceBeat(did) <= RELAY_IDLE_MS)),
    proved(did) {
      const claim = standing.get(did);
      if (!claim || claim.provenAt !== undefined) return;
      standing.delete(did);
      claim.ended("unproven");
    },
  };
}

import { type Admission, OUTDATED, REPLACED, REPLAYED, type Refusal, UNPROVEN } from "./admission.ts";
import type { Connection } from "./connection.ts";
import type { Replays } from "./replays.ts";
import type { Place, Presence } from "./state.ts";

// How a connection whose connect was verified takes the place of its DID.

export interface EnteringOptions {
  readonly presence: Presence;
  /** Whether one who proves nothing may connect as this DID. Absent: nobody may, it is closed with 4005. */
  readonly admitsUnproven?: ((did: string) => Promise<boolean>) | undefined;
}

/** Takes the place of the connection that the DID has, at any replica. */
export const entering =
  ({ presence, admitsUnproven, replays }: EnteringOptions & { readonly replays: Replays }) =>
  async (connection: Connection, { from: did, provenAt, timestamp }: Admission): Promise<Place | Refusal> => {
    if (provenAt === undefined && !(await admitsUnproven?.(did))) return UNPROVEN;
    if (timestamp !== undefined && replays.isKnown(did, timestamp)) return REPLAYED;
    const place = await presence.enter(did, {
      provenAt,
      ended: (why) => {
        // Before the connection that takes its place is given anything.
        connection.peer?.confirmations?.settle();
        const { code, message } = why === "replaced" ? REPLACED : UNPROVEN;
        connection.close(code, message);
      },
    });
    if (place === "outdated") return OUTDATED;
    if (place === "unproven") return UNPROVEN;
    if (timestamp !== undefined && provenAt !== undefined) replays.remember(did, timestamp, provenAt);
    return place;
  };

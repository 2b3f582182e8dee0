import { type Admission, OUTDATED, REPLACED, type Refusal, UNPROVEN } from "./admission.ts";
import type { Connection } from "./connection.ts";
import type { Place, Presence } from "./state.ts";

// How a connection whose connect was verified takes the place of its DID.

export interface EnteringOptions {
  readonly presence: Presence;
  /** Whether one who proves nothing may connect as this DID. Absent: nobody may, it is closed with 4005. */
  readonly admitsUnproven?: ((did: string) => Promise<boolean>) | undefined;
}

/** Takes the place of whoever is connected as the DID, wherever that is. */
export const entering =
  ({ presence, admitsUnproven }: EnteringOptions) =>
  async (connection: Connection, { from: did, provenAt }: Admission): Promise<Place | Refusal> => {
    if (provenAt === undefined && !(await admitsUnproven?.(did))) return UNPROVEN;
    const place = await presence.enter(did, {
      provenAt,
      ended: (why) => {
        // Before whoever takes its place is given anything.
        connection.peer?.confirmations?.settle();
        const { code, message } = why === "replaced" ? REPLACED : UNPROVEN;
        connection.close(code, message);
      },
    });
    if (place === "outdated") return OUTDATED;
    return place === "unproven" ? UNPROVEN : place;
  };

import { join } from "node:path";
import { type Row, type Subject, withDirectory } from "./harness.ts";
import { drainRow, flatRows, idleRows, stormRow } from "./relay-crowds.ts";
import { frameRows } from "./relay-frames.ts";
import { hasNats, type Place, withNats, withRelays } from "./relays.ts";

// What a relay takes and bears: alone with its files, and as replicas on NATS.

type Tell = (line: string) => void;
type PlaceOf = (name: string) => Place;

async function crowdRows(what: string, placeOf: PlaceOf, tell: Tell): Promise<Row[]> {
  const rows: Row[] = [];
  tell(`relay: idle connections, ${what}`);
  rows.push(...(await idleRows(what, placeOf("idle"))));
  tell(`relay: a full mailbox, ${what}`);
  rows.push(await drainRow(what, placeOf("drain")));
  tell(`relay: many agents and mailboxes, ${what}`);
  rows.push(...(await flatRows(what, placeOf("few"), placeOf("many"))));
  tell(`relay: a reconnect storm, ${what}`);
  rows.push(await stormRow(what, placeOf("storm")));
  return rows;
}

async function embeddedRows(directory: string, tell: Tell): Promise<Row[]> {
  const what = "one embedded relay";
  const placeOf: PlaceOf = (name) => ({ directory: join(directory, name) });
  tell(`relay: frames, ${what}`);
  const frames = await withRelays(placeOf("frames"), 1, (relays) => frameRows(what, relays));
  return [...frames, ...(await crowdRows(what, placeOf, tell))];
}

/** One, two and three replicas on a NATS of one node; the idle of them cost next to nothing. */
const replicaRows = (directory: string, tell: Tell): Promise<Row[]> =>
  withNats(directory, 1, async (nats) => {
    const placeOf: PlaceOf = (name) => ({ directory: join(directory, name), nats, cluster: name });
    const rows = await withRelays(placeOf("frames"), 3, async (relays) => {
      const frames: Row[] = [];
      for (const count of [1, 2, 3]) {
        const what = `${count} ${count === 1 ? "replica" : "replicas"}`;
        tell(`relay: frames, ${what}`);
        frames.push(...(await frameRows(what, relays.slice(0, count), nats)));
      }
      return frames;
    });
    return [...rows, ...(await crowdRows("a replica", placeOf, tell))];
  });

const copiedRows = (directory: string, tell: Tell): Promise<Row[]> =>
  withNats(directory, 3, (nats) => {
    const what = "3 replicas on a NATS of 3";
    tell(`relay: frames, ${what}`);
    return withRelays({ directory, nats }, 3, (relays) => frameRows(what, relays, nats));
  });

export const relay: Subject = {
  name: "relay",
  about: "frames through one relay and through replicas on NATS, idle connections, full mailboxes, a storm",
  measure: (tell) =>
    withDirectory(async (directory) => {
      const rows = await embeddedRows(join(directory, "embedded"), tell);
      if (hasNats()) {
        rows.push(...(await replicaRows(join(directory, "one"), tell)));
        rows.push(...(await copiedRows(join(directory, "three"), tell)));
      } else tell("relay: there is no nats-server on the path: only the embedded relay was measured");
      return rows;
    }),
};

import { type Contender, compare, type Row } from "./harness.ts";
import { PATIENCE_MS } from "./laptop.ts";
import { echoLanes, type Lanes, natsLanes } from "./relay-peers.ts";
import type { Nats, Relay } from "./relays.ts";
import { type Client, comeBack, freshIdentity } from "./scale/client.ts";
import { flow, type Lane, percentile, relayLane } from "./scale/lanes.ts";

// Frames through relays: how many a second, and how long one takes.

export const FRAME_SIZE = 1_000;
const PAIRS = 4;
const ROUNDS = 5;
const MANY = { inFlight: 64, frames: 4_000, patienceMs: PATIENCE_MS };
const ONE = { inFlight: 1, frames: 400, patienceMs: PATIENCE_MS };

/** Pairs of clients: each sender at a relay, its recipient at the next one. */
export async function relayLanes(relays: readonly Relay[], pairs = PAIRS): Promise<Lanes> {
  const clients: Client[] = [];
  const client = async (index: number) => {
    const relay = relays[index % relays.length];
    if (!relay) throw new Error("There is no relay.");
    const made = await comeBack([relay.said.relayUrl], freshIdentity(), Date.now() + PATIENCE_MS);
    clients.push(made);
    return made;
  };
  const lanes: Lane[] = [];
  for (let n = 0; n < pairs; n++) lanes.push(relayLane(await client(n), await client(n + 1), FRAME_SIZE));
  return { lanes, close: async () => void (await Promise.all(clients.map((each) => each.close()))) };
}

export const perSecond = (name: string, lanes: readonly Lane[], load: typeof MANY = MANY): Contender => ({
  name,
  round: async () => (await flow(lanes, load)).perSecond,
});

/** A row for each peer of p50 and p99: the rounds are measured once, and both are taken of them. */
async function compareLatencies(through: string, named: readonly (readonly [string, readonly Lane[]])[]) {
  const measured = named.map(([name, lanes]) => ({ name, lanes: lanes.slice(0, 1), rounds: [] as number[][] }));
  const rows: Row[] = [];
  for (const percent of [50, 99]) {
    const contenders = measured.map(({ name, lanes, rounds }): Contender => {
      let round = 0;
      return {
        name,
        async round() {
          const figures = rounds[round] ?? (await flow(lanes, ONE)).latencies;
          rounds[round++] = figures;
          return percentile(figures, percent);
        },
      };
    });
    const [ours, ...peers] = contenders;
    const work = { work: `one frame at a time, p${percent}, ${through}`, unit: "µs", rounds: ROUNDS };
    if (ours) rows.push(...(await compare(work, ours, peers)));
  }
  return rows;
}

/** Rows of what goes through some relays, against a bare socket and, where they stand on one, bare NATS. */
export async function frameRows(through: string, relays: readonly Relay[], nats?: Nats): Promise<Row[]> {
  const opened: Lanes[] = [];
  const open = async (lanes: Promise<Lanes>) => {
    opened.push(await lanes);
    return (await lanes).lanes;
  };
  try {
    const ours = await open(relayLanes(relays));
    const named: (readonly [string, readonly Lane[]])[] = [
      ["ours", ours],
      ["ws echo", await open(echoLanes(PAIRS, FRAME_SIZE))],
    ];
    if (nats) named.push(["NATS publish", await open(natsLanes(nats, PAIRS, FRAME_SIZE))]);
    const [first, ...peers] = named.map(([name, lanes]) => perSecond(name, lanes));
    if (!first) return [];
    const work = { work: `${PAIRS} pairs, ${MANY.inFlight} on the way each, ${through}`, unit: "frames/s" };
    const rows = await compare({ ...work, rounds: ROUNDS }, first, peers);
    return [...rows, ...(await compareLatencies(through, named))];
  } finally {
    for (const each of opened) await each.close();
  }
}

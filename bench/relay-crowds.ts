import { z } from "zod";
import { compare, type Row, summary } from "./harness.ts";
import { PATIENCE_MS } from "./laptop.ts";
import { FRAME_SIZE, perSecond, relayLanes } from "./relay-frames.ts";
import { type Place, type Relay, startRelay, withRelays } from "./relays.ts";
import { type Client, comeBack, connect, freshIdentity, type Heard, inParallel } from "./scale/client.ts";
import { ackText, numberOf } from "./scale/lanes.ts";
import { stockAgents, stockMailbox, stockMailboxes } from "./stock.ts";

// What a relay bears: many who are connected, much that waits, much that it knows, and all of them at once.

const IDLE = 10_000;
const WAITING = 100_000;
const [FEW, MANY] = [1_000, 100_000];
const STORM = 5_000;
const STORM_ROUNDS = 3;
const FLAT_ROUNDS = 5;
const FLAT = { inFlight: 64, frames: 3_000, patienceMs: PATIENCE_MS };
/** Clients that are let in at the same time where no storm is meant. */
const AT_ONCE = 64;
const KiB = 1_024;

const once = (figure: number) => summary([figure]);

/** So many clients of a relay, as they come. */
const crowd = (relay: Relay, count: number): Promise<Client[]> =>
  inParallel(Array.from({ length: count }, freshIdentity), AT_ONCE, (identity) =>
    connect(relay.said.relayUrl, identity),
  );

const cutAll = (clients: readonly Client[]) => Promise.all(clients.map((client) => client.cut()));

/** Memory of a connection that says nothing: of the relay's process, and of NATS. */
export const idleRows = (what: string, place: Place): Promise<Row[]> =>
  withRelays(place, 1, async ([relay]) => {
    if (!relay) return [];
    const resident = async () => z.object({ resident: z.number() }).parse(await relay.ask("memory")).resident;
    // What the first ones need is no part of what each needs.
    await cutAll(await crowd(relay, AT_ONCE));
    const [before, natsBefore] = [await resident(), place.nats?.resident() ?? 0];
    const clients = await crowd(relay, IDLE);
    const [after, natsAfter] = [await resident(), place.nats?.resident() ?? 0];
    await cutAll(clients);
    const row = (of: string, bytes: number): Row => ({
      work: `memory of an idle connection, ${IDLE.toLocaleString("en-US")} of them, ${of}`,
      unit: "KiB",
      ours: once(bytes / IDLE / KiB),
    });
    return [row(what, after - before), ...(place.nats ? [row(`${what}: its NATS`, natsAfter - natsBefore)] : [])];
  });

/** Frames a second from a reader's connect to the last frame of its mailbox, each acked as it comes. */
export async function drainRow(what: string, place: Place): Promise<Row> {
  const reader = freshIdentity();
  await stockMailbox(place, reader.did, WAITING, FRAME_SIZE);
  return withRelays(place, 1, async ([relay]) => {
    if (!relay) throw new Error("There is no relay.");
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const late = setTimeout(() => reject(new Error(`${heard} of ${WAITING} frames came.`)), 2 * PATIENCE_MS);
    const last = new Map<string, number>();
    let heard = 0;
    let client: Client | undefined;
    const owed: string[] = [];
    const listener = ({ type, id = "", from = "" }: Heard) => {
      if (type !== "message") return;
      if (numberOf(id) <= (last.get(from) ?? -1)) reject(new Error(`Frame ${id} is out of its order.`));
      last.set(from, numberOf(id));
      const ack = ackText(id, from);
      if (client) client.send(ack);
      else owed.push(ack);
      if (++heard === WAITING) resolve(performance.now());
    };
    const begin = performance.now();
    client = await connect(relay.said.relayUrl, reader, { listener });
    for (const ack of owed) client.send(ack);
    const end = await promise.finally(() => clearTimeout(late));
    await client.close();
    return {
      work: `draining a mailbox of ${WAITING.toLocaleString("en-US")}, ${what}`,
      unit: "frames/s",
      ours: once((WAITING * 1_000) / (end - begin)),
    };
  });
}

/** What a message and a connect cost where much is known, against where little is. */
export async function flatRows(what: string, few: Place, many: Place): Promise<Row[]> {
  for (const [place, count] of [
    [few, FEW],
    [many, MANY],
  ] as const) {
    await stockAgents(place, count);
    await stockMailboxes(place, count, FRAME_SIZE);
  }
  return withRelays(few, 1, (fewRelays) =>
    withRelays(many, 1, async (manyRelays) => {
      const [small, large] = [await relayLanes(fewRelays), await relayLanes(manyRelays)];
      const contender = (name: string, { lanes }: typeof small) => ({
        name,
        round: async () => 1_000_000 / (await perSecond(name, lanes, FLAT).round()),
      });
      const known = (count: number) => `${count.toLocaleString("en-US")} of them`;
      const rows = await compare(
        {
          work: `cost of a message, ${MANY.toLocaleString("en-US")} agents and mailboxes, ${what}`,
          unit: "µs",
          rounds: FLAT_ROUNDS,
        },
        contender("ours", large),
        [contender(known(FEW), small)],
      );
      await large.close();
      await small.close();
      return rows;
    }),
  );
}

/**
 * Milliseconds from the end of a relay's process until all of its clients are let in again: by the same relay, started anew, or
 * by another replica.
 */
export async function stormRow(what: string, place: Place): Promise<Row> {
  const figures: number[] = [];
  let [relay, other] = [await startRelay(place), place.nats && (await startRelay(place))];
  try {
    const identities = Array.from({ length: STORM }, freshIdentity);
    const deadline = Date.now() + 5 * PATIENCE_MS;
    const { relayUrl } = relay.said;
    let clients = await inParallel(identities, AT_ONCE, (identity) => connect(relayUrl, identity));
    for (let round = 0; round < STORM_ROUNDS; round++) {
      const to = (other ?? relay).said.relayUrl;
      const back = clients.map(async (client, n) => {
        await client.ended;
        return comeBack([to], identities[n] ?? freshIdentity(), deadline);
      });
      const begin = performance.now();
      const gone = relay.kill();
      const { port } = new URL(relay.said.relayUrl);
      const startAnew = () => gone.then(() => startRelay(place, port));
      const early = other ? undefined : startAnew();
      [clients] = await Promise.all([Promise.all(back), early]);
      figures.push(performance.now() - begin);
      const fresh = (await early) ?? (await startAnew());
      [relay, other] = other ? [other, fresh] : [fresh, undefined];
    }
    await cutAll(clients);
  } finally {
    await relay.end();
    await other?.end();
  }
  return { work: `all of ${STORM.toLocaleString("en-US")} clients back, ${what}`, unit: "ms", ours: summary(figures) };
}

import { randomBytes } from "node:crypto";
import { restored } from "../src/cluster/agent.ts";
import { Generations } from "../src/cluster/embedded/generations.ts";
import { openMailboxes } from "../src/cluster/embedded/mailboxes.ts";
import { connectBus, tokenOf } from "../src/cluster/jetstream/bus.ts";
import { openJetStreamMailboxes } from "../src/cluster/jetstream/mailboxes.ts";
import { openRecords } from "../src/cluster/jetstream/records.ts";
import type { Mailboxes } from "../src/cluster/state.ts";
import { joinPath, realDisk } from "../src/store/disk.ts";
import type { Place } from "./relays.ts";
import { inParallel } from "./scale/client.ts";
import { frameWriter } from "./scale/lanes.ts";

// What a cluster has in store before it is measured: written past its relay, by the same stores.

const AT_ONCE = 256;
const RECORDS_AT_ONCE = 1_000;

const someDid = () => `did:mesh:${randomBytes(16).toString("hex")}`;

/** Gives `work` the mailboxes of a place, of so many frames each. */
async function withMailboxes(
  { directory, nats, cluster = "bench" }: Place,
  mailboxFrames: number | undefined,
  work: (mailboxes: Mailboxes) => Promise<void>,
): Promise<void> {
  if (nats) {
    const bus = await connectBus({ servers: nats.servers, cluster, mailboxFrames });
    await work(await openJetStreamMailboxes(bus)).finally(bus.close);
    return;
  }
  const limits = mailboxFrames === undefined ? {} : { frames: mailboxFrames };
  const mailboxes = await openMailboxes({ disk: realDisk, directory, now: Date.now, limits });
  await work(mailboxes).finally(mailboxes.close);
}

async function put(mailboxes: Mailboxes, to: string, from: string, number: number, size: number): Promise<void> {
  const outcome = await mailboxes.put(to, from, `stock.${number}`, frameWriter(from, to, size, "stock")(number));
  if (outcome !== "stored") throw new Error(`A frame of the stock was not stored: ${outcome}.`);
}

/** Puts one frame into each of so many mailboxes. */
export const stockMailboxes = (place: Place, count: number, size: number): Promise<void> =>
  withMailboxes(place, undefined, async (mailboxes) => {
    const from = someDid();
    await inParallel(Array.from({ length: count }, someDid), AT_ONCE, (to, n) => put(mailboxes, to, from, n, size));
  });

/** Fills one mailbox with frames of so many senders, each of which sends one after the other. */
export const stockMailbox = (place: Place, to: string, frames: number, size: number): Promise<void> =>
  withMailboxes(place, frames, async (mailboxes) => {
    const senders = Array.from({ length: AT_ONCE }, someDid);
    await inParallel(senders, AT_ONCE, async (from, first) => {
      for (let n = first; n < frames; n += AT_ONCE) await put(mailboxes, to, from, n, size);
    });
  });

/** Registers so many agents in a bucket of NATS: as `openJetStreamAgents` writes them, without their entries in the index. */
async function stockRecords(servers: string, cluster: string, count: number): Promise<void> {
  const bus = await connectBus({ servers, cluster });
  const { subject } = await openRecords(bus, "agents");
  const at = Date.now();
  await inParallel(Array.from({ length: count }, someDid), AT_ONCE, async (did) => {
    const record = restored({
      publicKey: randomBytes(32).toString("base64url"),
      capabilities: ["bench"],
      metadata: {},
      provedAt: at,
      registeredAt: at,
      lastSeen: at,
      reputation: 0.5,
      held: new Map(),
      given: new Map(),
    });
    await bus.js.publish(subject(tokenOf(did)), JSON.stringify(record));
  });
  await bus.close();
}

/** Registers so many agents in the files of a relay, as its journal has them, whose reader knows no bound; or in NATS. */
export async function stockAgents({ directory, nats, cluster = "bench" }: Place, count: number): Promise<void> {
  if (nats) {
    await stockRecords(nats.servers, cluster, count);
    return;
  }
  const records = await Generations.open({
    disk: realDisk,
    directory: joinPath(directory, "registry"),
    onCommit: () => undefined,
    pieces: () => [],
    liveSize: () => Number.POSITIVE_INFINITY,
  });
  const entry = () => ({
    stream: `agent/${someDid()}`,
    event: {
      type: "REGISTERED",
      public_key: randomBytes(32).toString("base64url"),
      capabilities: ["bench"],
      metadata: {},
      provedAt: Date.now(),
    },
  });
  for (let left = count; left > 0; left -= RECORDS_AT_ONCE)
    await records.append({ at: Date.now(), entries: Array.from({ length: Math.min(left, RECORDS_AT_ONCE) }, entry) });
  await records.close();
}

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { AckPolicy } from "@nats-io/jetstream";
import { WebSocket } from "ws";
import { z } from "zod";
import { fold, publication, restored } from "../../src/cluster/agent.ts";
import { type Bus, connectBus, didOfToken } from "../../src/cluster/jetstream/bus.ts";
import { openJetStreamMailboxes } from "../../src/cluster/jetstream/mailboxes.ts";
import { ONE_TIME_PREKEYS } from "../../src/limits.ts";
import { type NatsNode, natsNodes } from "../../test/nats/nodes.ts";

// node bench/scale/costs.ts: what one more of each costs a NATS of this machine and a replica that uses it. docs/scale.md
// reckons with these rows. Each is the growth of a process's resident memory, of its heap, or of what a stream says that it
// holds, divided by how many there are; each begins with servers that have nothing.

const usage = `node --expose-gc bench/scale/costs.ts [ROW…] [--count N] [--nodes 1|3] [--json]

Needs nats-server on the path. Everything lies in a temporary folder of this machine, on free ports, and goes at the end.

  subscriptions   memory of a core subscription: at the node of its client, at the other nodes, in the client
  feeds           memory of an opened mailbox in a relay, and how many are opened a second
  dedupe          memory of a frame that NATS remembers when it is acked
  mailboxes       memory and disk of a mailbox with one frame of 1 kB
  catchup         mailboxes that are opened, read and acked a second while so many others wait
  consumers       consumers as a full mailbox or a discover makes them, made and removed a second
  connections     memory of a connection in a relay that keeps its mail in files: what its socket adds to a feed
  puts            frames of 1 kB that are stored a second, 256 at once, and the time of one alone
  agents          bytes of an agent's record, and memory of it in a key-value store

--count (10000) is how many of each; of feeds, consumers, connections and puts at most 2000. --nodes (1) is the size of the NATS.
`;

const MAIL_SIZE = 1_000;
const AT_ONCE = 256;
const SLOW_MAX = 2_000;

/** One figure: what was counted, and per what. */
interface Figure {
  readonly row: string;
  readonly what: string;
  readonly value: number;
  readonly unit: string;
}

interface Place {
  readonly bus: Bus;
  readonly nodes: readonly NatsNode[];
  readonly count: number;
}

/** The n-th agent, spread over the shards as identities are. */
const agent = (n: number) =>
  didOfToken((Math.imul(n + 1, 0x9e3779b1) >>> 0).toString(16).padStart(8, "0") + n.toString(16).padStart(24, "0"));

/** Bytes that a process has resident. */
async function residentOf(pid: number | undefined): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}
const residents = (nodes: readonly NatsNode[]) => Promise.all(nodes.map(({ pid }) => residentOf(pid)));

function heap(): number {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Runs the work of every number below `count`, so many at once. */
async function each(count: number, atOnce: number, work: (n: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const lane = async () => {
    for (let n = next++; n < count; n = next++) await work(n);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, count) }, lane));
}

/** What each server's memory grew by while the work was done, in bytes for each of `count`. */
async function growth(nodes: readonly NatsNode[], count: number, work: () => Promise<unknown>): Promise<number[]> {
  const before = await residents(nodes);
  await work();
  const after = await residents(nodes);
  return after.map((bytes, n) => (bytes - (before[n] ?? 0)) / count);
}

const named = (row: string, what: string, grown: readonly number[]): Figure[] =>
  grown.map((value, n) => ({ row, what: `${what}, node ${n + 1}`, value, unit: "bytes" }));

async function subscriptions({ bus, nodes, count }: Place): Promise<Figure[]> {
  const before = heap();
  const grown = await growth(nodes, count, async () => {
    for (let n = 0; n < count; n++)
      bus.nats.subscribe(bus.subject("live", agent(n).slice(9)), { callback: () => undefined });
    await bus.nats.flush();
    // Other nodes hear of them a little later: what is asked of each is answered behind it.
    await bus.jsm.getAccountInfo();
  });
  const client = (heap() - before) / count;
  return [
    ...named("subscriptions", "a subscription", grown),
    { row: "subscriptions", what: "a subscription, in the client", value: client, unit: "bytes" },
  ];
}

async function feeds({ bus, nodes, count }: Place): Promise<Figure[]> {
  const mailboxes = await openJetStreamMailboxes(bus);
  const opened = Math.min(count, SLOW_MAX);
  const before = heap();
  const kept: unknown[] = [];
  const begun = performance.now();
  const grown = await growth(nodes, opened, () =>
    each(opened, AT_ONCE, async (n) => kept.push(await mailboxes.open(agent(n), () => undefined))),
  );
  const seconds = (performance.now() - begun) / 1000;
  const relay = (heap() - before) / kept.length;
  return [
    ...named("feeds", "an open mailbox", grown),
    { row: "feeds", what: "an open mailbox, in the relay, without its socket", value: relay, unit: "bytes" },
    { row: "feeds", what: `opened, ${AT_ONCE} at once`, value: opened / seconds, unit: "a second" },
  ];
}

const frame = (n: number) => `{"v":1,"type":"message","n":${n},"x":"`.padEnd(MAIL_SIZE - 2, "x").concat('"}');

async function dedupe({ bus, nodes, count }: Place): Promise<Figure[]> {
  const mailboxes = await openJetStreamMailboxes(bus);
  // Small frames that are purged: what stays is that they were there.
  const grown = await growth(nodes, count, async () => {
    await each(count, AT_ONCE, (n) => mailboxes.put(agent(n % 1_000), agent(n), `m-${n}-${"0".repeat(24)}`, "{}"));
    for (let shard = 0; shard < bus.facts.shards; shard++) await bus.jsm.streams.purge(bus.name(`mail-${shard}`));
  });
  return named("dedupe", "a frame that is remembered", grown);
}

/** Bytes of all files below a folder. */
async function sizeOf(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const sizes = entries
    .filter((entry) => entry.isFile())
    .map(async (entry) => (await stat(join(entry.parentPath, entry.name)).catch(() => undefined))?.size ?? 0);
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

/** The folder of a node's streams, as its command line names it. */
async function storeOf(node: NatsNode | undefined): Promise<string> {
  const words = (await readFile(`/proc/${node?.pid}/cmdline`, "utf8")).split("\0");
  return words[words.indexOf("-sd") + 1] ?? "";
}

async function mailboxes({ bus, nodes, count }: Place): Promise<Figure[]> {
  const boxes = await openJetStreamMailboxes(bus);
  const store = await storeOf(nodes[0]);
  const before = await sizeOf(store);
  const grown = await growth(nodes, count, () =>
    each(count, AT_ONCE, (n) => boxes.put(agent(n), agent(n + 1), `m-${n}`, frame(n))),
  );
  const disk = ((await sizeOf(store)) - before) / count;
  return [
    ...named("mailboxes", `a mailbox with a frame of ${MAIL_SIZE} bytes, remembered too`, grown),
    { row: "mailboxes", what: "the same on the disk of node 1", value: disk, unit: "bytes" },
  ];
}

async function catchup({ bus, count }: Place): Promise<Figure[]> {
  const boxes = await openJetStreamMailboxes(bus);
  await each(count, AT_ONCE, (n) => boxes.put(agent(n), agent(n + 1), `m-${n}`, frame(n)));
  const opened = Math.min(count, SLOW_MAX);
  const begun = performance.now();
  await each(opened, AT_ONCE, async (nth) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const feed = await boxes.open(agent(Math.floor((nth * count) / opened)), resolve);
    let mail = feed.next();
    if (!mail) {
      await promise;
      mail = feed.next();
    }
    if (mail) feed.ack(mail.id, mail.from);
    feed.close();
  });
  const seconds = (performance.now() - begun) / 1000;
  return [
    { row: "catchup", what: `read, ${count} waiting, ${AT_ONCE} at once`, value: opened / seconds, unit: "a second" },
  ];
}

async function consumers({ bus, count }: Place): Promise<Figure[]> {
  await openJetStreamMailboxes(bus);
  const made = Math.min(count, SLOW_MAX);
  const begun = performance.now();
  await each(made, AT_ONCE, async (n) => {
    const stream = bus.name(`mail-${n % bus.facts.shards}`);
    const { name } = await bus.jsm.consumers.add(stream, {
      ack_policy: AckPolicy.None,
      filter_subject: bus.subject("mail", n % bus.facts.shards, agent(n).slice(9)),
      mem_storage: true,
      num_replicas: 1,
    });
    await bus.jsm.consumers.delete(stream, name);
  });
  const seconds = (performance.now() - begun) / 1000;
  return [{ row: "consumers", what: `made and removed, ${AT_ONCE} at once`, value: made / seconds, unit: "a second" }];
}

/** Of a relay in a process of its own, with bare sockets of this one. */
async function connections(count: number): Promise<Figure[]> {
  const directory = await mkdtemp(join(tmpdir(), "kars-costs-"));
  const sockets: WebSocket[] = [];
  const script = fileURLToPath(new URL("../relay-process.ts", import.meta.url));
  const child = spawn(process.execPath, [script, directory], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(child, "close");
  try {
    const [said] = await once(createInterface(child.stdout), "line");
    const { relayUrl } = z.object({ relayUrl: z.string() }).parse(JSON.parse(String(said)));
    const connect = async (n: number) => {
      const socket = new WebSocket(`${relayUrl}/ws`, { perMessageDeflate: false });
      sockets.push(socket);
      await once(socket, "open");
      socket.send(JSON.stringify({ v: 1, type: "connect", from: agent(n), extensions: ["accepted"] }));
      await once(socket, "message");
    };
    // What every process takes for its first ones is not theirs.
    await each(AT_ONCE, AT_ONCE, connect);
    const opened = Math.min(count, SLOW_MAX);
    const before = await residentOf(child.pid);
    await each(opened, AT_ONCE, (n) => connect(n + AT_ONCE));
    const value = ((await residentOf(child.pid)) - before) / opened;
    return [{ row: "connections", what: "a connection in a relay", value, unit: "bytes" }];
  } finally {
    for (const socket of sockets) socket.terminate();
    child.stdin.end();
    await ended;
    await rm(directory, { recursive: true, force: true });
  }
}

async function puts({ bus, count }: Place): Promise<Figure[]> {
  const boxes = await openJetStreamMailboxes(bus);
  const many = Math.min(count, SLOW_MAX) * 5;
  const timed = async (prefix: string, frames: number, atOnce: number) => {
    const begun = performance.now();
    await each(frames, atOnce, (n) => boxes.put(agent(n), agent(n + 1), `${prefix}-${n}`, frame(n)));
    return (performance.now() - begun) / 1000;
  };
  await timed("warm", AT_ONCE, AT_ONCE);
  const together = await timed("many", many, AT_ONCE);
  const alone = await timed("one", AT_ONCE, 1);
  return [
    { row: "puts", what: `stored, ${AT_ONCE} at once`, value: many / together, unit: "a second" },
    { row: "puts", what: "one alone", value: (alone / AT_ONCE) * 1000, unit: "milliseconds" },
  ];
}

/** An agent as one that has just published its prekeys, in the form that the registry restores it from. */
function record(n: number): string {
  const key = Buffer.alloc(32, n).toString("base64url");
  const signature = Buffer.alloc(64, n).toString("base64url");
  const keys = { identity_key: key, identity_key_ed: key };
  const signed = { key_id: 1, public_key: key, signature };
  const one_time_pre_keys = Array.from({ length: ONE_TIME_PREKEYS }, (_, id) => ({ key_id: id + 1, public_key: key }));
  const metadata = { extensions: "signed-knocks,receipts,resends,files" };
  const facts = { public_key: key, capabilities: [`laptop-${n}`, "offload"], metadata, provedAt: 1 };
  const registered = fold(undefined, { type: "REGISTERED", ...facts }, 1);
  if (!registered) throw new Error("no agent");
  const published = fold(
    registered,
    publication(registered, { ...keys, signed_pre_key: signed, one_time_pre_keys }),
    2,
  );
  return JSON.stringify(restored(published ?? registered));
}

async function agents({ bus, nodes, count }: Place): Promise<Figure[]> {
  const bucket = await bus.bucket("agents-measured");
  const grown = await growth(nodes, count, () => each(count, AT_ONCE, (n) => bucket.put(agent(n).slice(9), record(n))));
  const { state } = await bus.jsm.streams.info(`KV_${bus.name("agents-measured")}`);
  const size = Buffer.byteLength(record(1));
  return [
    { row: "agents", what: `a record with ${ONE_TIME_PREKEYS} one-time prekeys`, value: size, unit: "bytes" },
    { row: "agents", what: "the same in the store", value: state.bytes / state.messages, unit: "bytes" },
    ...named("agents", "the same", grown),
  ];
}

const ROWS = {
  subscriptions,
  feeds,
  dedupe,
  mailboxes,
  catchup,
  consumers,
  connections: ({ count }: Place) => connections(count),
  puts,
  agents,
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    count: { type: "string", default: "10000" },
    nodes: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});

/** A row on servers of its own. */
async function measure(name: string, work: (place: Place) => Promise<Figure[]>, size: 1 | 3): Promise<Figure[]> {
  const { nodes, close } = await natsNodes(size);
  try {
    const servers = nodes.map(({ url }) => url).slice(0, 1);
    const open = () => connectBus({ servers: servers.join(), cluster: `costs ${name}`, replicas: size });
    // A cluster that has just begun takes a moment to agree on who leads.
    const bus = await open().catch(async () => open());
    try {
      return await work({ bus, nodes, count: Number(values.count) });
    } finally {
      await bus.close();
    }
  } finally {
    await close();
  }
}

async function main(): Promise<number> {
  const unknown = positionals.filter((name) => !(name in ROWS));
  const isUsable = /^[1-9]\d{0,6}$/.test(values.count) && /^[13]$/.test(values.nodes) && unknown.length === 0;
  if (values.help || !isUsable) {
    (values.help ? process.stdout : process.stderr).write(usage);
    return values.help ? 0 : 2;
  }
  if (!globalThis.gc) process.stderr.write("Without --expose-gc what is said of clients holds garbage too.\n");
  const size = values.nodes === "3" ? 3 : 1;
  const figures: Figure[] = [];
  for (const [name, work] of Object.entries(ROWS)) {
    if (positionals.length > 0 && !positionals.includes(name)) continue;
    process.stderr.write(`${name}\n`);
    figures.push(...(await measure(name, work, size)));
  }
  const machine = { node: process.version, cpus: cpus().length, nodes: size, count: Number(values.count) };
  if (values.json) process.stdout.write(`${JSON.stringify({ machine, figures }, null, 2)}\n`);
  else
    for (const { row, what, value, unit } of figures)
      process.stdout.write(
        `${row.padEnd(14)} ${value.toFixed(value < 100 ? 2 : 0).padStart(9)} ${unit.padEnd(13)} ${what}\n`,
      );
  return 0;
}

process.exitCode = await main();

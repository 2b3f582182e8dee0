import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { z } from "zod";
import type { Identity } from "../../src/crypto/index.ts";
import { type Client, connect, freshIdentity, inParallel, register, unregister } from "./client.ts";
import { ackText, frameWriter, numberOf, percentile } from "./lanes.ts";

// A bounded load on a cluster that is there, wherever it is: fresh agents, frames of one to another, and what came of them.

const usage = `node bench/scale/load.ts --relay wss://… [--relay …] --registry https://… [options]

Registers fresh agents with proofs, connects them, sends frames from one of a pair to the other, which acks them, and takes the
agents out of the registry again. Each sender is at one of the relays, its recipient at the next. It ends by itself.

  --pairs N         senders, each with a recipient of its own (4; at most 5000)
  --rate N          frames a second of all together (as many as there are answers: 64 on the way for each pair)
  --seconds N       how long it sends (10; at most 600)
  --connections N   agents that are connected besides and say nothing (0; at most 18000)
  --size BYTES      of a frame (1000; 300 to 262144)
  --ca FILE         a certificate authority to trust
  --json            one JSON document instead of lines
  --yes-these-are-mine   the addresses are not this machine's, and whoever answers for them knows of the load

Exit 1 when a frame was lost, came twice, out of its order or was refused.
`;

const IN_FLIGHT_MAX = 64;
/** Frames of a pair that wait for their answers when a rate is given: then it falls behind, and its latency says so. */
const BEHIND_MAX = 1_024;
const SETTLE_MAX_MS = 15_000;
const TICK_MS = 5;
const AT_ONCE = 32;

const Options = z.object({
  relay: z.array(z.url({ protocol: /^wss?$/ })).min(1),
  registry: z.url({ protocol: /^https?$/ }),
  pairs: z.coerce.number().int().min(1).max(5_000).default(4),
  rate: z.coerce.number().min(1).max(200_000).optional(),
  seconds: z.coerce.number().min(1).max(600).default(10),
  connections: z.coerce.number().int().min(0).max(18_000).default(0),
  size: z.coerce.number().int().min(300).max(262_144).default(1_000),
  ca: z.string().optional(),
  json: z.boolean().default(false),
  "yes-these-are-mine": z.boolean().default(false),
});
type Options = z.infer<typeof Options>;

const isLoopback = (url: string): boolean => /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/.test(new URL(url).hostname);
const bare = (url: string): string => url.replace(/\/+$/, "");

/** What came of the frames. */
interface Account {
  sent: number;
  heard: number;
  repeated: number;
  disordered: number;
  readonly latencies: number[];
  /** How often the relay said each. */
  readonly refusals: Map<string, number>;
  /** Sockets that ended before the end. */
  ended: number;
}

/** One sender and its recipient. `dueAt` is when a frame was to be sent, so one that waited for its turn is counted as late. */
function pairOf(sender: Client, recipient: Client, size: number, account: Account) {
  const write = frameWriter(sender.did, recipient.did, size, randomUUID().slice(0, 8));
  const dueAt: number[] = [];
  let [said, highest, answered] = [0, -1, 0];
  const seen = new Set<number>();
  let onAnswer = () => undefined as unknown;
  recipient.hears(({ type, id, from }) => {
    if (type !== "message" || id === undefined || from !== sender.did) return;
    recipient.send(ackText(id, sender.did));
    const number = numberOf(id);
    if (seen.has(number)) {
      account.repeated++;
      return;
    }
    seen.add(number);
    if (number < highest) account.disordered++;
    highest = Math.max(highest, number);
    account.heard++;
    answered++;
    account.latencies.push(performance.now() - (dueAt[number] ?? Number.NaN));
    onAnswer();
  });
  sender.hears(({ type, code = "error" }) => {
    if (type !== "error") return;
    account.refusals.set(code, (account.refusals.get(code) ?? 0) + 1);
    answered++;
    onAnswer();
  });
  return {
    get underway() {
      return said - answered;
    },
    say(due = performance.now()) {
      dueAt.push(due);
      account.sent++;
      sender.send(write(said++));
    },
    onAnswer(told: () => void) {
      onAnswer = told;
    },
  };
}
type Pair = ReturnType<typeof pairOf>;

/** As many as there are answers for. Resolves when the time is over. */
async function sendFreely(pairs: readonly Pair[], seconds: number): Promise<void> {
  const end = performance.now() + seconds * 1_000;
  for (const pair of pairs) {
    const more = () => {
      while (pair.underway < IN_FLIGHT_MAX && performance.now() < end) pair.say();
    };
    pair.onAnswer(more);
    more();
  }
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
}

/** So many a second, evenly over the pairs. What could not be sent when it was due is sent later, and counts from then. */
async function sendEvenly(pairs: readonly Pair[], rate: number, seconds: number): Promise<void> {
  const begin = performance.now();
  const all = Math.floor(rate * seconds);
  let due = 0;
  await new Promise<void>((resolve) => {
    const tick = setInterval(() => {
      const elapsed = performance.now() - begin;
      for (; due < Math.min(all, (elapsed / 1_000) * rate); due++) {
        const pair = pairs[due % pairs.length];
        if (!pair || pair.underway >= BEHIND_MAX) break;
        pair.say(begin + (due / rate) * 1_000);
      }
      if (due < all && elapsed < seconds * 1_000) return;
      clearInterval(tick);
      resolve();
    }, TICK_MS);
  });
}

/** Resolves when every frame was answered, or nobody waits any longer. */
async function settle(pairs: readonly Pair[]): Promise<void> {
  const end = performance.now() + SETTLE_MAX_MS;
  const underway = () => pairs.some((pair) => pair.underway > 0);
  while (underway() && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, TICK_MS));
}

async function load(options: Options, tell: (line: string) => void) {
  const { pairs: count, connections, rate, seconds, size } = options;
  const relays = options.relay.map(bare);
  const registry = bare(options.registry);
  const trust = options.ca === undefined ? {} : { ca: readFileSync(options.ca, "utf8") };
  const account: Account = {
    sent: 0,
    heard: 0,
    repeated: 0,
    disordered: 0,
    latencies: [],
    refusals: new Map(),
    ended: 0,
  };
  const registered: Identity[] = [];
  const clients: Client[] = [];
  let isOver = false;
  const join = async (at: number) => {
    const identity = freshIdentity();
    await register(registry, identity, trust);
    registered.push(identity);
    const client = await connect(relays[at % relays.length] ?? "", identity, trust);
    void client.ended.then(() => {
      if (!isOver) account.ended++;
    });
    clients.push(client);
    return client;
  };
  try {
    tell(`${2 * count + connections} agents register and connect`);
    const begun = performance.now();
    const indexes = (length: number) => Array.from({ length }, (_, index) => index);
    await inParallel(indexes(connections), AT_ONCE, join);
    const pairs = await inParallel(indexes(count), AT_ONCE, async (n) =>
      pairOf(await join(n), await join(n + 1), size, account),
    );
    const joinedMs = performance.now() - begun;
    tell(`${seconds} s of frames`);
    const begin = performance.now();
    await (rate === undefined ? sendFreely(pairs, seconds) : sendEvenly(pairs, rate, seconds));
    const heard = account.heard;
    const took = performance.now() - begin;
    await settle(pairs);
    const refused = account.refusals.values().reduce((sum, times) => sum + times, 0);
    const milliseconds = (percent: number) => Number(percentile(account.latencies, percent).toFixed(3));
    return {
      agents: clients.length,
      agents_per_second: Math.round((clients.length * 1_000) / joinedMs),
      frames_per_second: Math.round((heard * 1_000) / took),
      p50_ms: milliseconds(50),
      p99_ms: milliseconds(99),
      sent: account.sent,
      heard: account.heard,
      lost: Math.max(0, account.sent - account.heard - refused),
      repeated: account.repeated,
      out_of_order: account.disordered,
      refused: Object.fromEntries(account.refusals),
      sockets_ended: account.ended,
    };
  } finally {
    isOver = true;
    await Promise.all(clients.map((client) => client.cut()));
    await inParallel(registered, AT_ONCE, (identity) =>
      unregister(registry, identity, trust).catch((error: unknown) => tell(String(error))),
    );
  }
}

async function main(): Promise<number> {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const { values } = parseArgs({
    options: {
      relay: { type: "string", multiple: true },
      ...{ registry: text, pairs: text, rate: text, seconds: text, connections: text, size: text, ca: text },
      ...{ json: flag, "yes-these-are-mine": flag, help: { ...flag, short: "h" } },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  const { data: options, error } = Options.safeParse(values);
  if (!options) {
    process.stderr.write(`${z.prettifyError(error)}\n\n${usage}`);
    return 2;
  }
  const others = [...options.relay, options.registry].filter((url) => !isLoopback(url));
  if (others.length > 0 && !options["yes-these-are-mine"]) {
    process.stderr.write(
      `${others.join(", ")} is not this machine: say --yes-these-are-mine if the load is welcome.\n`,
    );
    return 2;
  }
  const outcome = await load(options, (line) => void process.stderr.write(`${line}\n`));
  const lines = Object.entries(outcome).map(([name, value]) => {
    const said =
      typeof value === "object"
        ? Object.entries(value)
            .map(([code, n]) => `${code} ${n}`)
            .join(", ")
        : value;
    return `${name.replaceAll("_", " ").padEnd(20)}${said === "" ? "none" : said}\n`;
  });
  process.stdout.write(options.json ? `${JSON.stringify(outcome, null, 2)}\n` : lines.join(""));
  const { lost, repeated, out_of_order, refused, sockets_ended } = outcome;
  return lost + repeated + out_of_order + sockets_ended + Object.keys(refused).length > 0 ? 1 : 0;
}

process.exitCode = await main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  return 1;
});

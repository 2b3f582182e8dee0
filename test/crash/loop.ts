/** The crash loop: real processes that are killed at moments drawn from a seed, and what must hold whatever dies when. */
import { watch } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { checkReplay } from "../../src/inspect/replay.ts";
import { realDisk } from "../../src/store/disk.ts";
import { readJournal } from "../../src/store/journal-reader.ts";
import { Gone, Refused, Victim } from "./victim.ts";

export const PHASES = ["burst", "rollover", "rotation", "closing", "opening", "cluster", "pairing"] as const;
export type Phase = (typeof PHASES)[number];

export interface Tally {
  rounds: number;
  readonly kills: Record<Phase, number>;
  accepted: number;
  received: number;
  segments: number;
  pairings: number;
}

/** Rounds between two looks at everything. */
const CHECK_EVERY = 20;
const BURST_MAX = 16;
/** What a round may take before it counts as stuck. */
const ROUND_MAX_MS = 90_000;
const DAY_MS = 86_400_000;

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
export function numbersFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (typeof address !== "object" || !address) throw new Error("no port");
  return address.port;
}

function must(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what);
}
const same = (a: readonly string[], b: readonly string[]) => a.join() === b.join();
/** A call whose process was killed under it has no answer. */
const unlessGone = (error: unknown): undefined => {
  if (error instanceof Gone) return undefined;
  throw error;
};

class Laptop extends Victim {
  readonly home: string;
  did = "";
  /** Ids of the messages that it accepted for its peer, in the order of the calls. */
  readonly accepted: string[] = [];
  sent = 0;
  constructor(name: string, home: string, cache: string) {
    super(name, ["laptop", home], cache);
    this.home = home;
  }
}

interface WhoAmI {
  readonly did: string | null;
  readonly clusters: readonly { readonly state: string }[];
}

export class CrashLoop {
  readonly #directory: string;
  readonly #number: () => number;
  readonly #cluster: Victim;
  readonly #alice: Laptop;
  readonly #bob: Laptop;
  /** The laptop of a pairing. */
  #guest: Laptop | undefined;
  readonly tally: Tally = {
    rounds: 0,
    kills: { burst: 0, rollover: 0, rotation: 0, closing: 0, opening: 0, cluster: 0, pairing: 0 },
    accepted: 0,
    received: 0,
    segments: 0,
    pairings: 0,
  };

  private constructor(directory: string, seed: number, port: number) {
    const cache = join(directory, "cache");
    this.#directory = directory;
    this.#number = numbersFrom(seed);
    this.#cluster = new Victim("the cluster", ["cluster", join(directory, "cluster"), String(port)], cache);
    this.#alice = new Laptop("alice", join(directory, "alice"), cache);
    this.#bob = new Laptop("bob", join(directory, "bob"), cache);
  }

  static async open(directory: string, seed: number): Promise<CrashLoop> {
    await mkdir(directory, { recursive: true });
    const loop = new CrashLoop(directory, seed, await freePort());
    await loop.#cluster.start();
    for (const laptop of [loop.#alice, loop.#bob]) {
      await laptop.start();
      await laptop.call("pair", { token: await loop.#token(laptop.name) });
      laptop.did = (await laptop.call<WhoAmI>("whoami")).did ?? "";
    }
    return loop;
  }

  /** Kills once more, in a phase that the seed draws unless one is named. @throws when anything does not hold */
  async round(phase: Phase = this.#pick(PHASES)): Promise<void> {
    this.tally.rounds++;
    const stuck = Promise.withResolvers<never>();
    const timer = setTimeout(() => stuck.reject(new Error("nothing goes on")), ROUND_MAX_MS);
    try {
      await Promise.race([this.#play(phase), stuck.promise]);
      if (this.tally.rounds % CHECK_EVERY === 0) await Promise.race([this.check(), stuck.promise]);
    } catch (cause) {
      throw new Error(`round ${this.tally.rounds}, ${phase}: ${cause instanceof Error ? cause.message : cause}`, {
        cause,
      });
    } finally {
      clearTimeout(timer);
    }
  }

  async #play(phase: Phase): Promise<void> {
    await Promise.all([this.#cluster, this.#alice, this.#bob].map((each) => each.start()));
    const victim = this.#pick([this.#alice, this.#bob]);
    switch (phase) {
      case "burst": {
        const bursts = this.#bursts();
        await bursts.answered;
        await this.#moment(15);
        await Promise.all(
          (this.#chance(0.3) ? [this.#alice, this.#bob] : [victim]).map((each) => this.#kill(phase, each)),
        );
        return bursts.ended;
      }
      case "rollover":
      case "rotation": {
        // Killed as soon as the file is touched that this is about.
        const [folder, pattern] =
          phase === "rollover" ? [victim.home, /^vault/] : [join(victim.home, "journal"), /jsonl$/];
        const names = new Set(await readdir(folder));
        const touched = Promise.withResolvers<void>();
        const watcher = watch(folder, (_, name) => {
          if (name !== null && pattern.test(name) && (phase === "rollover" || !names.has(name))) touched.resolve();
        });
        const bursts: { ended: Promise<void> }[] = [];
        let isTouched = false;
        const dying = touched.promise.then(async () => {
          isTouched = true;
          await this.#moment(3);
          await this.#kill(phase, victim);
        });
        for (let n = 0; n < 20 && !isTouched; n++) {
          const burst = this.#bursts();
          bursts.push(burst);
          await Promise.race([burst.ended, dying]);
        }
        touched.resolve();
        await dying;
        watcher.close();
        await Promise.all(bursts.map(({ ended }) => ended));
        return;
      }
      case "closing": {
        const bursts = this.#bursts();
        await bursts.answered;
        const closing = victim.close().catch(unlessGone);
        await Promise.race([this.#moment(60), closing]);
        await this.#kill(phase, victim);
        await closing;
        return bursts.ended;
      }
      case "opening": {
        await victim.kill();
        const bursts = this.#bursts();
        const opening = victim.start().catch(unlessGone);
        await Promise.race([this.#moment(700), opening.then(() => this.#moment(20))]);
        await this.#kill(phase, victim);
        await opening;
        return bursts.ended;
      }
      case "cluster": {
        const bursts = this.#bursts();
        await bursts.answered;
        await this.#moment(30);
        await this.#kill(phase, this.#cluster);
        await bursts.ended;
        return this.#cluster.start();
      }
      case "pairing":
        return this.#pairing();
    }
  }

  /** Everyone that runs sends a few messages at once. */
  #bursts(): { readonly answered: Promise<void>; readonly ended: Promise<void> } {
    const size = 1 + Math.floor(this.#number() * BURST_MAX);
    const enough = Math.floor(this.#number() * size);
    let answers = 0;
    const answered = Promise.withResolvers<void>();
    if (enough === 0) answered.resolve();
    const one = async (from: Laptop, to: Laptop) => {
      const sending = Array.from({ length: size }, async () => {
        const id = `${from.name}-${++from.sent}`;
        const result = await from.call("send", { to: to.did, message: `the words of ${id}`, id }).catch(unlessGone);
        if (++answers >= enough) answered.resolve();
        return result === undefined ? undefined : id;
      });
      // In the order of the calls, whatever order the answers come in.
      for (const id of await Promise.all(sending)) if (id !== undefined) from.accepted.push(id);
    };
    const ended = Promise.all([one(this.#alice, this.#bob), one(this.#bob, this.#alice)]).then(() =>
      answered.resolve(),
    );
    return { answered: answered.promise, ended };
  }

  /** A laptop that pairs, with a token that counts once, while it or the cluster or both are killed. */
  async #pairing(): Promise<void> {
    const name = `laptop-${++this.tally.pairings}`;
    const laptop = new Laptop(name, join(this.#directory, name), join(this.#directory, "cache"));
    this.#guest = laptop;
    const token = await this.#token(name);
    await laptop.start();
    const victims = this.#pick([[laptop], [laptop], [this.#cluster], [laptop, this.#cluster]]);
    const pairing = laptop.call("pair", { token }).catch((error: unknown) => {
      must(error instanceof Gone || (error instanceof Refused && error.code === "cluster_unreachable"), `${error}`);
    });
    await this.#moment(60);
    const before = victims.includes(laptop) ? undefined : (await laptop.call<WhoAmI>("whoami")).did;
    await Promise.all(victims.map((each) => this.#kill("pairing", each)));
    await Promise.all([this.#cluster.start(), laptop.start()]);
    await pairing;
    const known = (await laptop.call<WhoAmI>("whoami")).did;
    must(before === undefined || before === null || before === known, "the identity changed");
    await laptop.call("pair", { token });
    const { did, clusters } = await laptop.call<WhoAmI>("whoami");
    must(known === null || did === known, "the identity changed");
    must(clusters.length === 1 && clusters[0]?.state === "paired", `paired, and yet ${JSON.stringify(clusters)}`);
    const grant = await this.#cluster.call<{ did: string | null }>("grant", { name });
    must(grant.did === did, `the grant is of ${grant.did}, the laptop is ${did}`);
    await laptop.close();
    await this.#checkHome(laptop.home);
  }

  /** Everything that was accepted arrived once and in order; nobody changed; every home says what its journal says. */
  async check(): Promise<void> {
    const [alice, bob] = [this.#alice, this.#bob];
    await Promise.all([this.#cluster, alice, bob].map((each) => each.start()));
    const pairs = [[alice, bob] as const, [bob, alice] as const];
    await Promise.all(
      pairs.map(async ([from, to]) => {
        const last = `${from.name}-${++from.sent}`;
        await from.call("send", { to: to.did, message: "the last", id: last });
        from.accepted.push(last);
        for (let came = false; !came; ) {
          type Page = { status: string; messages: readonly { readonly id: string }[] };
          const { messages } = await to.call<Page>("await", { from: [from.did], timeout_ms: 60_000 });
          came = messages.some(({ id }) => id === last);
        }
      }),
    );
    for (const each of [alice, bob])
      must((await each.call<WhoAmI>("whoami")).did === each.did, `the identity of ${each.name} changed`);
    await Promise.all([alice, bob].map((each) => each.close()));
    this.tally.accepted = 0;
    this.tally.received = 0;
    this.tally.segments = 0;
    for (const [from, to] of pairs) {
      const received: string[] = [];
      for await (const { entries } of readJournal(realDisk, join(to.home, "journal"), `conversation/${from.did}`))
        for (const { stream, event } of entries)
          if (stream === `conversation/${from.did}` && event.type === "RECEIVED") received.push(String(event.id));
      const place = (id: string) => Number(id.slice(from.name.length + 1));
      must(new Set(received).size === received.length, `${to.name} received something twice`);
      must(
        same(
          received,
          received.toSorted((a, b) => place(a) - place(b)),
        ),
        `${to.name} received out of order: ${received.filter((id, n) => n > 0 && place(id) < place(received[n - 1] ?? ""))}`,
      );
      const arrived = new Set(received);
      const lost = from.accepted.filter((id) => !arrived.has(id));
      must(lost.length === 0, `accepted by ${from.name} and lost: ${lost}`);
      this.tally.accepted += from.accepted.length;
      this.tally.received += received.length;
      this.tally.segments += (await readdir(join(to.home, "journal"))).length;
      await this.#checkHome(to.home);
    }
  }

  async #checkHome(home: string): Promise<void> {
    const { differences, compared_at } = await checkReplay(home);
    must(differences.length === 0, `${home}: ${JSON.stringify(differences)}`);
    must(compared_at !== null, `${home} has no snapshots`);
    const leftovers = (await readdir(home)).filter((name) => name.endsWith(".tmp"));
    must(leftovers.length === 0, `${home}: ${leftovers}`);
  }

  /** Looks at everything once more, and ends all processes. */
  async close(): Promise<void> {
    try {
      await this.check();
      await this.#cluster.close();
    } finally {
      await this.end();
    }
  }

  async end(): Promise<void> {
    await Promise.all([this.#cluster, this.#alice, this.#bob, this.#guest].map((each) => each?.kill()));
  }

  async #token(name: string): Promise<string> {
    const grant = { name, slots: 1, capabilities: ["offload"], expires_ms: DAY_MS };
    return (await this.#cluster.call<{ token: string }>("grant_issue", grant)).token;
  }

  async #kill(phase: Phase, victim: Victim): Promise<void> {
    if (victim.isRunning) this.tally.kills[phase]++;
    await victim.kill();
  }

  /** Some time, up to so many milliseconds: the moment of death is what the loop is about. */
  #moment(upToMs: number): Promise<void> {
    const delay = this.#number() * upToMs;
    return new Promise((resolve) => setTimeout(resolve, delay));
  }
  #pick<T>(from: readonly T[]): T {
    const picked = from[Math.floor(this.#number() * from.length)];
    if (picked === undefined) throw new Error("nothing to pick from");
    return picked;
  }
  #chance(probability: number): boolean {
    return this.#number() < probability;
  }
}

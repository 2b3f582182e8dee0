import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { expect, it } from "vitest";
import type { Clock } from "../../src/actors/ports.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { openHousehold } from "../../src/cluster/household.ts";
import type { SandboxHooks, Spawn } from "../../src/cluster/sandboxes.ts";
import type { GrantContext } from "../../src/machines/grant/events.ts";
import type { RunContext } from "../../src/machines/run/events.ts";
import { realDisk } from "../../src/store/disk.ts";
import { readJournal } from "../../src/store/journal-reader.ts";
import { OffloadRequest } from "../../src/wire/payload.ts";

// Requests, cancellations, revocations and expiries at the same moments, and a controller that dies between any of them:
// no grant ever has more running than it has slots, each slot comes back exactly once, each token is counted once.

const SLOTS = 2;
const GRANTS = ["one", "two"] as const;
type GrantName = (typeof GRANTS)[number];
const didOf = (grant: GrantName) => `did:mesh:${(grant === "one" ? "a" : "b").repeat(32)}`;
const URLS = {
  relay_url: "ws://127.0.0.1:1",
  registry_url: "http://127.0.0.1:1",
  pair_url: "http://127.0.0.1:1/v1/pair",
};
const EXPIRES_MS = 1_000_000;

/** Time that passes when it is told to. */
class HandClock implements Clock {
  #now = Date.parse("2026-03-01T12:00:00.000Z");
  #alarms: { readonly time: number; readonly ring: () => void }[] = [];
  now(): number {
    return this.#now;
  }
  at(time: number, ring: () => void): () => void {
    const alarm = { time, ring };
    this.#alarms.push(alarm);
    return () => {
      this.#alarms = this.#alarms.filter((each) => each !== alarm);
    };
  }
  pass(duration: number): void {
    this.#now += duration;
    const due = this.#alarms.filter(({ time }) => time <= this.#now);
    this.#alarms = this.#alarms.filter(({ time }) => time > this.#now);
    for (const { ring } of due) ring();
  }
}

const nowhere = {
  dial: () => {
    throw new Error("there is no network");
  },
  fetch: async () => {
    throw new Error("there is no network");
  },
};

type Household = Awaited<ReturnType<typeof openHousehold>>;

class World {
  readonly directory: string;
  readonly clock: HandClock;
  readonly running = new Map<string, SandboxHooks>();
  most = 0;
  #household: Household | undefined;

  constructor(directory: string, clock: HandClock) {
    this.directory = directory;
    this.clock = clock;
  }

  get household(): Household {
    if (!this.#household) throw new Error("not open");
    return this.#household;
  }
  get system() {
    return this.household.node.core.system;
  }

  readonly #spawn: Spawn = async (config, hooks) => {
    this.running.set(config.run, hooks);
    const ofGrant = (name: string) =>
      [...this.running.keys()].filter((run) => this.runOf(run)?.grant === name && this.runOf(run)?.endedAt === null);
    this.most = Math.max(this.most, ...GRANTS.map((name) => ofGrant(name).length));
    return { pid: 1, end: () => setImmediate(() => this.exit(config.run)) };
  };

  async open(): Promise<this> {
    this.#household = await openHousehold({
      directory: this.directory,
      ports: { ...realPorts(nowhere), clock: this.clock },
      backend: { spawn: this.#spawn },
      cluster: "test",
      runner: null,
      urls: () => URLS,
      online: () => [],
      onNote: () => undefined,
    });
    this.household.node.start();
    return this;
  }

  /** The same cluster as its disk has it at this moment, in another process. */
  async afterCrash(): Promise<World> {
    const copy = `${this.directory}+`;
    cpSync(this.directory, copy, { recursive: true });
    await this.close();
    return new World(copy, this.clock).open();
  }

  async close(): Promise<void> {
    await this.household.node.close();
  }

  runOf(run: string): RunContext | undefined {
    return this.system.decided(`run/${run}`)?.snapshot.context;
  }

  /** A laptop's word, as the mesh hands it over. */
  async word(
    grant: GrantName,
    payload: Parameters<Household["household"]["controller"]["handle"]>[0]["payload"],
    id: string,
  ) {
    const draft = await this.household.household.controller.handle({ peer: didOf(grant), payload, id });
    if (draft) await this.system.commit(draft.entries, { secrets: draft.secrets, before: draft.before }).durable;
  }

  exit(run: string): void {
    const hooks = this.running.get(run);
    this.running.delete(run);
    hooks?.exited(0);
  }

  /** Resolves when no run has anything left to do. */
  async settled(): Promise<void> {
    for (const run of [...this.running.keys()]) this.exit(run);
    const isSettled = () =>
      [...this.system.streams("run")].every(([, { snapshot }]) => (snapshot.context as RunContext).settled);
    if (isSettled()) return;
    await new Promise<void>((resolve) => {
      const stop = this.system.subscribe(() => {
        for (const run of [...this.running.keys()]) this.exit(run);
        if (!isSettled()) return;
        stop();
        resolve();
      });
    });
  }
}

type Act =
  | { readonly act: "request" | "cancel" | "exit" | "spend"; readonly grant: GrantName; readonly run: number }
  | { readonly act: "revoke"; readonly grant: GrantName }
  | { readonly act: "expire" | "wait" | "crash" };

const grant = fc.constantFrom(...GRANTS);
const run = fc.integer({ min: 0, max: 9 });
const acts: fc.Arbitrary<Act> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ act: fc.constant("request" as const), grant, run }) },
  {
    weight: 3,
    arbitrary: fc.record({ act: fc.constantFrom("cancel" as const, "exit" as const, "spend" as const), grant, run }),
  },
  { weight: 1, arbitrary: fc.record({ act: fc.constant("revoke" as const), grant }) },
  { weight: 3, arbitrary: fc.record({ act: fc.constantFrom("wait" as const, "crash" as const) }) },
  { weight: 1, arbitrary: fc.record({ act: fc.constant("expire" as const) }) },
);

const idOf = (name: GrantName, number: number) => `${name}-${number}`;

async function play(world: World, script: readonly Act[]): Promise<World> {
  let now = world;
  let open: Promise<unknown>[] = [];
  const quiet = async () => {
    await Promise.all(open.map((each) => each.catch(() => undefined)));
    open = [];
  };
  for (const [index, act] of script.entries()) {
    switch (act.act) {
      case "request":
        open.push(
          now.word(
            act.grant,
            OffloadRequest.parse({ type: "offload_request", request_id: idOf(act.grant, act.run), task: "t" }),
            `${index}`,
          ),
        );
        break;
      case "cancel":
        open.push(
          now.word(
            act.grant,
            { type: "offload_cleanup", request_id: idOf(act.grant, act.run), reason: "cancelled" },
            `${index}`,
          ),
        );
        break;
      case "exit":
        now.exit(idOf(act.grant, act.run));
        break;
      case "spend":
        now.running.get(idOf(act.grant, act.run))?.told({ type: "used", tokens: 10 });
        break;
      case "revoke":
        open.push(now.household.household.grants.revoke(act.grant));
        break;
      case "expire":
        now.clock.pass(EXPIRES_MS);
        break;
      case "wait":
        await quiet();
        break;
      case "crash":
        now = await now.afterCrash();
        open = [];
        break;
    }
  }
  await quiet();
  return now;
}

/** What the journal says of slots and tokens, from its first commit. */
async function account(directory: string) {
  const holding = new Map<string, Set<string>>();
  const requested = new Set<string>();
  const tokens = new Map<string, number>();
  for await (const { entries } of readJournal(realDisk, join(directory, "controller", "journal")))
    for (const { stream, event } of entries) {
      const [kind = "", id = ""] = stream.split("/");
      if (kind === "run" && event.type === "REQUESTED") requested.add(id);
      if (kind === "run" && event.type === "USED") tokens.set(id, Number(event.tokens));
      if (kind !== "grant") continue;
      const held = holding.get(id) ?? new Set<string>();
      holding.set(id, held);
      const name = String(event.run);
      if (event.type === "SLOT_TAKEN") {
        expect(held.has(name), `${name} takes a second slot`).toBe(false);
        held.add(name);
        expect(held.size, `slots of ${id}`).toBeLessThanOrEqual(SLOTS);
      }
      if (event.type === "SLOT_FREED") {
        expect(held.delete(name), `${name} gives back what it does not hold`).toBe(true);
        expect(event.tokens, `tokens of ${name}`).toBe(tokens.get(name) ?? 0);
      }
    }
  return { holding, requested, tokens };
}

it("holds whatever comes at once, and wherever the controller dies", async () => {
  let most = 0;
  let crashes = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(acts, { minLength: 10, maxLength: 60 }), async (script) => {
      const folder = mkdtempSync(join(tmpdir(), "kars-mesh-races-"));
      const world = await new World(join(folder, "cluster"), new HandClock()).open();
      let last = world;
      try {
        const { node, household } = world.household;
        // There is nobody to join: what counts is that the controller has an identity from here on.
        const membership = { cluster: "test", relayUrl: URLS.relay_url, registryUrl: URLS.registry_url };
        node.membership
          .join({ controller: null, ...membership, name: "test-controller", capabilities: ["controller"] })
          .catch(() => undefined);
        for (const name of GRANTS) {
          const wish = { name, slots: SLOTS, capabilities: ["offload"], expiresMs: EXPIRES_MS, tokenBudget: null };
          await household.grants.issue(wish);
          const bound = { type: "BOUND", did: didOf(name), name };
          await node.core.system.commit([{ stream: `grant/${name}`, event: bound }]).durable;
        }
        last = await play(world, script);
        await last.settled();
        const { holding, requested, tokens } = await account(last.directory);
        for (const [id, held] of holding) expect([...held], `slots of ${id} at the end`).toEqual([]);
        for (const name of GRANTS) {
          const context: GrantContext | undefined = last.system.state(`grant/${name}`)?.snapshot.context;
          const mine = [...requested].filter((each) => each.startsWith(name));
          expect(context?.running).toEqual([]);
          expect((context?.completed ?? 0) + (context?.failed ?? 0)).toBeLessThanOrEqual(mine.length);
          expect(context?.tokensUsed).toBe(mine.reduce((sum, each) => sum + (tokens.get(each) ?? 0), 0));
        }
        expect(last.most).toBeLessThanOrEqual(SLOTS);
        most = Math.max(most, last.most);
        crashes += script.filter(({ act }) => act === "crash").length;
      } finally {
        await last.close();
        rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
      }
    }),
    { numRuns: 25 },
  );
  // The worlds were worth it.
  expect(most).toBe(SLOTS);
  expect(crashes).toBeGreaterThan(10);
}, 120_000);

/** A cluster's state in NATS, held to what may be relied on of any: three replicas on one server, and on a cluster of three. */
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { type JetStreamAgents, openJetStreamAgents } from "../../src/cluster/jetstream/agents.ts";
import { type Bus, nameToken, tokenOf } from "../../src/cluster/jetstream/bus.ts";
import { DISCOVER_SCAN_MAX, LEASE_MS } from "../../src/cluster/jetstream/limits.ts";
import { openJetStreamMailboxes } from "../../src/cluster/jetstream/mailboxes.ts";
import { type JetStreamPresence, openJetStreamPresence } from "../../src/cluster/jetstream/presence.ts";
import { agentsConformance, registrationOf, takeAtOnce } from "../cluster/conformance/agents.ts";
import { mailboxesConformance } from "../cluster/conformance/mailboxes.ts";
import { plainConformance } from "../cluster/conformance/plain.ts";
import { claimOf, placeOf, presenceConformance } from "../cluster/conformance/presence.ts";
import { agent, Clock, prekeys } from "../cluster/world.ts";
import { threeBuses } from "./buses.ts";
import { type NatsNode, natsNodes } from "./nodes.ts";
import { withNats } from "./server.ts";

const alice = agent("alice");

let nodes: readonly NatsNode[] = [];
let close = () => Promise.resolve();
beforeAll(async () => {
  ({ nodes, close } = await natsNodes(1));
});
afterAll(() => close());

async function three<T extends { close(): Promise<void> }>(
  buses: readonly [Bus, Bus, Bus],
  open: (bus: Bus) => Promise<T>,
) {
  const opened = async (bus: Bus) => {
    const one = await open(bus);
    onTestFinished(() => one.close());
    return one;
  };
  return [await opened(buses[0]), await opened(buses[1]), await opened(buses[2])] as const;
}

async function mortal(on: readonly NatsNode[]) {
  const [first, second] = await threeBuses(on);
  return {
    mailboxes: await openJetStreamMailboxes(first),
    die: async () => {
      await first.nats.close();
      return openJetStreamMailboxes(second);
    },
  };
}

describe("mail", () => {
  const open = async () => Promise.all((await threeBuses(nodes)).map((bus) => openJetStreamMailboxes(bus)));
  mailboxesConformance(open);
  plainConformance(open, () => mortal(nodes));
});

describe("mail on a cluster of three", () => {
  let cluster: readonly NatsNode[] = [];
  let end = () => Promise.resolve();
  beforeAll(async () => {
    ({ nodes: cluster, close: end } = await natsNodes(3));
  });
  afterAll(() => end());

  const open = async () => Promise.all((await threeBuses(cluster)).map((bus) => openJetStreamMailboxes(bus)));
  mailboxesConformance(open);
  plainConformance(open, () => mortal(cluster));
});

/** The same with the third replica's place taken by the first. */
const ofTwo = <T>({ replicas: [a, b], clock }: { readonly replicas: readonly [T, T, T]; readonly clock: Clock }) => ({
  replicas: [a, b, a] as const,
  clock,
});

describe("presence", () => {
  async function presences(on = nodes) {
    const clock = new Clock();
    const buses = await threeBuses(on);
    const replicas = await three<JetStreamPresence>(buses, (bus) => openJetStreamPresence(bus, clock.now));
    return { clock, buses, replicas };
  }

  presenceConformance(presences);
  describe("of two replicas", () => presenceConformance(() => presences().then(ofTwo)));

  test("the places of a replica that died stand until its lease has lapsed, and no longer", async () => {
    const { clock, buses, replicas } = await presences();
    await placeOf(replicas[0].enter(alice.did, claimOf(5)));
    await buses[0].nats.close();
    expect(await replicas[1].enter(alice.did, claimOf(4))).toBe("outdated");
    clock.time += LEASE_MS + 1;
    await placeOf(replicas[1].enter(alice.did, claimOf(4)));
    expect(await replicas[2].online([alice.did])).toEqual(new Set([alice.did]));
  });

  test("a replica that speaks lives, however the clocks jump", async () => {
    const { clock, replicas } = await presences();
    await placeOf(replicas[0].enter(alice.did, claimOf(5)));
    clock.time += LEASE_MS + 1;
    await expect.poll(() => replicas[1].online([alice.did]), { timeout: LEASE_MS }).toEqual(new Set([alice.did]));
    expect(await replicas[1].enter(alice.did, claimOf(4))).toBe("outdated");
  });

  test("a replica that closes gives its places up", async () => {
    const { replicas } = await presences();
    await placeOf(replicas[0].enter(alice.did, claimOf(5)));
    await replicas[0].close();
    expect(await replicas[1].online([alice.did])).toEqual(new Set());
    await placeOf(replicas[1].enter(alice.did, claimOf(1)));
  });

  test("connections keep their places when NATS loses its memory", async () => {
    const own = await withNats();
    const { replicas } = await presences(own);
    await placeOf(replicas[0].enter(alice.did, claimOf(5)));
    for (const node of own) {
      await node.kill();
      await node.start();
    }
    const other = () => replicas[1].online([alice.did]);
    await expect.poll(other, { timeout: 30_000 }).toEqual(new Set([alice.did]));
    expect(await replicas[2].enter(alice.did, claimOf(4))).toBe("outdated");
  });

  test("a connection whose place was taken while its replica could not hear it ends when it can", async () => {
    const { buses, replicas } = await presences();
    const earlier = claimOf(5);
    await placeOf(replicas[0].enter(alice.did, earlier));
    // The word of it goes to nobody.
    const { nats } = buses[1];
    const publish = nats.publish.bind(nats);
    const ended = buses[1].subject("ended", tokenOf(alice.did));
    nats.publish = (subject, ...rest) => (subject === ended ? undefined : publish(subject, ...rest));
    await placeOf(replicas[1].enter(alice.did, claimOf(6)));
    await buses[0].nats.reconnect();
    expect(await earlier.end).toBe("replaced");
  });
});

describe("agents", () => {
  async function agents(options: { allowUnproven?: boolean } = {}, on = nodes) {
    const clock = new Clock();
    const buses = await threeBuses(on);
    const replicas = await three<JetStreamAgents>(buses, (bus) =>
      openJetStreamAgents(bus, { now: clock.now, ...options }),
    );
    return { clock, buses, replicas };
  }
  const count = async (bus: Bus, bucket: string) =>
    (await bus.jsm.streams.info(`KV_${bus.name(bucket)}`)).state.messages;

  agentsConformance(agents);
  describe("of two replicas", () => agentsConformance((options) => agents(options).then(ofTwo)));

  test("an entry of the index that no record bears out is removed when it is met", async () => {
    const { buses, replicas, clock } = await agents();
    await replicas[0].register(registrationOf(alice, clock.time, { capabilities: ["b"] }));
    await replicas[0].register(registrationOf(alice, clock.time + 1, { capabilities: ["a"] }));
    const bucket = await buses[0].bucket("capabilities");
    await bucket.put(`${nameToken("stale")}.${tokenOf(alice.did)}`, JSON.stringify({ on: 1 }));
    await bucket.put(`${nameToken("stale")}.${tokenOf(agent("nobody").did)}`, JSON.stringify({ on: 1 }));
    expect(await replicas[1].find("stale")).toEqual({ found: [], total: 0 });
    expect(await count(buses[0], "capabilities")).toBe(1);
    expect((await replicas[1].find("a")).total).toBe(1);
  });

  test("nothing stays of an agent that was removed", async () => {
    const { buses, replicas, clock } = await agents();
    await replicas[0].register(registrationOf(alice, clock.time, { capabilities: ["a"] }));
    replicas[0].seen(alice.did);
    await expect.poll(() => count(buses[0], "seen")).toBe(1);
    await replicas[1].remove(alice.did);
    for (const bucket of ["agents", "capabilities", "seen"]) expect(await count(buses[0], bucket)).toBe(0);
  });

  test("of more agents than one answer looks at, it says how many there are", async () => {
    const { replicas, clock } = await agents();
    const total = DISCOVER_SCAN_MAX + 5;
    const registered = Array.from({ length: total }, (_, n) =>
      replicas[0].register(registrationOf(agent(`agent ${n}`), clock.time, { capabilities: ["a"] })),
    );
    await Promise.all(registered);
    for (const capability of ["a", undefined]) {
      const answer = await replicas[1].find(capability);
      expect(answer.total).toBe(total);
      expect(new Set(answer.found.map(([did]) => did)).size).toBe(DISCOVER_SCAN_MAX);
    }
  });

  describe("on a cluster of three", () => {
    async function withPrekeys() {
      const own = await withNats(3);
      const world = await agents({}, own);
      await world.replicas[0].register(registrationOf(alice, world.clock.time, { capabilities: ["a"] }));
      await world.replicas[1].publish(alice.did, prekeys(alice, { count: 50 }), true);
      return { ...world, own };
    }

    test("of many who take one-time prekeys everywhere at once, each key goes to one", async () => {
      const world = await withPrekeys();
      const { given, without } = await takeAtOnce(world, alice.did, 200);
      expect(given).toEqual(Array.from({ length: 50 }, (_, n) => n));
      expect(without).toBe(150);
    });

    test("no key goes to two while a server dies", async () => {
      const { replicas, own } = await withPrekeys();
      const taking = Array.from({ length: 45 }, (_, n) => (replicas[n % 3] ?? replicas[0]).takeBundle(alice.did));
      await Promise.race(taking);
      await own[0]?.kill();
      const settled = await Promise.allSettled(taking);
      // Whose answer was lost may have spent a key.
      const rest = await takeAtOnce({ replicas, clock: new Clock() }, alice.did, 60);
      const given = settled.flatMap(({ status, ...more }) =>
        status === "fulfilled" && "value" in more ? [more.value?.one_time_pre_key?.key_id] : [],
      );
      const all = [...given, ...rest.given];
      expect(new Set(all).size).toBe(all.length);
      expect(given.length).toBeGreaterThan(0);
      expect((await replicas[1].get(alice.did))?.held.size).toBe(0);
    });
  });
});

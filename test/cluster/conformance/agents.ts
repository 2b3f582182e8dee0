/** What may be relied on of the registry's records, whatever keeps them and however many replicas there are. */
import { expect, test } from "vitest";
import type { Agents, Registration } from "../../../src/cluster/state.ts";
import { base64url, type Identity } from "../../../src/crypto/index.ts";
import { agent, type Clock, prekeys } from "../world.ts";

export interface AgentsWorld {
  /** Handles on one store; the same one again where there is but one process. */
  readonly replicas: readonly [Agents, Agents, Agents];
  readonly clock: Clock;
}

const alice = agent("alice");
const bob = agent("bob");

export const registrationOf = (
  { did, publicKey }: Identity,
  provedAt: number,
  more: Partial<Registration> = {},
): Registration => ({
  did,
  publicKey: base64url.encode(publicKey),
  capabilities: [],
  metadata: {},
  provedAt,
  ...more,
});

const claimOf = ({ did, dhPublic }: Identity, capabilities: readonly string[] = []) => ({
  did,
  publicKey: base64url.encode(dhPublic),
  capabilities,
  metadata: {},
});

const didsOf = async (agents: Agents, capability?: string) =>
  (await agents.find(capability)).found.map(([did]) => did).sort();

/** Takes all that are wanted, from all replicas at once. The ids that were given, in order; and how many got none. */
export async function takeAtOnce({ replicas }: AgentsWorld, did: string, count: number) {
  const bundles = await Promise.all(
    Array.from({ length: count }, (_, n) => (replicas[n % replicas.length] ?? replicas[0]).takeBundle(did)),
  );
  const keys = bundles.map((bundle) => bundle?.one_time_pre_key);
  const given = keys.flatMap((key) => (key ? [key.key_id] : [])).sort((a, b) => a - b);
  return { given, without: keys.filter((key) => key === null).length };
}

/** @param open opens three replicas whose clock stands; closes them when the test ends */
export function agentsConformance(open: (options?: { allowUnproven?: boolean }) => Promise<AgentsWorld>): void {
  test("an agent registers once, says something else with a newer proof, and is known everywhere", async () => {
    const { replicas, clock } = await open();
    const [here, there, elsewhere] = replicas;
    const at = clock.time;
    expect(await here.get(alice.did)).toBeUndefined();
    expect(await here.register(registrationOf(alice, at, { capabilities: ["a"] }))).toBe("registered");
    expect(await there.register(registrationOf(alice, at, { capabilities: ["a"] }))).toBe("exists");
    const known = await elsewhere.get(alice.did);
    expect(known).toMatchObject({ capabilities: ["a"], provedAt: at, registeredAt: at, lastSeen: at, reputation: 0.5 });
    expect(await there.register(registrationOf(alice, at + 1, { metadata: { k: "v" } }))).toBe("updated");
    // A repetition of the first request.
    expect(await elsewhere.register(registrationOf(alice, at, { capabilities: ["a"] }))).toBe("exists");
    expect(await here.get(alice.did)).toMatchObject({ capabilities: [], metadata: { k: "v" }, provedAt: at + 1 });
  });

  test("of those who register one agent at once, one has registered it", async () => {
    const { replicas, clock } = await open();
    const outcomes = await Promise.all(
      [...replicas, ...replicas].map((replica) => replica.register(registrationOf(alice, clock.time))),
    );
    expect(outcomes.sort()).toEqual(["exists", "exists", "exists", "exists", "exists", "registered"]);
  });

  test("an agent without a proof takes nothing, gives way to one with a proof, and is seen only where that is allowed", async () => {
    const { replicas, clock } = await open({ allowUnproven: true });
    const [here, there] = replicas;
    expect(await here.claim(claimOf(alice, ["old"]))).toBe("registered");
    expect(await there.claim(claimOf(alice))).toBe("exists");
    expect(await there.get(alice.did)).toMatchObject({ provedAt: null, capabilities: ["old"] });
    expect(await didsOf(there, "old")).toEqual([alice.did]);
    expect(await there.publish(alice.did, prekeys(alice), false)).toBeDefined();
    expect(await there.register(registrationOf(alice, clock.time))).toBe("registered");
    expect(await here.claim(claimOf(alice))).toBe("exists");
    expect(await here.publish(alice.did, prekeys(alice), false)).toBeUndefined();
    expect(await didsOf(here, "old")).toEqual([]);

    const { replicas: strict } = await open();
    await strict[0].claim(claimOf(bob, ["old"]));
    expect(await strict[1].get(bob.did)).toBeUndefined();
    expect(await strict[1].find("old")).toEqual({ found: [], total: 0 });
    expect(await strict[1].find(undefined)).toEqual({ found: [], total: 0 });
  });

  test("prekeys add up, and an id that comes back with another key begins anew", async () => {
    const { replicas, clock } = await open();
    const [here, there] = replicas;
    expect(await here.publish(alice.did, prekeys(alice), true)).toBeUndefined();
    await here.register(registrationOf(alice, clock.time));
    expect((await here.publish(alice.did, prekeys(alice, { count: 3 }), true))?.held.size).toBe(3);
    expect((await there.publish(alice.did, prekeys(alice, { count: 2, first: 3 }), true))?.held.size).toBe(5);
    expect((await here.takeBundle(alice.did))?.one_time_pre_key?.key_id).toBe(0);
    // What was given out is not taken again.
    expect((await there.publish(alice.did, prekeys(alice, { count: 3 }), true))?.held.size).toBe(4);
    const anew = await there.publish(alice.did, prekeys(alice, { count: 2, seed: "anew" }), true);
    expect([...(anew?.held.keys() ?? [])]).toEqual([0, 1]);
    expect((await here.takeBundle(alice.did))?.one_time_pre_key?.key_id).toBe(0);
  });

  test("a bundle without one-time prekeys has none, and without an upload there is no bundle", async () => {
    const { replicas, clock } = await open();
    expect(await replicas[0].takeBundle(alice.did)).toBeUndefined();
    await replicas[0].register(registrationOf(alice, clock.time));
    expect(await replicas[1].takeBundle(alice.did)).toBeUndefined();
    const { signed_pre_key } = prekeys(alice);
    await replicas[0].publish(alice.did, prekeys(alice, { count: 1 }), true);
    expect(await replicas[1].takeBundle(alice.did)).toMatchObject({ signed_pre_key, one_time_pre_key: { key_id: 0 } });
    expect(await replicas[2].takeBundle(alice.did)).toMatchObject({ signed_pre_key, one_time_pre_key: null });
  });

  test("of many who take one-time prekeys everywhere at once, each key goes to one", async () => {
    const world = await open();
    await world.replicas[0].register(registrationOf(alice, world.clock.time));
    await world.replicas[1].publish(alice.did, prekeys(alice, { count: 50 }), true);
    const { given, without } = await takeAtOnce(world, alice.did, 200);
    expect(given).toEqual(Array.from({ length: 50 }, (_, n) => n));
    expect(without).toBe(150);
  });

  test("scores add up, whoever gives them where", async () => {
    const { replicas, clock } = await open();
    expect(await replicas[0].rate(alice.did, bob.did, 1, "good")).toBeUndefined();
    await replicas[0].register(registrationOf(alice, clock.time));
    await Promise.all(replicas.map((replica) => replica.rate(alice.did, bob.did, 1, "good")));
    const { reputation = 0 } = (await replicas[0].get(alice.did)) ?? {};
    expect(reputation).toBeCloseTo(1 - 0.5 * 0.7 ** 3);
  });

  test("agents are found by what they say they can do now", async () => {
    const { replicas, clock } = await open();
    const [here, there, elsewhere] = replicas;
    await here.register(registrationOf(alice, clock.time, { capabilities: ["a", "b.c d*"] }));
    await there.register(registrationOf(bob, clock.time, { capabilities: ["a"] }));
    const both = [alice.did, bob.did].sort();
    expect(await didsOf(elsewhere, "a")).toEqual(both);
    expect(await didsOf(elsewhere, "b.c d*")).toEqual([alice.did]);
    expect(await didsOf(elsewhere, "b")).toEqual([]);
    expect(await didsOf(elsewhere)).toEqual(both);
    expect((await elsewhere.find("a")).total).toBe(2);

    await there.register(registrationOf(alice, clock.time + 1, { capabilities: ["d"] }));
    expect(await didsOf(elsewhere, "a")).toEqual([bob.did]);
    expect(await didsOf(elsewhere, "d")).toEqual([alice.did]);
    await here.register(registrationOf(alice, clock.time + 2, { capabilities: ["a"] }));
    expect(await didsOf(elsewhere, "a")).toEqual(both);
    await elsewhere.remove(bob.did);
    expect(await here.find("a")).toMatchObject({ found: [[alice.did, { capabilities: ["a"] }]], total: 1 });
  });

  test("who changes what it can do everywhere at once is found by what it says in the end", async () => {
    const { replicas, clock } = await open();
    const all = ["a", "b", "c", "d"];
    for (let round = 0; round < 5; round++) {
      await Promise.all(
        replicas.map((replica, n) =>
          replica.register(
            registrationOf(alice, clock.time + 10 * round + n, {
              capabilities: all.filter((_, index) => (index + n + round) % 3 !== 0),
            }),
          ),
        ),
      );
      const named = (await replicas[0].get(alice.did))?.capabilities ?? [];
      for (const capability of all)
        expect(await didsOf(replicas[1], capability)).toEqual(named.includes(capability) ? [alice.did] : []);
    }
  });

  test("who is removed is gone everywhere, and may come again as one that nobody knew", async () => {
    const { replicas, clock } = await open();
    const [here, there] = replicas;
    await here.register(registrationOf(alice, clock.time, { capabilities: ["a"] }));
    await here.publish(alice.did, prekeys(alice), true);
    expect(await there.remove(alice.did)).toBe(true);
    expect(await here.remove(alice.did)).toBe(false);
    expect(await here.get(alice.did)).toBeUndefined();
    expect(await here.takeBundle(alice.did)).toBeUndefined();
    expect(await here.find(undefined)).toEqual({ found: [], total: 0 });
    expect(await here.register(registrationOf(alice, clock.time))).toBe("registered");
    expect(await there.takeBundle(alice.did)).toBeUndefined();
  });

  test("of those who remove one agent at once, one has removed it", async () => {
    const { replicas, clock } = await open();
    await replicas[0].register(registrationOf(alice, clock.time));
    const outcomes = await Promise.all([...replicas, ...replicas].map((replica) => replica.remove(alice.did)));
    expect(outcomes.filter((isRemoved) => isRemoved)).toHaveLength(1);
    expect(await replicas[0].get(alice.did)).toBeUndefined();
  });

  test("a sign of life is known at once where it was given, and everywhere by and by", async () => {
    const { replicas, clock } = await open();
    const [here, there] = replicas;
    here.seen(bob.did);
    expect(await here.get(bob.did)).toBeUndefined();
    await here.register(registrationOf(alice, clock.time, { capabilities: ["a"] }));
    clock.time += 600_000;
    const at = clock.time;
    here.seen(alice.did);
    expect((await here.get(alice.did))?.lastSeen).toBe(at);
    expect((await here.find("a")).found).toMatchObject([[alice.did, { lastSeen: at }]]);
    await expect.poll(async () => (await there.get(alice.did))?.lastSeen).toBe(at);
    expect(await here.find(undefined)).toMatchObject({ found: [[alice.did, { lastSeen: at }]], total: 1 });
  });
}

/** What may be relied on of who is connected, whatever keeps it and however many replicas there are. */
import { expect, test } from "vitest";
import type { Claim, Place, Presence } from "../../../src/cluster/state.ts";
import { HTTP_HEARTBEAT_EVERY_MS, RELAY_IDLE_MS } from "../../../src/limits.ts";
import { agent, type Clock } from "../world.ts";

export interface PresenceWorld {
  /** Handles on one store; the same one again where there is but one process. */
  readonly replicas: readonly [Presence, Presence, Presence];
  readonly clock: Clock;
}

const alice = agent("alice").did;
const bob = agent("bob").did;

/** A claim whose end can be waited on. */
export function claimOf(provenAt: number | undefined): Claim & { readonly end: Promise<"replaced" | "unproven"> } {
  const { promise: end, resolve: ended } = Promise.withResolvers<"replaced" | "unproven">();
  return { provenAt, ended, end };
}

export async function placeOf(entering: Promise<Place | "outdated" | "unproven">): Promise<Place> {
  const place = await entering;
  if (typeof place === "string") throw new Error(`the claim is ${place}`);
  return place;
}

const isOnline = async (presence: Presence, did = alice) => (await presence.online([did, bob])).has(did);

/** @param open opens three replicas whose clock stands; closes them when the test ends */
export function presenceConformance(open: () => Promise<PresenceWorld>): void {
  test("who entered is online, wherever one asks, until it leaves", async () => {
    const { replicas } = await open();
    const place = await placeOf(replicas[0].enter(alice, claimOf(1)));
    for (const replica of replicas) expect(await replica.online([alice, bob])).toEqual(new Set([alice]));
    place.leave();
    for (const replica of replicas) await expect.poll(() => isOnline(replica)).toBe(false);
  });

  test("the connection that was signed last stands, and the other hears that it was replaced", async () => {
    const { replicas } = await open();
    const earlier = claimOf(1);
    const place = await placeOf(replicas[0].enter(alice, earlier));
    await placeOf(replicas[1].enter(alice, claimOf(2)));
    expect(await earlier.end).toBe("replaced");
    place.leave();
    expect(await replicas[2].enter(alice, claimOf(1))).toBe("outdated");
    expect(await isOnline(replicas[2])).toBe(true);
  });

  test("one signed earlier, or at the same time, is outdated while another stands, and not after it", async () => {
    const { replicas } = await open();
    const place = await placeOf(replicas[0].enter(alice, claimOf(5)));
    for (const replica of replicas) {
      expect(await replica.enter(alice, claimOf(4))).toBe("outdated");
      expect(await replica.enter(alice, claimOf(5))).toBe("outdated");
    }
    place.leave();
    await expect.poll(() => isOnline(replicas[1])).toBe(false);
    await placeOf(replicas[1].enter(alice, claimOf(4)));
  });

  test("who proves nothing gives way to who does, and to a later one of its kind", async () => {
    const { replicas } = await open();
    const [first, second] = [claimOf(undefined), claimOf(undefined)];
    await placeOf(replicas[0].enter(alice, first));
    await placeOf(replicas[1].enter(alice, second));
    expect(await first.end).toBe("replaced");
    await placeOf(replicas[2].enter(alice, claimOf(1)));
    expect(await second.end).toBe("replaced");
    for (const replica of replicas) expect(await replica.enter(alice, claimOf(undefined))).toBe("unproven");
  });

  test("when the holder proves itself, who stands without a proof stands no more", async () => {
    const { replicas } = await open();
    const [without, other] = [claimOf(undefined), claimOf(undefined)];
    await placeOf(replicas[0].enter(alice, without));
    await placeOf(replicas[0].enter(bob, other));
    const proven = claimOf(1);
    replicas[1].proved(alice);
    expect(await without.end).toBe("unproven");
    await expect.poll(() => isOnline(replicas[1])).toBe(false);
    await placeOf(replicas[0].enter(alice, proven));
    replicas[1].proved(alice);
    replicas[1].proved(bob);
    // What was said of alice before was heard when this is.
    expect(await other.end).toBe("unproven");
    expect(await isOnline(replicas[2])).toBe(true);
    expect(await replicas[2].enter(alice, claimOf(1))).toBe("outdated");
  });

  test("of many who enter at once everywhere, the one that was signed last stands alone", async () => {
    const { replicas } = await open();
    const claims = [3, 9, 1, 7, 12, 5, 2, 11, 8, 4, 10, 6].map(claimOf);
    const outcomes = await Promise.all(
      claims.map(async (claim, n) => ({ claim, place: await (replicas[n % 3] ?? replicas[0]).enter(alice, claim) })),
    );
    for (const { claim, place } of outcomes) {
      if (claim.provenAt === 12) expect(place).toHaveProperty("leave");
      else if (typeof place === "string") expect(place).toBe("outdated");
      else expect(await claim.end).toBe("replaced");
    }
    expect(await replicas[0].enter(alice, claimOf(12))).toBe("outdated");
  });

  test("a sign of life counts once in a while, and for a while", async () => {
    const { replicas, clock } = await open();
    expect(await replicas[0].beat(alice)).toBe(true);
    for (const replica of replicas) expect(await replica.beat(alice)).toBe(false);
    for (const replica of replicas) expect(await isOnline(replica)).toBe(true);
    clock.time += HTTP_HEARTBEAT_EVERY_MS;
    expect(await replicas[1].beat(alice)).toBe(true);
    expect(await replicas[0].beat(alice)).toBe(false);
    clock.time += RELAY_IDLE_MS;
    expect(await isOnline(replicas[0])).toBe(true);
    clock.time += 1;
    for (const replica of replicas) expect(await isOnline(replica)).toBe(false);
  });
}

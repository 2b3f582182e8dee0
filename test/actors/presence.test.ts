/** A registry that cannot see who is connected is told so, every half minute, by whoever is. One of ours is left alone. */
import { describe, expect, it } from "vitest";
import { AUTH_SKEW_MAX_MS, HEARTBEAT_MS } from "../../src/limits.ts";
import { PRESENCE_EVERY_MS, PRESENCE_JITTER_MS } from "../../src/machines/presence/limits.ts";
import { openServers, type Places } from "../reference/servers.ts";
import { HEARTBEAT, Laptop, openPlainWorld } from "./plain-world.ts";
import { CalendarClock } from "./systems.ts";
import { call, openWorld } from "./world.ts";

async function presenceOf({ registryUrl }: Places, { did }: Laptop): Promise<{ online: boolean; lastSeen: number }> {
  const response = await fetch(`${registryUrl}/v1/agents/${encodeURIComponent(did)}/presence`);
  const { online, last_seen } = (await response.json()) as { online: boolean; last_seen: string };
  return { online, lastSeen: Date.parse(last_seen) };
}

describe("the reference registry", () => {
  it("hears every half minute that this laptop is here, and nothing of that goes to the disk", async () => {
    const { servers, open } = await openPlainWorld();
    const alice = await open("alice");
    await alice.arrive();
    await alice.node.journal.drained();
    const { head } = alice.node.journal;
    for (let beats = 0; beats < 6; beats++) {
      const before = await presenceOf(servers, alice);
      expect(await alice.beat()).toBe(`${HEARTBEAT} 200`);
      const after = await presenceOf(servers, alice);
      expect(after).toEqual({ online: true, lastSeen: before.lastSeen + PRESENCE_EVERY_MS });
    }
    expect(alice.node.journal.head).toBe(head);
    expect(alice.traffic.count("GET self/prekeys/count"), "what kind of registry it is").toBe(1);
    expect(alice.notes).toEqual([]);
  });

  it("hears nothing more when the link is down, and hears at once when it is up again", async () => {
    const { clock, servers, open } = await openPlainWorld();
    const alice = await open("alice");
    await alice.arrive();
    alice.node.core.link.pause();
    const beats = alice.traffic.count(HEARTBEAT);
    clock.pass(10 * PRESENCE_EVERY_MS);
    expect(await presenceOf(servers, alice)).toMatchObject({ online: false });
    expect(alice.traffic.count(HEARTBEAT)).toBe(beats);
    alice.node.core.link.proceed();
    await alice.until(() => alice.node.presence.value === "arriving");
    await alice.arrive();
    expect(await presenceOf(servers, alice)).toMatchObject({ online: true });
  });

  it("that says it was too soon has heard it all the same", async () => {
    const { open } = await openPlainWorld();
    let alice = await open("alice");
    await alice.arrive();
    alice = await alice.again();
    await alice.until(() => alice.node.presence.value === "arriving");
    const told = alice.traffic.next(HEARTBEAT);
    await alice.arrive();
    expect(await told).toBe(`${HEARTBEAT} 429`);
    expect(alice.node.presence.context).toMatchObject({ failure: null, attempts: 0 });
    expect(alice.notes).toEqual([]);
  });

  it("that cannot be reached is tried again, and that is said once", async () => {
    const { clock, open } = await openPlainWorld();
    const alice = await open("alice");
    await alice.arrive();
    alice.traffic.blocks = (what) => what.startsWith(HEARTBEAT);
    for (let attempt = 0; attempt < 3; attempt++) {
      const heard = alice.traffic.pong();
      clock.pass(PRESENCE_EVERY_MS);
      await heard;
      await alice.until(() => alice.node.presence.context?.attempts === attempt + 1);
    }
    expect(alice.notes).toEqual([expect.stringContaining("does not answer")]);
    alice.traffic.blocks = () => false;
    const told = alice.traffic.next(HEARTBEAT);
    clock.pass(PRESENCE_EVERY_MS);
    expect(await told).toBe(`${HEARTBEAT} 200`);
    await alice.until(() => alice.node.presence.context?.failure === null);
  });

  it("that refuses this laptop because of its clock has not forgotten it, and it is said by how much it is off", async () => {
    const clock = new CalendarClock(Date.now());
    // The servers go by the true time, and this laptop's runs ahead of it.
    const alice = await (await Laptop.open(clock)).join(await openServers(), "alice");
    await alice.arrive();
    for (let passed = 0; passed < AUTH_SKEW_MAX_MS; passed += PRESENCE_EVERY_MS) await alice.beat();
    expect(await alice.beat()).toBe(`${HEARTBEAT} 401`);
    await alice.until(() => alice.node.presence.context?.failure !== null);
    expect((await call(alice.node, "diagnose", {})).presence).toMatchObject({
      state: "beatingLater",
      problem: expect.stringMatching(
        /^This machine's clock is \d minutes ahead of the registry's\. .* Set this machine's clock/,
      ),
    });
    expect(alice.notes).toEqual([expect.stringContaining("ahead of the registry's")]);
    expect(alice.pairing.forgotten).toBeNull();
    expect(alice.traffic.count("POST agents")).toBe(1);
  });
});

describe("a registry of ours", () => {
  /** Its relay and itself, on the same clock as the laptops. */
  async function openOurs() {
    const clock = new CalendarClock(Date.now());
    const { server } = await openWorld({ now: () => clock.now(), every: () => () => undefined });
    return { clock, ours: { relayUrl: server.relayUrl, registryUrl: server.url } };
  }

  it("with a relay of ours is asked once each time that the link comes up, and told nothing", async () => {
    const { clock, ours } = await openOurs();
    const alice = await (await Laptop.open(clock)).join(ours, "alice");
    for (let times = 1; times <= 2; times++) {
      const asked = alice.traffic.next("GET self/prekeys/count");
      clock.pass(PRESENCE_JITTER_MS);
      await asked;
      await alice.until(() => alice.node.presence.value === "seen");
      for (let beats = 0; beats < 10; beats++) {
        const heard = alice.traffic.pong();
        clock.pass(HEARTBEAT_MS);
        await heard;
      }
      expect(await presenceOf(ours, alice)).toMatchObject({ online: true });
      expect(alice.traffic.count("GET self/prekeys/count")).toBe(times);
      alice.node.core.link.pause();
      clock.pass(1);
      alice.node.core.link.proceed();
      await alice.until(() => alice.node.presence.value === "arriving");
    }
    expect(alice.traffic.count(HEARTBEAT)).toBe(0);
  });

  it.each(["relay", "registry"] as const)("is told where the %s alone is ours", async (what) => {
    const { clock, ours } = await openOurs();
    const plain = await openServers({ clock });
    const mixed =
      what === "relay"
        ? { relayUrl: ours.relayUrl, registryUrl: plain.registryUrl }
        : { relayUrl: plain.relayUrl, registryUrl: ours.registryUrl };
    const alice = await (await Laptop.open(clock)).join(mixed, "alice");
    await alice.arrive();
    for (let beats = 0; beats < 3; beats++) expect(await alice.beat()).toBe(`${HEARTBEAT} 200`);
    expect(await presenceOf(mixed, alice)).toMatchObject({ online: true });
  });
});

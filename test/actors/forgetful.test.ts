/** A registry that keeps everything in memory forgets this laptop when it is started again: this laptop notices, and registers again by itself. */
import { expect, it } from "vitest";
import { Keyring } from "../../src/actors/keyring.ts";
import { forgettingText } from "../../src/actors/registry-forgot.ts";
import { generateOneTimePreKeys, generateSignedPreKey, identityFromSeed } from "../../src/crypto/index.ts";
import { ONE_TIME_PREKEYS, RETRY_MIN_MS, SIGNED_PREKEY_MS } from "../../src/limits.ts";
import { FORGOTTEN_TOLD_MS } from "../../src/machines/pairing/limits.ts";
import { PRESENCE_JITTER_MS } from "../../src/machines/presence/limits.ts";
import { ANNOUNCED_EXTENSIONS } from "../../src/wire/registry.ts";
import { HEARTBEAT, Laptop, openPlainWorld } from "./plain-world.ts";
import { call, openWorld } from "./world.ts";

const SEED = new Uint8Array(32).fill(7);
const REGISTRATION = "POST agents";
const DELETION = "DELETE self";

it("within a heartbeat: registration and prekeys stand again, and a peer opens a session", async () => {
  const { servers, open, asker } = await openPlainWorld();
  const [alice, bob] = [await open("alice"), await open("bob")];
  await Promise.all([alice.arrive(), bob.traffic.next(HEARTBEAT)]);
  const before = await asker.bundle(alice.did);
  servers.registry.forget();
  await expect(asker.bundle(alice.did)).rejects.toMatchObject({ code: "peer_without_prekeys" });

  const [answer] = await Promise.all([alice.beat(), bob.isBack()]);
  expect(answer).toBe(`${HEARTBEAT} 401`);
  await alice.isBack();
  expect(await asker.agent(alice.did)).toMatchObject({
    capabilities: ["chat", "alice"],
    metadata: { name: "alice", extensions: ANNOUNCED_EXTENSIONS },
  });
  await bob.say(alice, "hello again");
  expect(await alice.hears(bob)).toEqual(["hello again"]);

  const after = await asker.bundle(alice.did);
  expect(after.signedPreKey).toEqual(before.signedPreKey);
  const { forgotten } = alice.pairing;
  const again = new Date(forgotten?.again ?? 0).toISOString();
  expect((await call(alice.node, "whoami", {})).clusters).toMatchObject([
    { state: "paired", forgotten: { at: new Date(forgotten?.at ?? 0).toISOString(), again, problem: null } },
  ]);
  const told = (await call(alice.node, "whoami", {})).clusters[0]?.forgotten ?? null;
  expect(forgettingText(told, Date.parse(again))).toMatch(
    /^The registry had forgotten this laptop, which was noticed at .* UTC\. It was registered again at .* UTC\.$/,
  );
  expect(forgettingText(told, Date.parse(again) + FORGOTTEN_TOLD_MS), "it is over").toBeUndefined();
  expect(alice.notes).toEqual([
    expect.stringContaining("does not know this laptop any more"),
    expect.stringContaining("registered again"),
  ]);
});

it("no one-time prekey is published twice, and those from before still open sessions", async () => {
  const { clock, servers, open, asker } = await openPlainWorld();
  const [alice, bob] = [await open("alice"), await open("bob")];
  await Promise.all([alice.arrive(), bob.traffic.next(HEARTBEAT)]);
  // Bob's knock is under way, with one of those.
  alice.node.core.link.pause();
  await bob.say(alice, "under way");
  await call(bob.node, "settle", { wait_ms: 10_000 });
  servers.registry.forget();
  await bob.beat();
  await bob.isBack();
  alice.node.core.link.proceed();
  await alice.until(() => alice.node.presence.value === "arriving");
  expect(await alice.hears(bob)).toEqual(["under way"]);
  clock.pass(PRESENCE_JITTER_MS);
  await alice.isBack();

  const ids: (number | undefined)[] = [];
  for (let count = 0; count < ONE_TIME_PREKEYS; count++) ids.push((await asker.bundle(alice.did)).oneTimePreKey?.keyId);
  expect(ids).toEqual(Array.from({ length: ONE_TIME_PREKEYS }, (_, index) => ONE_TIME_PREKEYS + 1 + index));
  expect(alice.node.core.keyring.oneTimePreKey(ONE_TIME_PREKEYS)).toBeDefined();
});

it("with a relay that was started again it is noticed as soon as the link is up", async () => {
  const { clock, servers, open } = await openPlainWorld();
  const alice = await open("alice");
  await alice.arrive();
  servers.registry.forget();
  servers.relay.restart();
  await alice.until(() => alice.node.core.link.value === "waiting");
  clock.pass(RETRY_MIN_MS);
  await alice.until(() => alice.node.presence.value === "arriving");
  clock.pass(PRESENCE_JITTER_MS);
  await alice.isBack();
});

it("by a request of another kind as well, where the relay is away", async () => {
  const { clock, servers, open, asker } = await openPlainWorld();
  const alice = await open("alice");
  await alice.arrive();
  alice.node.core.link.pause();
  servers.registry.forget();
  // The signed prekey is old, and the new one cannot be published.
  clock.pass(SIGNED_PREKEY_MS);
  await alice.isBack();
  expect((await asker.bundle(alice.did)).signedPreKey.keyId).toBe(alice.preKeys.signed);
});

it("a registry that is away for a while is waited for, and the relay is not: after a restart the link comes up", async () => {
  const { clock, servers, open } = await openPlainWorld();
  let alice = await open("alice");
  await alice.arrive();
  servers.registry.forget();
  alice.traffic.blocks = (what) => what.startsWith(REGISTRATION);
  await alice.beat();
  await alice.until(() => alice.pairing.failure !== null);
  expect((await call(alice.node, "whoami", {})).clusters[0]?.forgotten).toMatchObject({
    again: null,
    problem: expect.stringContaining("does not answer"),
  });

  servers.registry.up = false;
  alice = await alice.again();
  await alice.until(() => alice.node.core.link.value === "online");
  expect(alice.pairing.rejoining).toBe(true);
  servers.registry.up = true;
  while (alice.pairing.rejoining) {
    const tried = alice.traffic.next(REGISTRATION);
    clock.pass(60_000);
    await tried;
    await alice.isBack();
  }
});

it("one that forgets again and again is given time, so that it does not get one lot of prekeys after the other", async () => {
  const { clock, servers, open } = await openPlainWorld();
  const alice = await open("alice");
  await alice.arrive();
  servers.registry.forget();
  await alice.beat();
  await alice.isBack();
  await alice.arrive();
  servers.registry.forget();
  await alice.beat();
  await alice.until(() => JSON.stringify(alice.state) === '{"joining":"pausing"}');
  expect(alice.traffic.count(REGISTRATION)).toBe(2);
  clock.pass(60_000);
  await alice.isBack(2);
  expect(alice.traffic.count(REGISTRATION)).toBe(3);
});

it("what the registry has of an earlier registration is replaced once, and not again", async () => {
  const { clock, servers, asker } = await openPlainWorld();
  await asker.register(identityFromSeed(SEED), ["chat", "elder"], { name: "elder" });
  let alice = await (await Laptop.open(clock)).join(servers, "alice", SEED);
  expect(alice.traffic.answered.all.slice(0, 5)).toEqual([
    `${REGISTRATION} 409`,
    "GET self 200",
    `${DELETION} 204`,
    `${REGISTRATION} 201`,
    "PUT self/prekeys 200",
  ]);
  expect(await asker.agent(alice.did)).toMatchObject({
    capabilities: ["chat", "alice"],
    metadata: { name: "alice", extensions: ANNOUNCED_EXTENSIONS },
  });
  alice = await alice.again();
  await alice.join(servers, "alice");
  expect(alice.traffic.count(REGISTRATION)).toBe(1);
  expect(alice.traffic.count(DELETION)).toBe(0);
});

it("where it cannot be replaced, this laptop joins with what there is", async () => {
  const { clock, servers, asker } = await openPlainWorld();
  await asker.register(identityFromSeed(SEED), ["elder"], { name: "elder" });
  const alice = await Laptop.open(clock);
  alice.traffic.blocks = (what) => what === DELETION;
  await alice.join(servers, "alice", SEED);
  expect(alice.notes).toEqual([expect.stringContaining("keeps an older record of this laptop")]);
  expect((await asker.bundle(alice.did)).oneTimePreKey).toBeDefined();
});

it("a home that registered with an earlier version of the program announces what this one understands, once", async () => {
  const { clock, servers, asker } = await openPlainWorld();
  await asker.register(identityFromSeed(SEED), ["alice"], { name: "alice", extensions: "signed-knocks" });
  let alice = await Laptop.open(clock);
  const { system, keyring, ports } = alice.node.core;
  const { identity, patch } = keyring.identityOrNew(SEED);
  const stream = `pairing/${identity.did}`;
  const joined = {
    ...{ type: "JOINED", did: identity.did, controller: identity.did, cluster: "test" },
    ...{ relay_url: servers.relayUrl, registry_url: servers.registryUrl, name: "alice", capabilities: [] },
  };
  const [signed, oneTime] = [
    generateSignedPreKey(identity, 1, ports.random),
    generateOneTimePreKeys(1, 50, ports.random),
  ];
  await system.commit(
    [
      { stream, event: joined },
      { stream, event: { type: "REGISTERED", name: "alice", capabilities: [] } },
      { stream, event: { type: "PREKEYS_MADE", signed: 1, first: 1, count: 50 } },
      { stream, event: { type: "PUBLISHED", signed: 1 } },
    ],
    { secrets: { ...patch, ...Keyring.preKeysPatch(signed, oneTime) } },
  ).durable;
  alice.node.start();
  await alice.until(() => alice.pairing.announced === ANNOUNCED_EXTENSIONS && alice.state === "paired");
  expect(await asker.agent(alice.did)).toMatchObject({ metadata: { extensions: ANNOUNCED_EXTENSIONS } });
  expect(alice.traffic.count(DELETION)).toBe(1);
  expect(alice.pairing.forgotten, "nobody forgot it").toBeNull();

  alice = await alice.again();
  await alice.until(() => alice.node.presence.value === "arriving");
  expect(alice.traffic.count(REGISTRATION)).toBe(0);
});

it("a registration stands while a deployed cluster's controller is asked", async () => {
  const { clock, servers, asker } = await openPlainWorld();
  const alice = await Laptop.open(clock);
  alice.node.start();
  const { did: controller_amid } = identityFromSeed(SEED);
  const token = {
    controller_amid,
    relay_url: servers.relayUrl,
    registry_url: servers.registryUrl,
    secret: "s".repeat(32),
  };
  const pairing = alice.node.membership.pair(
    `azcp_1_${Buffer.from(JSON.stringify(token)).toString("base64url")}`,
    "alice",
  );
  pairing.catch(() => undefined);
  await alice.until(() => alice.node.membership.current !== undefined && alice.state === "asking");
  await alice.until(() => alice.node.presence.value === "arriving");
  await alice.arrive();
  servers.registry.forget();
  await alice.beat();
  await alice.until(() => typeof alice.pairing.forgotten?.again === "number" && alice.state === "asking");
  expect(alice.pairing).toMatchObject({ asking: { asks: expect.any(Number) }, rejoining: false });
  expect((await asker.bundle(alice.did)).signedPreKey.keyId).toBe(1);
});

it("one of ours that lost its memory is registered with again, too", async () => {
  const { clock } = await openPlainWorld();
  const { server } = await openWorld({ now: () => clock.now(), every: () => () => undefined });
  const ours = { relayUrl: server.relayUrl, registryUrl: server.url };
  const alice = await (await Laptop.open(clock)).join(ours, "alice");
  const { registry, keyring } = alice.node.core;
  await registry().remove(keyring.identity);
  clock.pass(PRESENCE_JITTER_MS);
  await alice.isBack();
  expect((await registry().agent(alice.did)).metadata).toMatchObject({ name: "alice" });
});

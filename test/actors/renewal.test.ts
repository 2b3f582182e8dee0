/** Sessions with plain clients, which lose them without a word. */
import { randomBytes, randomUUID } from "node:crypto";
import { join } from "node:path";
import { expect, it } from "vitest";
import { until } from "../../src/actors/inbox.ts";
import { RENEW_AFTER_MS, RENEW_QUIET_MS } from "../../src/actors/limits.ts";
import { realNetwork } from "../../src/actors/network.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { type Ports, realClock, realPorts } from "../../src/actors/ports.ts";
import type { SessionContext } from "../../src/machines/session/events.ts";
import { ReferenceClient } from "../reference/client.ts";
import { openServers, type Servers } from "../reference/servers.ts";
import { Laptop } from "../scenarios/laptop.ts";
import { openLocal, openStandIns } from "../scenarios/stage.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { call, filtered, openNode } from "./world.ts";

/** Real ports with a clock that can be put forward. What it was asked to wake for before comes late. */
function shifted(): { readonly ports: Ports; readonly forward: (milliseconds: number) => void } {
  let shift = 0;
  const clock = {
    now: () => realClock.now() + shift,
    at: (time: number, callback: () => void) => realClock.at(time - shift, callback),
  };
  return { ports: { ...realPorts(realNetwork), clock }, forward: (milliseconds) => (shift += milliseconds) };
}

async function openLaptop({ relayUrl, registryUrl }: Servers, ports: Ports): Promise<MeshNode> {
  const node = await openNode({ home: join(await temporaryDirectory(), "laptop"), ports });
  node.start();
  const place = { controller: null, cluster: "plain", relayUrl, registryUrl };
  await node.membership.join({ ...place, name: "laptop", capabilities: ["chat"] });
  return node;
}

const sessionsWith = (node: MeshNode, peer: string): SessionContext[] =>
  [...node.core.system.streams("session")]
    .map(([, { snapshot }]): SessionContext => snapshot.context)
    .filter((session) => session.peer === peer);
const didOf = (node: MeshNode) => node.core.keyring.identity.did;

/** A laptop and a client that have each heard the other. */
async function acquainted(manner: "typescript" | "python") {
  const servers = await openServers();
  const { ports, forward } = shifted();
  const laptop = await openLaptop(servers, ports);
  const client = await ReferenceClient.open(servers, { manner });
  const say = async (message: string) => (await call(laptop, "send", { to: client.did, message })).id;
  const first = await say("hello");
  await client.heard.first(({ id }) => id === first);
  await client.say(didOf(laptop), { type: "message", content: "hello yourself" });
  const isHeard = () => laptop.core.messages.hasUnread(client.did);
  const patience = { timeoutMs: 10_000, signal: laptop.signal, concerns: () => true };
  expect(await until(laptop, isHeard, patience)).toBe(true);
  return { servers, laptop, client, say, forward };
}

it.each(["typescript", "python"] as const)(
  "a client that restarted while it was silent is knocked at before it is written to (%s)",
  async (manner) => {
    const { laptop, client, say, forward } = await acquainted(manner);
    await client.restart();
    forward(RENEW_AFTER_MS + 1);
    const id = await say("are you there?");
    await client.heard.first((message) => message.id === id);
    expect(sessionsWith(laptop, client.did)).toMatchObject([
      { role: "initiator" },
      { role: "initiator", encrypted: 1 },
    ]);
  },
);

it("a look at the registry that shows no restart does not put off another session: our side may have lost it", async () => {
  const stage = await openStandIns();
  const laptop = await Laptop.open(stage);
  const client = await ReferenceClient.open(stage, { manner: "typescript", clock: stage.clock });
  const say = async (message: string) => {
    const [id] = await laptop.say(client.did, message);
    await client.heard.first((heard) => heard.id === id);
  };
  await say("hello");
  await client.say(laptop.did, { type: "message", content: "hello yourself" });
  await laptop.hears(client.did, "hello yourself");
  await say("are you there?");
  const { asked } = stage.standIns.registry;
  const { length } = asked.all;
  await stage.clock.passes(RENEW_AFTER_MS);
  await asked.first(({ http }) => http === `GET /v1/agents/${encodeURIComponent(client.did)}/prekeys`, length);
  await say("and now?");
  expect(laptop.sessions(client.did)).toMatchObject([
    { role: "initiator", encrypted: 2 },
    { role: "initiator", encrypted: 1 },
  ]);
});

it("a restored home that says something before it is back lets what its copy had sealed leave first, and opens another session", async () => {
  const stage = await openLocal();
  let copies = false;
  const { network } = filtered(({ type }, direction) => {
    if (copies && direction === "out" && type === "message") {
      copies = false;
      laptop.copy();
    }
    return true;
  });
  const laptop = await Laptop.open(stage, { network });
  const client = await ReferenceClient.open(stage, { manner: "typescript", clock: stage.clock });
  const readBy = async (id = "") => client.heard.first((heard) => heard.id === id);
  const hello = async (words: string) => {
    await client.say(laptop.did, { type: "message", content: words });
    await laptop.hears(client.did, words);
  };
  await hello("hello");
  copies = true;
  const [copied = ""] = await laptop.say(client.did, "ours, in the copy");
  await readBy(copied);
  // Both ratchets turn.
  await hello("hello again");
  await readBy((await laptop.say(client.did, "ours, not in the copy"))[0]);
  await laptop.restore();
  laptop.leave();
  await stage.clock.passes(RENEW_AFTER_MS);
  const [id] = await laptop.say(client.did, "said before it was back");
  laptop.comeBack();
  await laptop.became(client.did, [copied], "sent");
  await stage.clock.passes(RENEW_QUIET_MS);
  await readBy(id);
  expect(client.heard.all.map((heard) => heard.id).filter((heard) => heard === copied)).toHaveLength(1);
});

it("a client that the registry has forgotten is written to in the last session", async () => {
  const { servers, laptop, client, say, forward } = await acquainted("typescript");
  servers.registry.forget();
  forward(RENEW_AFTER_MS + 1);
  const id = await say("are you there?");
  await client.heard.first((message) => message.id === id);
  expect(sessionsWith(laptop, client.did)).toHaveLength(1);
});

it("frames that nobody can read do not end a session in which the client was heard lately", async () => {
  const { servers, laptop, client, say } = await acquainted("typescript");
  const header = { dh: randomBytes(32).toString("base64"), pn: 0, n: 0 };
  const forged = { v: 1, type: "message", from: client.did, to: didOf(laptop), header, id: randomUUID() };
  servers.relay.deliver({ ...forged, ciphertext: randomBytes(60).toString("base64") });
  await servers.relay.acked.first(({ id }) => id === forged.id);
  expect(laptop.incoming.countersOf(client.did)?.unreadable).toBe(1);
  const id = await say("still there?");
  await client.heard.first((message) => message.id === id);
  expect(sessionsWith(laptop, client.did)).toHaveLength(1);
});

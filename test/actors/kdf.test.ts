/** Peers of the old generation derive the shared key in another way, and do not say so. */
import { randomBytes, randomUUID } from "node:crypto";
import { expect, it } from "vitest";
import { until } from "../../src/actors/inbox.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { base64, x25519KeyPair } from "../../src/crypto/index.ts";
import type { SessionContext } from "../../src/machines/session/events.ts";
import { Chat } from "../../src/wire/payload.ts";
import { ReferenceClient } from "../reference/client.ts";
import { call, openWorld, type World } from "./world.ts";

const random = (length: number) => new Uint8Array(randomBytes(length));
const chat = (content: string) => ({ type: "message", content });

/** @param proves whether it registers and connects as clients of today do, so that nothing shows how old it is */
const openOld = ({ places }: World, proves: boolean) =>
  ReferenceClient.open(places, { manner: "npm4", proves, oneTimePreKeys: 0 });

const sessionsOf = (node: MeshNode): SessionContext[] =>
  [...node.core.system.streams("session")].map(([, state]): SessionContext => state.snapshot.context);
const patience = (node: MeshNode) => ({ timeoutMs: 20_000, signal: node.signal, concerns: () => true });
/** All that an old client read, in order, when it is so much. */
async function hears({ heard }: ReferenceClient, count: number): Promise<string[]> {
  await heard.first(() => heard.all.length >= count);
  return heard.all.map(({ payload }) => Chat.parse(payload).content);
}
const next = async (node: MeshNode, from: string) => (await call(node, "await", { from: [from] })).messages[0]?.body;

it("a knock leaves it open, the first message that authenticates settles it, over restarts and forgeries", async () => {
  const world = await openWorld({ allowUnproven: true });
  const first = await world.open("alice");
  const { did } = first.core.keyring.identity;
  const old = await openOld(world, false);
  const from = old.did;
  const session = await old.knock(did);
  await old.came.first(({ type }) => type === "knock_accept");
  expect(sessionsOf(first)).toMatchObject([{ id: session, role: "responder", kdf: null }]);
  await first.close();

  const node = await world.open("alice");
  const header = { dh: base64.encode(x25519KeyPair(random(32)).public), pn: 0, n: 0 };
  const forged = { v: 1, type: "message", from, to: did, id: randomUUID() };
  old.forge({ ...forged, header, ciphertext: base64.encode(random(60)) });
  await old.say(did, chat("hello"));
  expect(await next(node, from)).toBe("hello");
  expect(node.incoming.countersOf(from)).toMatchObject({ unreadable: 1 });
  expect(sessionsOf(node)).toMatchObject([{ id: session, kdf: "npm4", decrypted: 1 }]);
  await call(node, "send", { to: from, message: "hello yourself" });
  expect(await hears(old, 1)).toEqual(["hello yourself"]);
  await node.close();

  const again = await world.open("alice");
  await old.say(did, chat("still there?"));
  expect(await next(again, from)).toBe("still there?");
});

it("as the initiator we go by how the peer registered", async () => {
  const world = await openWorld({ allowUnproven: true });
  const node = await world.open("alice");
  const old = await openOld(world, false);
  await call(node, "send", { to: old.did, message: "hello" });
  expect(await hears(old, 1)).toEqual(["hello"]);
  expect(sessionsOf(node)).toMatchObject([{ role: "initiator", kdf: "npm4" }]);
});

it("what a peer has spoken ends the sessions in which it understood nothing, and is remembered", async () => {
  const world = await openWorld();
  const node = await world.open("alice");
  const { did } = node.core.keyring.identity;
  const old = await openOld(world, true);
  const to = old.did;
  await call(node, "send", { to, message: "in the wrong tongue" });
  // It could not read that, and let go of the session.
  await old.problems.first((problem) => problem.startsWith("session_desync"));
  const session = await old.knock(did);
  await old.say(did, chat("hello"));
  expect(await next(node, to)).toBe("hello");
  expect(sessionsOf(node)).toMatchObject([
    { role: "initiator", kdf: "current", closed: expect.any(String) },
    { id: session, role: "responder", kdf: "npm4", closed: null },
  ]);
  const { id } = await call(node, "send", { to, message: "now you read me" });
  // What it could not read is said again.
  expect(await hears(old, 2)).toEqual(["in the wrong tongue", "now you read me"]);

  await call(node, "sent", { to, id, wait_ms: 20_000 });
  const lost = { type: "SESSION_LOST", session, code: "peer_refused" };
  await node.core.system.commit([{ stream: `conversation/${to}`, event: lost }]).durable;
  old.closeSession(did);
  await call(node, "send", { to, message: "from the beginning" });
  await old.heard.first(({ payload }) => Chat.parse(payload).content === "from the beginning");
  expect(await until(node, () => sessionsOf(node).length === 3, patience(node))).toBe(true);
});

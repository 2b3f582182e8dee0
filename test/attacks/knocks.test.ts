/** A knock proves nothing of who sent it: keys of a DID are public, and so is everything that a knock carries. */
import { randomBytes, randomUUID } from "node:crypto";
import { expect, it } from "vitest";
import { base64, x25519KeyPair } from "../../src/crypto/index.ts";
import { SESSIONS_PER_PEER_MAX } from "../../src/limits.ts";
import { Knock } from "../../src/wire/frame.ts";
import { call, openWorld } from "../actors/world.ts";
import { ReferenceClient } from "../reference/client.ts";
import { comes, didOf, hears, openPair, say, sessionsOf, tapped } from "./world.ts";

/** Knocks as anyone can make them of one that was seen: other keys, other ids. */
const forged = (knock: Knock, count: number): Knock[] =>
  Array.from({ length: count }, () => {
    const ek = base64.encode(x25519KeyPair(new Uint8Array(randomBytes(32))).public);
    return { ...knock, id: randomUUID(), establishment: { ...knock.establishment, ek, otk: undefined } };
  });

it("a flood of knocks in the name of a plain peer ends no session that it has spoken in", async () => {
  const world = await openWorld();
  const bob = await world.open("bob");
  // The TypeScript client ends its own session at the first reject that it is sent, whoever knocked.
  const alice = await ReferenceClient.open(world.places, { manner: "python" });
  await alice.say(didOf(bob), "one");
  await hears(bob, alice.did, "one");
  const knock = Knock.parse(alice.sent.all.find(({ type }) => type === "knock"));
  for (const each of forged(knock, 2 * SESSIONS_PER_PEER_MAX)) await comes(bob, each);
  const open = sessionsOf(bob).filter(({ closed }) => closed === null);
  expect(open).toHaveLength(SESSIONS_PER_PEER_MAX);
  expect(open[0]).toMatchObject({ id: knock.id, decrypted: 1 });
  await alice.say(didOf(bob), "two");
  await hears(bob, alice.did, "two");
  await call(bob, "send", { to: alice.did, message: "two back" });
  await alice.heard.first(() => true);
});

it("a knock in the name of a peer that signs its knocks opens nothing", async () => {
  const tap = tapped();
  const { alice, bob } = await openPair({ alice: tap.ports });
  await say(alice, bob, "one");
  const [knock] = tap.knocks;
  if (!knock) throw new Error("no knock");
  const { signature, ...unsigned } = knock.establishment;
  expect(signature).toBeDefined();
  const [other] = forged(knock, 1);
  if (!other) throw new Error("no forgery");
  await comes(bob, other);
  await comes(bob, { ...other, establishment: { ...unsigned, ek: other.establishment.ek } });
  await comes(bob, { ...knock, id: randomUUID() });
  expect(sessionsOf(bob)).toMatchObject([{ id: knock.id, closed: null }]);
  await say(alice, bob, "two");
});

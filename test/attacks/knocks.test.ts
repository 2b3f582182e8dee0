/** A knock proves nothing of who sent it: keys of a DID are public, and so is everything that a knock carries. */
import { randomBytes, randomUUID } from "node:crypto";
import { expect, it } from "vitest";
import { base64, x25519KeyPair } from "../../src/crypto/index.ts";
import { SESSIONS_PER_PEER_MAX } from "../../src/limits.ts";
import { comes, openPair, say, sessionsOf, tapped } from "./world.ts";

it("a flood of knocks in a peer's name ends no session that it has spoken in", async () => {
  const tap = tapped();
  const { alice, bob } = await openPair({ alice: tap.ports });
  await say(alice, bob, "one");
  const [knock] = tap.knocks;
  if (!knock) throw new Error("no knock");
  for (let n = 0; n < 2 * SESSIONS_PER_PEER_MAX; n++) {
    const ek = base64.encode(x25519KeyPair(new Uint8Array(randomBytes(32))).public);
    await comes(bob, { ...knock, id: randomUUID(), establishment: { ...knock.establishment, ek, otk: undefined } });
  }
  const open = sessionsOf(bob).filter(({ closed }) => closed === null);
  expect(open).toHaveLength(SESSIONS_PER_PEER_MAX);
  expect(open[0]).toMatchObject({ id: knock.id, decrypted: 1 });
  await say(alice, bob, "two");
  await say(bob, alice, "two back");
});

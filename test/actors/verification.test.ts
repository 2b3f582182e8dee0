/** Safety numbers: what two people compare to know that each has the other's true DID. */
import { describe, expect, it } from "vitest";
import { didOf } from "../../src/crypto/index.ts";
import { call, openWorld } from "./world.ts";

async function two() {
  const world = await openWorld();
  const [alice, bob] = [await world.open("alice"), await world.open("bob")];
  const [a, b] = [alice, bob].map((node) => node.core.keyring.identity);
  if (!a || !b) throw new Error("no identity");
  return { world, alice, bob, a, b };
}

describe("a safety number", () => {
  it("is the same at both ends, and recorded at the one that compared it", async () => {
    const { alice, bob, a, b } = await two();
    const shown = await call(alice, "verify", { peer: "bob" });
    expect(shown).toMatchObject({ did: b.did, verified_at: null, number: expect.stringMatching(/^\d{60}$/) });
    const spaced = shown.number.replaceAll(/(.{5})/g, "$1 ");
    const recorded = await call(bob, "verify", { peer: a.did, number: spaced, record: "verified" });
    expect(recorded).toMatchObject({ number: shown.number, verified_at: expect.any(String) });
    expect((await call(bob, "peers", {})).peers).toMatchObject([{ did: a.did, verified_at: recorded.verified_at }]);
    expect((await call(alice, "peers", {})).peers).toMatchObject([{ did: b.did, verified_at: null }]);
    await call(bob, "verify", { peer: a.did, record: "unverified" });
    expect((await call(bob, "peers", {})).peers).toMatchObject([{ verified_at: null }]);
  });

  it("that is another one records nothing", async () => {
    const { alice, b } = await two();
    const { number } = await call(alice, "verify", { peer: b.did });
    const other = `${number.slice(1)}${number[0]}`;
    await expect(call(alice, "verify", { peer: b.did, number: other, record: "verified" })).rejects.toMatchObject({
      code: "safety_number_mismatch",
    });
    expect((await call(alice, "verify", { peer: b.did })).verified_at).toBeNull();
  });

  it("of nobody whose key is known cannot be told", async () => {
    const { alice } = await two();
    const stranger = didOf(new Uint8Array(32).fill(9));
    await expect(call(alice, "verify", { peer: stranger })).rejects.toMatchObject({ code: "peer_unknown" });
  });
});

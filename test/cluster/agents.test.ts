import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { type EmbeddedAgents, openAgents } from "../../src/cluster/embedded/agents.ts";
import { base64url } from "../../src/crypto/index.ts";
import { realDisk } from "../../src/store/disk.ts";
import { agent, prekeys, temporaryDirectory } from "./world.ts";

const alice = agent("alice");
const NOW = Date.parse("2026-03-01T12:00:00Z");

async function open(directory: string, rewriteSizeMin?: number): Promise<EmbeddedAgents> {
  const more = rewriteSizeMin === undefined ? {} : { rewriteSizeMin };
  const agents = await openAgents({ disk: realDisk, directory, now: () => NOW, ...more });
  onTestFinished(() => agents.close());
  return agents;
}

test("a rewritten journal says what the long one said", async () => {
  const directory = await temporaryDirectory();
  const agents = await open(directory);
  const facts = { did: alice.did, publicKey: base64url.encode(alice.publicKey), metadata: { k: "v" } };
  for (let n = 0; n < 50; n++) await agents.register({ ...facts, capabilities: [`c${n}`], provedAt: NOW + n });
  await agents.publish(alice.did, prekeys(alice, { count: 5 }), true);
  await agents.takeBundle(alice.did);
  await agents.rate(alice.did, "did:mesh:0", 1, "good");
  const before = await agents.get(alice.did);
  await agents.close();

  const rewritten = await open(directory, 1);
  expect(await readdir(join(directory, "registry"))).toEqual(["2", "generation"]);
  expect(await rewritten.get(alice.did)).toEqual(before);
  await rewritten.close();
  expect(await (await open(directory)).get(alice.did)).toEqual(before);
});

test("of two who take the last prekey, one gets it", async () => {
  const agents = await open(await temporaryDirectory());
  const facts = { did: alice.did, publicKey: base64url.encode(alice.publicKey), metadata: {}, capabilities: [] };
  await agents.register({ ...facts, provedAt: NOW });
  await agents.publish(alice.did, prekeys(alice, { count: 1 }), true);
  const bundles = await Promise.all([agents.takeBundle(alice.did), agents.takeBundle(alice.did)]);
  expect(bundles.map((bundle) => bundle?.one_time_pre_key?.key_id)).toEqual([0, undefined]);
});

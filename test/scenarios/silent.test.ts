/** A plain peer that never answers: what we keep for it stays small, and nothing that we said is lost here. */
import { expect, it } from "vitest";
import { RENEW_EVERY_MAX_MS } from "../../src/actors/limits.ts";
import { PLAIN_UNCONFIRMED_KEPT, SESSIONS_PER_PEER_MAX } from "../../src/limits.ts";
import { Laptop, texts } from "./laptop.ts";
import { STAND_INS } from "./peers.ts";
import { openStandIns } from "./stage.ts";

const PAUSE_MS = 20 * 60_000;

it.each(STAND_INS)("$name that is away for two hours: it reads what we said, or that is uncertain", async (kind) => {
  const stage = await openStandIns();
  const [laptop, peer] = [await Laptop.open(stage), await kind.open(stage)];
  await peer.away?.leave();
  const said = texts("ours", 0, 18);
  const ids: string[] = [];
  for (let begin = 0; begin < said.length; begin += 3) {
    ids.push(...(await laptop.say(peer.did, ...said.slice(begin, begin + 3))));
    await laptop.became(peer.did, ids, "sent");
    await stage.clock.passes(PAUSE_MS);
  }
  const open = laptop.sessions(peer.did).filter(({ closed }) => closed === null);
  expect(open.length).toBeLessThanOrEqual(SESSIONS_PER_PEER_MAX);
  expect(laptop.conversation(peer.did).outbox).toEqual([]);
  await peer.away?.comeBack();
  if (kind.manner === "typescript") {
    await peer.until(() => peer.received.length === said.length);
    expect(peer.received).toEqual(said);
  }
  // A client that comes back with other keys makes garbage of the knocks that waited for it, and is mute and deaf until the next.
  await stage.clock.passes(RENEW_EVERY_MAX_MS);
  await laptop.say(peer.did, "ours last");
  await peer.until(() => peer.received.includes("ours last"));
  await peer.say(laptop.did, "theirs");
  await laptop.heard(peer.did, 1);
  for (const [index, id] of ids.entries())
    if (!peer.received.includes(said[index] ?? "")) expect(laptop.state(peer.did, id)).toBe("uncertain");
});

it("one to whom thousands of messages go: a bounded number of them is kept to go again, and all count as sent", async () => {
  const [kind] = STAND_INS;
  const stage = await openStandIns();
  if (!kind) throw new Error("no kind");
  const [laptop, peer] = [await Laptop.open(stage), await kind.open(stage)];
  await peer.away?.leave();
  const ids = await laptop.say(peer.did, ...texts("ours", 0, PLAIN_UNCONFIRMED_KEPT + 100));
  await laptop.became(peer.did, ids, "sent");
  expect(laptop.conversation(peer.did).unconfirmed).toHaveLength(PLAIN_UNCONFIRMED_KEPT);
});

/** Frames with a wrong value in one field, whichever it is: counted, and nothing else. */
import { randomUUID } from "node:crypto";
import { expect, it } from "vitest";
import { until } from "../../src/actors/inbox.ts";
import { identityFromSeed, sha256, utf8 } from "../../src/crypto/index.ts";
import { safeParse } from "../../src/parse.ts";
import { CLOSE, ClientFrame } from "../../src/wire/frame.ts";
import { call, filtered, openWorld } from "../actors/world.ts";
import { connectFrame, openSocket } from "../cluster/world.ts";
import { bent, counted, dealtWith, didOf, openPair, say, standing, tapped } from "./world.ts";

type Json = { readonly [field: string]: unknown };
const mallory = identityFromSeed(sha256(utf8.encode("mallory")));

/** No text, number, list or object that was meant. Some are written as JSON, since no value of ours is written so. */
const HUGE = '"<huge>"';
const TEXTS: readonly string[] = [
  ...["null", "true", "0", "-1", "0.5", "4294967296", "9007199254740993", "-0", "1e999", '"1"', '"NaN"', '""', '" "'],
  ...["[]", "[[]]", "{}", '{"length":{"toString":null}}', '{"__proto__":{"type":"message"}}', '"\\u0000"', '"é"'],
  ...[`${"[".repeat(5_000)}${"]".repeat(5_000)}`, HUGE, '"did:mesh:00"', '"AAAA"', `"${"A".repeat(43)}="`],
];

/** Every frame that differs from this one in one field, at any depth, as it is written: wrong, or not there. */
function* spoilt(frame: Json, path: readonly string[] = []): Generator<string> {
  const mark = "<spoilt>";
  const at = path.reduce<unknown>((value, name) => (value as Json)[name], frame);
  for (const [name, value] of Object.entries(at as Json)) {
    const here = [...path, name];
    const put = (change: unknown): unknown => {
      const copy = structuredClone(frame);
      const parent = path.reduce<unknown>((each, step) => (each as Json)[step], copy) as Record<string, unknown>;
      if (change === undefined) delete parent[name];
      else parent[name] = change;
      return copy;
    };
    yield JSON.stringify(put(undefined));
    const written = JSON.stringify(put(mark));
    for (const text of TEXTS)
      yield written.replace(`"${mark}"`, () => (text === HUGE ? `"${"A".repeat(70_000)}"` : text));
    if (typeof value === "object" && value !== null && !Array.isArray(value)) yield* spoilt(frame, here);
  }
}

/** Texts that are no frame at all. */
const NOTHING = ["", "{", "null", "[]", "7", '"frame"', "{}", '{"v":1}', '{"v":2,"type":"message"}', "\u0000", "NaN"];

const PATIENCE = { timeoutMs: 20_000, signal: new AbortController().signal };

/** Two laptops that have spoken both ways, and a genuine frame of each kind that the second had of the first. */
async function openTalk(notes: string[]) {
  const [tap, relay] = [tapped(), bent()];
  const { world, alice, bob } = await openPair({ alice: tap.ports, bob: relay.ports }, (text) => notes.push(text));
  await say(alice, bob, "one");
  await say(bob, alice, "one back");
  await say(alice, bob, "two");
  // Receipts that are still owed would move what is compared.
  for (const node of [alice, bob]) await call(node, "settle", {});
  await Promise.all([alice, bob].map(dealtWith));
  const [knock, message] = [tap.knocks[0], tap.messages.at(-1)];
  if (!knock || !message) throw new Error("nothing was sent");
  const routed = { v: 1, from: didOf(alice), to: didOf(bob), ts: new Date().toISOString() };
  const frames: readonly Json[] = [
    knock,
    { ...message, id: "m", message_id: "n" },
    { ...routed, type: "knock_accept", id: "a", knock_id: knock.id },
    { ...routed, type: "knock_reject", id: "r", knock_id: knock.id, reason: "policy_denied" },
    { v: 1, type: "connected", extensions: ["accepted"], pending: 3 },
    { v: 1, type: "accepted", id: "x" },
    { v: 1, type: "error", code: "full", id: "x", message: "m", detail: "d" },
  ];
  return { world, alice, bob, frames, says: relay.says };
}

it("from a relay: what is not understood is counted as malformed, and nothing moves", async () => {
  const notes: string[] = [];
  const { alice, bob, frames, says } = await openTalk(notes);
  const before = standing(bob);
  let [said, malformed] = [0, 0];
  for (const frame of frames) {
    for (const text of [...spoilt(frame), ...NOTHING]) {
      const parsed = safeParse(ClientFrame, text === "" ? undefined : readJson(text)).data;
      const isOurs = parsed && (!("to" in parsed) || parsed.to === didOf(bob));
      if (!isOurs) malformed++;
      says(text);
      said++;
      // One after the other, so that none is left at the relay because too many wait.
      if (said % 100 === 0) await dealtWith(bob);
    }
    await dealtWith(bob);
    expect({ type: frame.type, standing: standing(bob) }).toEqual({ type: frame.type, standing: before });
  }
  expect(bob.core.link.malformed).toBe(malformed);
  expect(said - malformed).toBeLessThan(said / 3);
  expect(
    notes.filter(
      (note) =>
        !/^(?:The relay reports|The relay passed on a frame|A knock from .* came a second time|A knock in the name of .* was not signed by it)/.test(
          note,
        ),
    ),
  ).toEqual([]);
  const { duplicates, unreadable } = await counted(bob, alice);
  expect(duplicates + unreadable).toBeGreaterThan(0);
  await say(alice, bob, "three");
  await say(bob, alice, "three back");
});

/** Lists in lists are no JSON to a laptop when they are too deep. */
function readJson(text: string): unknown {
  try {
    if (text.includes("[".repeat(100))) return undefined;
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

it("as the first frame to a relay: it ends the connection, whatever is wrong with it", async () => {
  const { server } = await openWorld();
  const connect = connectFrame(mallory, new Date().toISOString());
  // Clients of the reference relay may leave the version out: without it this one is let in.
  const spoiltOnes = [...spoilt({ v: 1, ...connect })].filter((text) => text !== JSON.stringify(connect));
  const codes = new Set<number>();
  for (const text of [...spoiltOnes, ...NOTHING]) {
    const socket = await openSocket(server);
    socket.send(text);
    codes.add(await socket.ended);
  }
  expect([...codes].sort()).toEqual([
    CLOSE.tooLarge,
    CLOSE.connectExpected,
    CLOSE.fromMissing,
    CLOSE.possessionUnproved,
  ]);
});

it("through a relay, from an agent that it knows: nothing moves, nobody's connection ends, and nothing fills the mailbox", async () => {
  const { world, alice, bob, frames } = await openTalk([]);
  const socket = await openSocket(world.server);
  socket.send({ ...connectFrame(mallory, new Date().toISOString()), extensions: ["accepted"] });
  expect(await socket.next()).toMatchObject({ type: "connected" });
  const known = new Set(["knock", "knock_accept", "knock_reject"]);
  let sent = 0;
  for (const frame of frames.filter(({ type }) => known.has(String(type)))) {
    // The relay takes a frame whose id it has had for the same one.
    for (const text of spoilt({ ...frame, from: mallory.did, id: "<id>" })) {
      socket.send(text.replace("<id>", () => randomUUID()));
      sent++;
    }
  }
  for (const text of [...spoilt({ v: 1, type: "ack", id: randomUUID(), sender: didOf(alice) }), ...NOTHING])
    socket.send(text);
  await socket.read();
  // What is sent later comes later.
  await say(alice, bob, "three");
  await say(bob, alice, "three back");
  await dealtWith(bob);
  expect(JSON.stringify(standing(bob))).not.toContain(mallory.did);
  expect((await call(bob, "peers", {})).peers.map(({ did }) => did)).toEqual([didOf(alice)]);
  expect(bob.core.link.malformed).toBeGreaterThan(sent / 3);
});

it("left in the mailbox of one who is away: the node that comes back has caught up all the same, and has no such mail again", async () => {
  const { world, bob: first } = await openTalk([]);
  const to = didOf(first);
  await first.close();
  const socket = await openSocket(world.server);
  socket.send({ ...connectFrame(mallory, new Date().toISOString()), extensions: ["accepted"] });
  await socket.next();
  for (let n = 0; n < 20; n++) socket.send({ type: n % 2 ? "message" : "of_tomorrow", to, id: `${n}`, ciphertext: n });
  await socket.take(20);
  const pending: unknown[] = [];
  const ports = filtered((frame, direction) => {
    if (direction === "in" && frame.type === "connected") pending.push(frame.pending);
    return true;
  });
  for (let time = 0; time < 2; time++) {
    const node = await world.open("bob", ports);
    await until(node, () => node.core.link.caughtUp, { ...PATIENCE, concerns: () => true });
    expect(node.core.link.caughtUp).toBe(true);
    await node.close();
  }
  expect(pending).toEqual([20, 0]);
});

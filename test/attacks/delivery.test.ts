/** What a relay, or who speaks through one, may do with frames: repeat, reorder, forge, swell. Each has its counter and its bound. */
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { type WebSocket, WebSocketServer } from "ws";
import { realNetwork } from "../../src/actors/network.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { queued } from "../../src/actors/settling.ts";
import {
  base64,
  decodeHeader,
  encodeHeader,
  identityFromSeed,
  SKIP_MAX,
  sha256,
  utf8,
  x25519KeyPair,
} from "../../src/crypto/index.ts";
import {
  EARLY_FRAMES_ALL_MAX,
  EARLY_FRAMES_MAX,
  EARLY_SIZE_MAX,
  FRAME_SIZE_MAX,
  INBOUND_FRAMES_MAX,
} from "../../src/limits.ts";
import { Message } from "../../src/wire/frame.ts";
import { call } from "../actors/world.ts";
import { Client, connectFrame, openSocket } from "../cluster/world.ts";
import { flip } from "../crypto/world.ts";
import { bent, comes, counted, dealtWith, didOf, heard, inbox, openPair, say, standing, tapped } from "./world.ts";

const random = (length: number) => new Uint8Array(randomBytes(length));
const newKey = () => base64.encode(x25519KeyPair(random(32)).public);

/** The frame under an id that was not seen before: its contents decide. */
const renamed = (frame: Message, change: Partial<Message> = {}): Message => ({ ...frame, id: randomUUID(), ...change });

/** Two laptops that have spoken both ways, one of them with a relay that says what it likes. */
async function openTalk() {
  const [tap, relay] = [tapped(), bent()];
  const { alice, bob, world } = await openPair({ alice: tap.ports, bob: relay.ports });
  await say(alice, bob, "one");
  await say(bob, alice, "one back");
  await say(alice, bob, "two");
  await Promise.all([alice, bob].map(dealtWith));
  return { world, alice, bob, tap, says: relay.says };
}

/** The same, with words of the first on their way to the second that the relay holds back. */
async function openHeld(words: readonly string[]) {
  let isHeld = false;
  const held: Message[] = [];
  const all = Promise.withResolvers<void>();
  const tap = tapped((frame) => {
    if (frame.type !== "message" || !isHeld) return true;
    if (held.push(Message.parse(frame)) === words.length) all.resolve();
    return false;
  });
  const { alice, bob } = await openPair({ alice: tap.ports });
  await say(alice, bob, "one");
  await say(bob, alice, "one back");
  // What the relay has to say of it must not come into what is compared.
  await vi.waitFor(() => expect(queued(bob)).toBe(0));
  isHeld = true;
  await Promise.all(words.map((message) => call(alice, "send", { to: didOf(bob), message })));
  await all.promise;
  return { alice, bob, held };
}

describe("forged frames", () => {
  it("thousands of them in a peer's name move nothing, and each is counted", async () => {
    const { alice, bob, tap, says } = await openTalk();
    const [genuine] = tap.messages.slice(-1);
    if (!genuine) throw new Error("nothing was sent");
    const before = standing(bob);
    const { header } = genuine;
    const headers = [
      () => ({ ...header, n: header.n + 1 }),
      () => ({ ...header, n: header.n + SKIP_MAX }),
      () => ({ ...header, n: 0xffffffff }),
      () => ({ dh: newKey(), pn: header.n + 1, n: 0 }),
      () => ({ dh: newKey(), pn: 0xffffffff, n: 0 }),
      () => ({ dh: base64.encode(new Uint8Array(32)), pn: 0, n: 0 }),
    ];
    const count = 2_000;
    for (let n = 0; n < count; n++) {
      const ciphertext = n % 2 === 0 ? base64.encode(random(80)) : genuine.ciphertext;
      says(renamed(genuine, { header: headers[n % headers.length]?.() ?? header, ciphertext }));
      if (n % (INBOUND_FRAMES_MAX / 2) === 0) await dealtWith(bob);
    }
    await dealtWith(bob);
    expect(standing(bob)).toEqual(before);
    expect(await counted(bob, alice)).toEqual({ duplicates: 0, unreadable: count });
    await say(alice, bob, "three");
    await say(bob, alice, "three back");
    expect(await inbox(bob)).toEqual(["one", "two", "three"]);
  });

  it("one flipped bit anywhere in what is sealed changes nothing but a counter", async () => {
    const { alice, bob, held } = await openHeld(["a", "b"]);
    // The first of them turns the ratchet, the second lies in the chain after it.
    expect(held.map(({ header }) => header.n)).toEqual([0, 1]);
    let forged = 0;
    for (const frame of held) {
      const before = standing(bob);
      const { dh, pn, n } = frame.header;
      const header = encodeHeader({ dh: base64.decode(dh), pn, n });
      const ciphertext = base64.decode(String(frame.ciphertext));
      for (let bit = 0; bit < header.length * 8; bit++) {
        const bent = decodeHeader(flip(header, bit));
        await comes(bob, renamed(frame, { header: { ...bent, dh: base64.encode(bent.dh) } }));
        forged++;
      }
      for (let bit = 0; bit < ciphertext.length * 8; bit++) {
        await comes(bob, renamed(frame, { ciphertext: base64.encode(flip(ciphertext, bit)) }));
        forged++;
      }
      expect(standing(bob)).toEqual(before);
      await comes(bob, frame);
    }
    const { duplicates, unreadable } = await counted(bob, alice);
    expect(duplicates + unreadable).toBe(forged);
    expect(await inbox(bob)).toEqual(["one", "a", "b"]);
  });
});

describe("genuine frames", () => {
  it("that come again, in any number and under any id, are read once and counted", async () => {
    const { alice, bob, tap, says } = await openTalk();
    const before = standing(bob);
    const again = 50;
    for (let n = 0; n < again; n++) for (const frame of tap.messages) says(n % 2 === 0 ? frame : renamed(frame));
    await dealtWith(bob);
    expect(standing(bob)).toEqual(before);
    const { duplicates, unreadable } = await counted(bob, alice);
    expect(duplicates + unreadable).toBe(again * tap.messages.length);
    // Of a chain that is over nothing is left to know a frame by, but its id.
    expect(duplicates).toBeGreaterThanOrEqual((again / 2) * tap.messages.length);
    await say(alice, bob, "three");
    expect(await inbox(bob)).toEqual(["one", "two", "three"]);
  });

  it.each([
    ["backwards", (frames: Message[]) => frames.toReversed()],
    ["dealt like cards", (frames: Message[]) => frames.map((_, n) => frames[(n * 37) % frames.length] as Message)],
  ])("are all read when they come %s, as far apart as the bound", async (_, order) => {
    const words = Array.from({ length: SKIP_MAX + 1 }, (_, n) => `word ${n}`);
    const { alice, bob, held } = await openHeld(words);
    expect(new Set(order(held)).size).toBe(words.length);
    for (const frame of order(held)) bob.incoming.onFrame(frame, JSON.stringify(frame).length);
    await dealtWith(bob);
    expect((await inbox(bob)).toSorted()).toEqual(["one", ...words].toSorted());
    expect(await counted(bob, alice)).toEqual({ duplicates: 0, unreadable: 0 });
  });
});

describe("large frames", () => {
  it("one of 16 MiB is dealt with, one byte more ends the connection, and the next one serves", async () => {
    const relay = new WebSocketServer({ host: "127.0.0.1", port: 0 });
    onTestFinished(() => relay.close());
    await once(relay, "listening");
    const address = relay.address();
    if (typeof address !== "object" || !address) throw new Error("no port");
    const { alice, bob: first, world } = await openTalk();
    const from = didOf(alice);
    // Nothing is owed any more.
    for (const node of [first, alice]) await call(node, "settle", {});
    await first.close();
    let dials = 0;
    const bob = await world.open(
      "bob",
      realPorts({
        ...realNetwork,
        dial: (url, events) => realNetwork.dial(dials++ === 0 ? `ws://127.0.0.1:${address.port}` : url, events),
      }),
    );
    const [socket]: WebSocket[] = await once(relay, "connection");
    if (!socket) throw new Error("no connection");
    const client = new Client(socket);
    expect(await client.take(2)).toMatchObject([{ type: "connect" }, { type: "fetch_pending" }]);
    client.send({ type: "connected", extensions: ["accepted"], pending: 0 });
    const frame = (size: number) => {
      const header = { dh: newKey(), pn: 0, n: 0 };
      const text = JSON.stringify({
        v: 1,
        type: "message",
        from,
        to: didOf(bob),
        id: `${size}`,
        header,
        ciphertext: "",
      });
      const ciphertext = "A".repeat(Math.floor((size - text.length) / 4) * 4);
      const filled = text.replace('"ciphertext":""', `"ciphertext":"${ciphertext}"`);
      return filled + " ".repeat(size - filled.length);
    };
    const before = standing(bob);
    expect(Buffer.byteLength(frame(FRAME_SIZE_MAX))).toBe(FRAME_SIZE_MAX);
    client.send(frame(FRAME_SIZE_MAX));
    expect(await client.next()).toMatchObject({ type: "ack", id: String(FRAME_SIZE_MAX) });
    expect(await counted(bob, alice)).toEqual({ duplicates: 0, unreadable: 1 });
    expect(standing(bob)).toEqual(before);
    client.send(frame(FRAME_SIZE_MAX + 1));
    expect(await client.ended).toBe(1009);
    await call(alice, "send", { to: didOf(bob), message: "and on" });
    await heard(bob, alice, "and on");
    expect(dials).toBe(2);
  });
});

describe("a flood from one that no session is shared with", () => {
  const mallory = identityFromSeed(sha256(utf8.encode("mallory")));
  const ciphertext = base64.encode(new Uint8Array(100));
  const message = (from: string, to: string, id: string) => ({
    ...{ v: 1, type: "message", from, to, id },
    ...{ header: { dh: base64.encode(new Uint8Array(32).fill(9)), pn: 0, n: 0 }, ciphertext },
  });

  it("commits nothing, is kept within bounds, and the peers are heard all the same", async () => {
    const { world, alice, bob } = await openTalk();
    const socket = await openSocket(world.server);
    socket.send(connectFrame(mallory, new Date().toISOString()));
    for (let n = 0; n < 2_000; n++) socket.send(message(mallory.did, didOf(bob), `m${n}`));
    await socket.read();
    // What is sent later comes later.
    await say(alice, bob, "three");
    await say(bob, alice, "three back");
    await dealtWith(bob);
    expect(bob.incoming.waiting.frames).toBe(EARLY_FRAMES_MAX);
    expect(JSON.stringify(standing(bob))).not.toContain(mallory.did);
  });

  it("is kept within bounds also when it comes in thousands of names, or is large", async () => {
    const { alice, bob, says } = await openTalk();
    const before = standing(bob);
    const names = EARLY_FRAMES_ALL_MAX + 1_000;
    for (let n = 0; n < names; n++) says(message(`did:mesh:${String(n).padStart(32, "0")}`, didOf(bob), `m${n}`));
    await dealtWith(bob);
    expect(bob.incoming.waiting.frames).toBe(EARLY_FRAMES_ALL_MAX);
    const fill = "A".repeat(FRAME_SIZE_MAX - 1_000);
    for (let n = 0; n < 6; n++)
      says({ ...message(mallory.did, didOf(bob), `m${n}`), [n % 2 ? "fill" : "ciphertext"]: fill });
    await dealtWith(bob);
    expect(bob.incoming.waiting.size).toBeLessThanOrEqual(EARLY_SIZE_MAX);
    expect(standing(bob)).toEqual(before);
    await say(alice, bob, "three");
    await say(bob, alice, "three back");
  });
});

/** JSON that costs far more to build than to send, from whoever may send a text: no process stands still for it. */
import { describe, expect, it } from "vitest";
import type { WebSocket } from "ws";
import { FRAME_SIZE_MAX, HTTP_BODY_SIZE_MAX } from "../../src/limits.ts";
import { contentOf } from "../../src/wire/content.ts";
import { CLOSE } from "../../src/wire/frame.ts";
import { parsePayload } from "../../src/wire/payload.ts";
import { ACCEPTED, agent, connect, connectFrame, ids, message, openSocket, request, world } from "../cluster/world.ts";
import { bent, openPair, say } from "./world.ts";

const [alice, bob, mallory] = [agent("alice"), agent("bob"), agent("mallory")];

/** What one text may cost. Each here cost many times as much, up to nine seconds, when nothing looked at it first. */
const EFFORT_MAX_MS = 500;

/** `open` and `close` around each other, up to `size` bytes. */
function nested(open: string, middle: string, close: string, size: number): string {
  const depth = Math.floor((size - middle.length) / (open.length + close.length));
  return open.repeat(depth) + middle + close.repeat(depth);
}

const wide = (begin: string, member: string, last: string, end: string, size: number) =>
  begin + member.repeat(Math.floor((size - begin.length - last.length - end.length) / member.length)) + last + end;

/** Texts of a size that are nested or wide, each by its name. */
const SHAPES: Readonly<Record<string, (size: number) => string>> = {
  "lists in lists": (size) => nested("[", "0", "]", size),
  "lists that do not end": (size) => "[".repeat(size),
  "objects in objects": (size) => nested('{"a":', "0", "}", size),
  "a list of numbers": (size) => wide("[", "0,", "0", "]", size),
  "a list of empty texts": (size) => wide("[", '"",', '""', "]", size),
  "a list of empty objects": (size) => wide("[", "{},", "{}", "]", size),
  "an object of very many members": (size) => {
    const members: string[] = [];
    for (let length = 2; length < size - 20; length += (members.at(-1)?.length ?? 0) + 1)
      members.push(`"${members.length}x":0`);
    return `{${members.join(",")}}`;
  },
  "texts side by side": (size) => '""'.repeat(Math.floor(size / 2)),
};

/** The same as a field that nobody knows, in a frame that is otherwise good. */
const inFrame = (frame: object, value: string) => `${JSON.stringify(frame).slice(0, -1)},"more":${value}}`;

/** The processor time that this process took meanwhile, in milliseconds: that of whoever sends the text is in it. */
async function effort(task: () => unknown): Promise<number> {
  const before = process.cpuUsage();
  await task();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

const ROOM = 1_000;

describe.each(Object.entries(SHAPES))("%s", (_name, shaped) => {
  it("in a frame that the relay is to pass on: it is dropped, and its sender stays", async () => {
    const server = await world();
    const sender = await connect(server, mallory, ACCEPTED);
    const receiver = await connect(server, bob, ACCEPTED);
    // A harmless one first, so that what any first frame of this size costs is not counted.
    sender.send({ type: "heartbeat", more: "x".repeat(FRAME_SIZE_MAX - ROOM) });
    await sender.read();
    const text = Buffer.from(inFrame({ v: 1, ...message(bob, "m1") }, shaped(FRAME_SIZE_MAX - ROOM)));
    expect(
      await effort(async () => {
        sender.socket.send(text, { binary: false });
        await sender.read();
      }),
    ).toBeLessThan(EFFORT_MAX_MS);
    sender.send(message(bob, "m2"));
    expect(ids(await sender.take(1))).toEqual(["m2"]);
    expect(ids(await receiver.take(1))).toEqual(["m2"]);
  });

  it("in what the relay gives to a laptop: it is passed over", async () => {
    const relay = bent();
    const { alice, bob } = await openPair({ bob: relay.ports });
    const frame = { v: 1, type: "message", from: mallory.did, to: bob.core.keyring.identity.did, id: "m1" };
    const text = Buffer.from(inFrame(frame, shaped(FRAME_SIZE_MAX - ROOM)));
    expect(await effort(() => relay.says(text))).toBeLessThan(EFFORT_MAX_MS);
    await say(alice, bob, "after it");
  });

  it("in a message: it is chat", async () => {
    const text = shaped(FRAME_SIZE_MAX / 2);
    const read = () => [parsePayload(text), contentOf(text)];
    expect(await effort(() => expect(read()).toEqual([{ type: "message", content: text }, { text }]))).toBeLessThan(
      2 * EFFORT_MAX_MS,
    );
  });

  it("in a request to the registry: 400", async () => {
    const server = await world();
    const body = `{"public_key":"x","more":${shaped(HTTP_BODY_SIZE_MAX - ROOM)}}`;
    const elapsed = await effort(async () => {
      expect((await request(server, "POST", "/v1/agents", { body })).status).toBe(400);
    });
    expect(elapsed).toBeLessThan(EFFORT_MAX_MS / 4);
  });
});

describe("before the connect", () => {
  it.each([
    ["whole", true],
    ["that does not come to its end", false],
  ])("one frame of 16 MiB, %s: the line is cut when a few kB of it have come", async (_what, isWhole) => {
    const server = await world();
    const standing = await connect(server, alice, ACCEPTED);
    const { socket, ended } = await openSocket(server);
    const raw = (socket as WebSocket & { readonly _socket: NodeJS.WritableStream })._socket;
    const size = FRAME_SIZE_MAX - ROOM;
    // A text frame with a mask of zeros.
    const head = Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    head.writeBigUInt64BE(BigInt(size), 2);
    raw.on("error", () => undefined);
    raw.write(head);
    raw.write(Buffer.alloc(isWhole ? size : 65_536, "["));
    expect([CLOSE.tooLarge, 1006]).toContain(await ended);
    const text = await (await fetch(`${server.url}/metrics`)).text();
    expect(text).toContain('kars_connects_refused_total{reason="connect_too_large"} 1');
    await standing.read();
  });

  it("a connect and a long frame at once: both are taken", async () => {
    const server = await world();
    const client = await openSocket(server);
    client.send({ ...connectFrame(mallory, server.clock.iso()), ...ACCEPTED });
    client.send(message(bob, "long", { ciphertext: "A".repeat(4 * 1024 * 1024) }));
    expect(await client.take(2)).toMatchObject([{ type: "connected" }, { type: "accepted", id: "long" }]);
  });

  it("pings without end: the line is cut", async () => {
    const server = await world();
    const { socket, ended } = await openSocket(server);
    for (let turn = 0; turn < 1_000; turn++) socket.ping("x".repeat(120));
    expect([CLOSE.tooLarge, 1006]).toContain(await ended);
  });

  it("many sockets that say nothing: those that have waited a second give way to those that come", async () => {
    const server = await world();
    const silent = await Promise.all(Array.from({ length: 600 }, () => openSocket(server)));
    server.clock.time += 1_001;
    const late = await connect(server, alice, ACCEPTED);
    const first = silent[0];
    if (!first) throw new Error("no socket");
    expect(await first.ended).toBe(CLOSE.connectExpected);
    await late.read();
  });
});

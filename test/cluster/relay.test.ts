import { describe, expect, test } from "vitest";
import {
  FRAME_SIZE_MAX,
  MAILBOX_AGE_MAX_MS,
  MAILBOX_FRAMES_MAX,
  RELAY_REFUSE_MS,
  RELAY_RETRY_MS,
} from "../../src/limits.ts";
import { HeldDisk, killedAt } from "./disks.ts";
import { ACCEPTED, agent, connect, connectFrame, type Frame, ids, message, openSocket, world } from "./world.ts";

const alice = agent("alice");
const bob = agent("bob");
const carol = agent("carol");

describe("routing", () => {
  test.each(["knock", "knock_accept", "knock_reject", "message", "something_new"])(
    "%s goes to whom it is for",
    async (type) => {
      const server = await world();
      const sender = await connect(server, alice);
      const receiver = await connect(server, bob);
      const frame = {
        v: 1,
        type,
        from: alice.did,
        to: bob.did,
        id: "1",
        ts: server.clock.iso(),
        of_tomorrow: { deep: [1, "ü"] },
      };
      sender.send(JSON.stringify(frame));
      expect(await receiver.next()).toEqual(frame);
    },
  );

  test("a client that writes no version is let in, and its frames pass as they were sent", async () => {
    const server = await world();
    const receiver = await connect(server, bob);
    const sender = await openSocket(server);
    sender.send(JSON.stringify(connectFrame(alice, server.clock.iso())));
    const frame = { type: "message", to: bob.did, from: alice.did, id: "without-v", payload: "eyJ0eXBlIjoieCJ9" };
    sender.send(JSON.stringify(frame));
    expect(await receiver.next()).toEqual(frame);
    receiver.send(JSON.stringify({ type: "ack", id: frame.id }));
    await receiver.close();
    const again = await connect(server, bob);
    expect(await again.received()).toEqual([]);
  });

  test("a frame of another version is not taken", async () => {
    const server = await world();
    const sender = await connect(server, alice);
    const receiver = await connect(server, bob);
    sender.send(JSON.stringify({ ...message(bob, "2"), v: 2 }));
    sender.send(JSON.stringify({ ...message(bob, "1"), v: 1 }));
    expect(ids(await receiver.take(1))).toEqual(["1"]);
    const stranger = await openSocket(server);
    stranger.send(JSON.stringify({ ...connectFrame(carol, server.clock.iso()), v: 2 }));
    expect(await stranger.ended).toBe(4001);
  });

  test("a frame keeps every byte that it had", async () => {
    const server = await world();
    const sender = await connect(server, alice);
    const receiver = await connect(server, bob);
    const texts: string[] = [];
    receiver.socket.on("message", (data) => texts.push(data.toString()));
    const text = `{ "v":1,"type":"message","from":"${alice.did}","to":"${bob.did}","id":"1", "big":12345678901234567890.10 }`;
    sender.send(text);
    sender.send(text.replace(`"from":"${alice.did}",`, "").replace('"id":"1"', '"id":"2"'));
    const [, second] = await receiver.take(2);
    expect(texts[0]).toBe(text);
    expect(texts[1]).toContain("12345678901234567890.10");
    expect(second?.from).toBe(alice.did);
  });

  test("from is the connection's own: missing it is stamped, another's is dropped", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    const receiver = await connect(server, bob);
    sender.send(message(bob, "forged", { from: carol.did }));
    sender.send(message(bob, "null", { from: null }));
    sender.send(message(bob, "stamped"));
    sender.send(message(bob, "bound", { from: alice.did }));
    const frames = await receiver.take(2);
    expect(frames.map(({ id, from }) => [id, from])).toEqual([
      ["stamped", alice.did],
      ["bound", alice.did],
    ]);
    expect(ids(await sender.take(2))).toEqual(["stamped", "bound"]);
  });

  test("what cannot be routed is dropped without a word", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    const dropped: (Frame | string)[] = [
      "no JSON",
      "null",
      "{}",
      { type: "message", id: "no to" },
      { type: "message", to: bob.did },
      { type: "message", to: "bob", id: "no DID" },
      { type: "message", to: bob.did, id: "a blank" },
      { type: "message", to: bob.did, id: "x".repeat(129) },
      { type: "message", to: bob.did, id: 7 },
      { v: 2, type: "message", to: bob.did, id: "v2" },
      { type: "of_tomorrow" },
      { to: bob.did, id: "no-type" },
    ];
    for (const frame of dropped) sender.send(frame);
    sender.socket.send(Buffer.from(JSON.stringify({ v: 1, ...message(bob, "binary") })), { binary: true });
    sender.send(message(bob, "good"));
    expect(await sender.next()).toEqual({ v: 1, type: "accepted", id: "good" });
    expect(await sender.received()).toEqual([]);
    const receiver = await connect(server, bob);
    expect(ids(await receiver.take(1))).toEqual(["good"]);
  });

  test.each(["connected", "accepted", "error", "connect"])("nobody sends %s in the relay's name", async (type) => {
    const server = await world();
    const sender = await connect(server, alice);
    const receiver = await connect(server, bob);
    sender.send({ type, to: bob.did, id: "1", from: alice.did, extensions: ["accepted"] });
    sender.send(message(bob, "2"));
    expect((await receiver.next()).id).toBe("2");
  });

  test("fetch_pending is answered by an error frame", async () => {
    const server = await world();
    const client = await connect(server, alice);
    client.send({ type: "fetch_pending", from: alice.did });
    expect(await client.next()).toMatchObject({ v: 1, type: "error", message: "Unknown frame type: fetch_pending" });
  });

  test("a frame that stamping makes too large for a socket is refused", async () => {
    const server = await world();
    const sender = await connect(server, alice);
    const empty = JSON.stringify({ v: 1, ...message(bob, "1", { fill: "" }) });
    sender.send(message(bob, "1", { fill: "x".repeat(FRAME_SIZE_MAX - empty.length) }));
    expect(await sender.next()).toMatchObject({ type: "error", code: "frame_too_large", id: "1" });
  });

  test("a frame of 16 MiB arrives", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    const receiver = await connect(server, bob);
    const frame = { from: alice.did, fill: "" };
    frame.fill = "x".repeat(FRAME_SIZE_MAX - JSON.stringify({ v: 1, ...message(bob, "1", frame) }).length);
    sender.send(message(bob, "1", frame));
    expect((await receiver.next()).fill).toHaveLength(frame.fill.length);
    expect(await sender.next()).toMatchObject({ type: "accepted", id: "1" });
  });
});

describe("mail", () => {
  test("waits in order for who is away, before what comes live", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    sender.send({ ...message(bob, "0"), type: "knock" });
    for (let n = 1; n < 100; n++) sender.send(message(bob, String(n)));
    await sender.take(100);
    const receiving = connect(server, bob);
    for (let n = 100; n < 200; n++) sender.send(message(bob, String(n)));
    const frames = await (await receiving).take(200);
    expect(ids(frames)).toEqual(Array.from({ length: 200 }, (_, n) => String(n)));
  });

  test("is given again at every connect until it is acked, also what was delivered live", async () => {
    const server = await world();
    const sender = await connect(server, alice);
    const first = await connect(server, bob, ACCEPTED);
    for (const id of ["a", "b", "c"]) sender.send(message(bob, id));
    expect(ids(await first.take(3))).toEqual(["a", "b", "c"]);
    first.send({ type: "ack", id: "b" });
    await first.read();
    await first.kill();
    const second = await connect(server, bob, ACCEPTED);
    expect(ids(await second.received())).toEqual(["a", "c"]);
    second.send({ type: "ack", id: "a", from: bob.did });
    second.send({ type: "ack", id: "c", from: alice.did }); // Another's name: dropped.
    await second.read();
    await second.kill();
    const third = await connect(server, bob, ACCEPTED);
    expect(ids(await third.received())).toEqual(["c"]);
  });

  test("is acked by its recipient alone", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    sender.send(message(bob, "1"));
    await sender.next();
    sender.send({ type: "ack", id: "1" });
    const other = await connect(server, carol);
    other.send({ type: "ack", id: "1" });
    await Promise.all([sender.read(), other.read()]);
    expect(ids(await (await connect(server, bob)).take(1))).toEqual(["1"]);
  });

  test("of one id from two senders is two frames; an ack may say which", async () => {
    const server = await world();
    for (const who of [alice, carol]) {
      const sender = await connect(server, who, ACCEPTED);
      sender.send(message(bob, "1"));
      await sender.next();
    }
    const receiver = await connect(server, bob, ACCEPTED);
    expect((await receiver.take(2)).map(({ from }) => from)).toEqual([alice.did, carol.did]);
    receiver.send({ type: "ack", id: "1", sender: carol.did });
    await receiver.read();
    await receiver.kill();
    const again = await connect(server, bob, ACCEPTED);
    expect((await again.received()).map(({ from }) => from)).toEqual([alice.did]);
    again.send({ type: "ack", id: "1" });
    await again.read();
    await again.kill();
    expect(await (await connect(server, bob, ACCEPTED)).received()).toEqual([]);
  });

  test("sent twice is accepted twice and kept once, waiting or acked", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    sender.send(message(bob, "1", { n: 1 }));
    sender.send(message(bob, "1", { n: 2 }));
    expect(ids(await sender.take(2))).toEqual(["1", "1"]);
    const receiver = await connect(server, bob);
    expect((await receiver.take(1)).map(({ n }) => n)).toEqual([1]);
    receiver.send({ type: "ack", id: "1" });
    await receiver.read();
    sender.send(message(bob, "1", { n: 3 }));
    sender.send(message(bob, "2"));
    expect(ids(await sender.take(2))).toEqual(["1", "2"]);
    expect(ids([await receiver.next()])).toEqual(["2"]);
  });

  test("older than 72 h is gone", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    sender.send(message(bob, "old"));
    await sender.next();
    server.clock.pass(MAILBOX_AGE_MAX_MS - 1000);
    const again = await connect(server, alice, ACCEPTED);
    again.send(message(bob, "new"));
    await again.next();
    server.clock.pass(2000);
    expect(ids(await (await connect(server, bob)).take(1))).toEqual(["new"]);
  });

  test("is refused by a full mailbox, and taken again when there is room", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    for (let n = 0; n <= MAILBOX_FRAMES_MAX; n++) sender.send(message(bob, String(n)));
    const replies = await sender.take(MAILBOX_FRAMES_MAX + 1);
    const refused = replies.filter(({ type }) => type !== "accepted");
    expect(refused).toMatchObject([{ v: 1, type: "error", code: "mailbox_full", id: String(MAILBOX_FRAMES_MAX) }]);
    sender.send(message(carol, "to-another"));
    expect(await sender.next()).toMatchObject({ type: "accepted" });
    const receiver = await connect(server, bob, ACCEPTED);
    receiver.send({ type: "ack", id: "0" });
    await receiver.read();
    // The sender has given the refused one up.
    server.clock.pass(RELAY_REFUSE_MS);
    sender.send(message(bob, "there-is-room"));
    expect(await sender.next()).toEqual({ v: 1, type: "accepted", id: "there-is-room" });
  });

  test("nothing overtakes a frame that was refused, until its sender offers all of them again", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    for (let n = 0; n <= MAILBOX_FRAMES_MAX; n++) sender.send(message(bob, String(n)));
    await sender.take(MAILBOX_FRAMES_MAX + 1);
    const receiver = await connect(server, bob, ACCEPTED);
    for (const id of ["0", "1"]) receiver.send({ type: "ack", id });
    await receiver.read();
    // On its way before the sender heard of the refusal.
    sender.send(message(bob, "behind"));
    expect(await sender.next()).toMatchObject({ type: "error", code: "mailbox_full", id: "behind" });
    server.clock.pass(RELAY_RETRY_MS);
    // Whenever it comes, it is behind the one that was refused first.
    sender.send(message(bob, "behind"));
    expect(await sender.next()).toMatchObject({ type: "error", code: "mailbox_full", id: "behind" });
    for (const id of [String(MAILBOX_FRAMES_MAX), "behind"]) sender.send(message(bob, id));
    expect(await sender.take(2)).toMatchObject([{ type: "accepted" }, { type: "accepted", id: "behind" }]);
  });

  test("outlives the server: order, acks and known ids", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    const receiver = await connect(server, bob, ACCEPTED);
    for (const id of ["a", "b", "c"]) sender.send(message(bob, id));
    await Promise.all([receiver.take(3), sender.take(3)]);
    receiver.send({ type: "ack", id: "a" });
    await receiver.read();
    await server.close();

    const reopened = await world({ directory: server.directory, clock: server.clock });
    const again = await connect(reopened, alice, ACCEPTED);
    for (const id of ["a", "b", "d"]) again.send(message(bob, id));
    await again.take(3);
    expect(ids(await (await connect(reopened, bob)).take(3))).toEqual(["b", "c", "d"]);
  });

  test("is on disk before it is delivered, and before its sender hears of it", async () => {
    const disk = new HeldDisk();
    const server = await world({ disk });
    const sender = await connect(server, alice, ACCEPTED);
    const receiver = await connect(server, bob, ACCEPTED);
    const reached = disk.hold();
    sender.send(message(bob, "1"));
    await reached;
    expect(await sender.received()).toEqual([]);
    expect(await receiver.received()).toEqual([]);
    server.clock.pass(1);
    const late = await connect(server, bob, ACCEPTED);
    expect(await late.received()).toEqual([]);
    disk.release();
    expect(await sender.next()).toEqual({ v: 1, type: "accepted", id: "1" });
    expect(await late.next()).toMatchObject({ id: "1" });
  });

  test("that cannot be stored is not accepted, and not delivered", async () => {
    const directory = (await world()).directory;
    // The first disk that lives long enough for the server to open dies at the first frame.
    let outcome: Frame = {};
    for (let change = 1; outcome.type !== "error"; change++) {
      const disk = killedAt(change);
      const opened = await world({ disk, directory: `${directory}/${change}` }).catch(() => undefined);
      if (!opened) continue;
      const sender = await connect(opened, alice, ACCEPTED);
      sender.send(message(alice, "1"));
      outcome = await sender.next();
      expect(outcome).toMatchObject({ type: "error", code: "store_io", id: "1" });
      expect(await sender.received()).toEqual([]);
    }
  });

  test("is given slowly to a slow reader, in order and whole", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    const receiver = await connect(server, bob);
    receiver.socket.pause();
    const fill = "x".repeat(1024 * 1024);
    for (let n = 0; n < 40; n++) sender.send(message(bob, String(n), { fill }));
    await sender.take(40);
    receiver.socket.resume();
    expect(ids(await receiver.take(40))).toEqual(Array.from({ length: 40 }, (_, n) => String(n)));
  });
});

import { describe, expect, test } from "vitest";
import {
  CONFIRMATION_MS,
  CONFIRMATION_TIMES,
  CONFIRMATION_WAIT_MS,
  DOUBT_TIMES,
  UNCONFIRMED_FRAMES_MAX,
} from "../../src/cluster/limits.ts";
import { MAILBOX_FRAMES_MAX } from "../../src/limits.ts";
import {
  ACCEPTED,
  agent,
  type Client,
  connect,
  connectFrame,
  type Frame,
  ids,
  message,
  openSocket,
  type World,
  world,
} from "./world.ts";

// Clients of the reference wire announce no extensions. Some ack each message, some ack nothing, and all of them lose a session
// when a message comes twice.

const alice = agent("alice");
const bob = agent("bob");

interface Manner {
  readonly acks?: boolean;
  /** Whether its WebSocket library answers pings, as it should. */
  readonly autoPong?: boolean;
  /** Where it notes what comes. */
  readonly taken?: unknown[];
}

/** A new connection of bob, who is a plain client. */
async function connectPlain(
  server: World,
  { acks = false, autoPong = true, taken = [] }: Manner = {},
): Promise<Client> {
  const client = await openSocket(server, { autoPong });
  client.socket.on("message", (data) => {
    const { type, id }: Frame = JSON.parse(data.toString());
    taken.push(id);
    if (acks && type === "message") client.send({ type: "ack", id });
  });
  server.clock.time++;
  client.send(connectFrame(bob, server.clock.iso()));
  await client.read();
  return client;
}

/** One whose WebSocket library answers no pings, connected long ago: since then nothing shows that its line is alive. */
async function connectSilent(server: World, more: Manner = {}): Promise<Client> {
  const client = await connectPlain(server, { ...more, autoPong: false });
  server.clock.time += 10_000;
  return client;
}

/** Resolves when the relay has read the client's answer to every ping behind what the client has received. */
async function answered(client: Client): Promise<void> {
  // The first answer comes behind the relay's pings, the second behind the client's pongs.
  await client.read();
  await client.read();
}

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => String(from + n));

/** Sends messages to bob and waits until they are in his mailbox. */
async function send(sender: Client, messages: readonly string[]): Promise<void> {
  for (const id of messages) sender.send(message(bob, id));
  await sender.take(messages.length);
}

/** Sends a knock to bob and waits until it is in his mailbox. */
async function knock(sender: Client): Promise<void> {
  sender.send({ ...message(bob, "knock"), type: "knock" });
  await sender.next();
}

/** Connects bob anew: nothing waits for him. */
async function hasNothing(server: World, sender: Client, manner?: Manner): Promise<void> {
  const client = await connectPlain(server, manner);
  await send(sender, ["last"]);
  expect(ids([await client.next()])).toEqual(["last"]);
}

async function settled(server: World, by: string): Promise<string | undefined> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return new RegExp(`^kars_frames_settled_total\\{by="${by}"\\} (.*)$`, "m").exec(text)?.[1];
}

describe.each([
  ["acks nothing", { acks: false }],
  ["acks each message", { acks: true }],
])("a client that %s", (_, manner) => {
  test("is given once what waited and what came live, knocks too", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    await knock(sender);
    await send(sender, numbers(0, 20));
    const first = await connectPlain(server, manner);
    expect(ids(await first.take(21))).toEqual(["knock", ...numbers(0, 20)]);
    await send(sender, numbers(20, 30));
    expect(ids(await first.take(10))).toEqual(numbers(20, 30));
    await answered(first);
    await first.kill();
    await send(sender, numbers(30, 32));
    const second = await connectPlain(server, manner);
    expect(ids(await second.take(2))).toEqual(numbers(30, 32));
    await answered(second);
    await second.kill();
    await hasNothing(server, sender, manner);
  });

  test("takes more than its mailbox holds while it is there", async () => {
    // Thousands of notes go to the disk one after the other, which takes its time on a machine that is busy.
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    const receiver = await connectPlain(server, manner);
    const all = numbers(0, MAILBOX_FRAMES_MAX + 500);
    for (let from = 0; from < all.length; from += 500) {
      const some = all.slice(from, from + 500);
      for (const id of some) sender.send(message(bob, id));
      const replies = await sender.take(some.length);
      expect(replies.filter(({ type }) => type !== "accepted")).toEqual([]);
      expect(ids(await receiver.take(some.length))).toEqual(some);
    }
    await answered(receiver);
    await receiver.kill();
    await hasNothing(server, sender, manner);
  }, 90_000);

  test("is given nothing twice and in order when its line breaks again and again, and loses a few at most each time", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    const all = numbers(0, 400);
    const sending = send(sender, all);
    const taken: string[] = [];
    const breaks = 8;
    for (let count = 0; count < breaks; count++) {
      const receiver = await connectPlain(server, { ...manner, taken });
      await receiver.take(7 * (count + 1));
      await receiver.kill();
    }
    await sending;
    const last = await connectPlain(server, { ...manner, taken });
    await knock(sender);
    while ((await last.next()).id !== "knock");
    const given = taken.filter((id) => id !== "knock").map(Number);
    expect(given.length).toBeGreaterThanOrEqual(all.length - breaks * UNCONFIRMED_FRAMES_MAX);
    expect(given).toEqual([...new Set(given)].toSorted((a, b) => a - b));
  });
});

describe("what a client has not confirmed", () => {
  test("is a few frames at most: the next ones wait in the mailbox", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    const receiver = await connectSilent(server);
    const pings: Buffer[] = [];
    receiver.socket.on("ping", (data) => pings.push(data));
    await send(sender, numbers(0, 10));
    expect(ids(await receiver.take(UNCONFIRMED_FRAMES_MAX))).toEqual(numbers(0, UNCONFIRMED_FRAMES_MAX));
    expect(await receiver.received()).toEqual([]);
    // Each pong confirms what was given before its ping. Sending one for the most recent ping is enough.
    receiver.socket.pong(pings.at(-1));
    expect(ids(await receiver.take(UNCONFIRMED_FRAMES_MAX))).toEqual(
      numbers(UNCONFIRMED_FRAMES_MAX, 2 * UNCONFIRMED_FRAMES_MAX),
    );
    expect(await settled(server, "pong")).toBe(String(UNCONFIRMED_FRAMES_MAX));
    for (const payload of ["", "kars 0", "kars 999", "kars -1", "kars 1e1", "8"]) receiver.socket.pong(payload);
    expect(await receiver.received()).toEqual([]);
  });

  test("is given again, all of it and in order, when the line was dead", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    const first = await connectSilent(server);
    await knock(sender);
    await send(sender, numbers(0, 10));
    await first.take(UNCONFIRMED_FRAMES_MAX);
    first.socket.pause();
    server.clock.time += 2 * CONFIRMATION_MS;
    const second = await connectPlain(server);
    expect(ids(await second.take(11))).toEqual(["knock", ...numbers(0, 10)]);
  });

  test("of a dead line is not given again where it came soon after a sign: it may have arrived", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    const first = await connectSilent(server);
    const pings: Buffer[] = [];
    first.socket.on("ping", (data) => pings.push(data));
    await send(sender, ["0"]);
    await first.take(1);
    await first.read();
    // The sign takes two milliseconds.
    server.clock.time += 2;
    first.socket.pong(pings.at(-1));
    await first.read();
    await send(sender, ["1", "2"]);
    await first.take(2);
    server.clock.time += 2 * DOUBT_TIMES + 1;
    await send(sender, ["3"]);
    await first.take(1);
    first.socket.pause();
    server.clock.time += CONFIRMATION_MS + 2 * CONFIRMATION_TIMES + 1;
    await send(sender, ["4"]);
    expect(ids(await (await connectPlain(server)).take(2))).toEqual(["3", "4"]);
  });

  test("is not given again when the confirmation may have been lost, but for knocks; and that is counted and logged", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    const first = await connectSilent(server);
    await knock(sender);
    await send(sender, numbers(0, 10));
    await first.take(UNCONFIRMED_FRAMES_MAX);
    await first.kill();
    const second = await connectPlain(server);
    expect(ids(await second.take(8))).toEqual(["knock", ...numbers(UNCONFIRMED_FRAMES_MAX - 1, 10)]);
    expect(await settled(server, "doubt")).toBe(String(UNCONFIRMED_FRAMES_MAX - 1));
    expect(server.lines).toContain(`relay: the line of ${bob.did} broke over 3 messages that are not given again`);
  });

  test("leaves the mailbox when the client answers the relay's goodbye", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    const first = await connectSilent(server);
    await send(sender, numbers(0, 10));
    await first.take(UNCONFIRMED_FRAMES_MAX);
    server.clock.time += 2 * CONFIRMATION_MS;
    await server.close();
    expect(await first.ended).toBe(1001);
    const reopened = await world({ directory: server.directory, clock: server.clock });
    expect(ids(await (await connectPlain(reopened)).take(6))).toEqual(numbers(UNCONFIRMED_FRAMES_MAX, 10));
  });

  test("stays when the client says goodbye by itself", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    const first = await connectSilent(server);
    await send(sender, numbers(0, 10));
    await first.take(UNCONFIRMED_FRAMES_MAX);
    server.clock.time += 2 * CONFIRMATION_MS;
    first.send({ type: "disconnect" });
    expect(await first.ended).toBe(1000);
    expect(ids(await (await connectPlain(server)).take(10))).toEqual(numbers(0, 10));
  });

  test("is confirmed by acks where pongs do not get through, and what was given before with it", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    const first = await connectSilent(server, { acks: true });
    await knock(sender);
    await send(sender, numbers(0, 20));
    expect(ids(await first.take(21))).toEqual(["knock", ...numbers(0, 20)]);
    await first.read();
    await first.kill();
    await hasNothing(server, sender);
    expect(await settled(server, "ack")).toBe("21");
  });

  test("is not confirmed by an ack of something else", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    const first = await connectSilent(server);
    await send(sender, numbers(0, 10));
    await first.take(UNCONFIRMED_FRAMES_MAX);
    // It was not given yet.
    first.send({ type: "ack", id: "9" });
    first.send({ type: "ack", id: "0", sender: bob.did });
    await first.read();
    server.clock.time += 2 * CONFIRMATION_MS;
    expect(ids(await (await connectPlain(server)).take(10))).toEqual(numbers(0, 10));
  });

  test("is not waited for when a client answers no pings but is there", async () => {
    const server = await world();
    const sender = await connect(server, alice, ACCEPTED);
    const first = await connectSilent(server);
    await send(sender, numbers(0, 10));
    await first.take(UNCONFIRMED_FRAMES_MAX);
    server.clock.time += CONFIRMATION_WAIT_MS + 1;
    first.send({ type: "heartbeat", from: bob.did });
    expect(ids(await first.take(6))).toEqual(numbers(UNCONFIRMED_FRAMES_MAX, 10));
    await send(sender, numbers(10, 12));
    expect(ids(await first.take(2))).toEqual(numbers(10, 12));
    first.socket.pause();
    // It has confirmed nothing.
    expect(ids(await (await connectPlain(server)).take(12))).toEqual(numbers(0, 12));
  });
});

test("a client with extensions is not pinged, and keeps its mail until it acks", async () => {
  const server = await world();
  const sender = await connect(server, alice, ACCEPTED);
  const first = await connect(server, bob, ACCEPTED);
  let pings = 0;
  first.socket.on("ping", () => pings++);
  await send(sender, numbers(0, 10));
  expect(ids(await first.take(10))).toEqual(numbers(0, 10));
  await answered(first);
  expect(pings).toBe(0);
  await first.kill();
  server.clock.time++;
  expect(ids(await (await connect(server, bob, ACCEPTED)).take(10))).toEqual(numbers(0, 10));
});

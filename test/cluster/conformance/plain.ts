import { expect, onTestFinished, test } from "vitest";
import { Confirmations, type Pinged } from "../../../src/cluster/confirmations.ts";
import { Delivery, type Outlet } from "../../../src/cluster/delivery.ts";
import { CONFIRMATION_MS, UNCONFIRMED_FRAMES_MAX } from "../../../src/cluster/limits.ts";
import type { Mailboxes, MailFeed } from "../../../src/cluster/state.ts";
import { MAILBOX_FRAMES_MAX } from "../../../src/limits.ts";
import type { FrameText } from "../../../src/wire/frame-text.ts";
import { left, numbers, type OpenMailboxes, someone } from "./mailboxes.ts";

// What every kind of mail must hold for plain clients, which confirm by their sockets what they were given.

/** A connection of a plain client that acks nothing. */
class PlainClient implements Outlet, Pinged {
  readonly OPEN = 1;
  readonly readyState = 1;
  readonly bufferedAmount = 0;
  readonly taken: { readonly id: string; readonly from: string }[] = [];
  /** Whether pings reach the client and its answers come back. */
  isAnswering = true;
  #time = 0;
  #unanswered = 0;
  #connection: { readonly feed: MailFeed; readonly confirmations: Confirmations } | undefined;
  #waiting: (() => void)[] = [];

  static async connect(mailboxes: Mailboxes, to: string, isAnswering = true): Promise<PlainClient> {
    const client = new PlainClient();
    client.isAnswering = isAnswering;
    let delivery: Delivery | undefined;
    const feed = await mailboxes.open(to, () => delivery?.pump(), { givesOnce: true });
    onTestFinished(() => feed.close());
    const confirmations = new Confirmations(client, feed, { now: () => client.#time });
    client.#connection = { feed, confirmations };
    delivery = new Delivery(client, feed, { now: () => client.#time, confirmations });
    delivery.pump();
    return client;
  }

  send(text: FrameText, flushed: () => void): void {
    this.taken.push(JSON.parse(text.toString()));
    flushed();
    this.#told();
  }

  ping(payload: string): void {
    if (!this.isAnswering) return;
    this.#unanswered++;
    queueMicrotask(() => {
      this.#unanswered--;
      this.#connection?.confirmations.ponged(payload);
      this.#told();
    });
  }

  #told(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Resolves when it was given so many frames and has answered. */
  async has(count: number): Promise<readonly string[]> {
    while (this.taken.length < count || this.#unanswered > 0)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.taken.map(({ id }) => id);
  }

  /** Lets the time pass in which a confirmation comes, if one does. */
  wait(): void {
    this.#time += 2 * CONFIRMATION_MS;
  }

  /** How many messages its relay removed when it came, since they may have been given to it before. */
  get doubted(): number | undefined {
    return this.#connection?.feed.doubted;
  }

  /** The relay notices that the line broke. */
  async end(): Promise<void> {
    this.#connection?.confirmations.settle();
    await this.#connection?.feed.close();
  }
}

const message = (from: string, id: string) => JSON.stringify({ v: 1, type: "message", from, id });

/** Mailboxes of a process that dies without a word. `die` gives those of the next. */
export type OpenMortal = () => Promise<{ readonly mailboxes: Mailboxes; die(): Promise<Mailboxes> }>;

export function plainConformance(open: OpenMailboxes, openMortal: OpenMortal): void {
  test("of a plain client goes when its socket has answered, and is not given again at any replica", async () => {
    const [here, there] = await open();
    if (!here || !there) throw new Error("no mailboxes");
    const [alice, bob] = [someone(), someone()];
    const put = (id: string) => here.put(bob, alice, id, message(alice, id));
    await Promise.all(numbers(20).map(put));
    const client = await PlainClient.connect(there, bob);
    await client.has(20);
    await put("live");
    expect(await client.has(21)).toEqual([...numbers(20), "live"]);
    client.wait();
    await client.end();
    expect(await left(here, bob)).toEqual([]);
    expect(await put("live")).toBe("duplicate");
  });

  test("of a plain client that was given to a dead line comes again, at whichever replica", async () => {
    const [here, there] = await open();
    if (!here || !there) throw new Error("no mailboxes");
    const [alice, bob] = [someone(), someone()];
    const first = await PlainClient.connect(here, bob, false);
    first.wait();
    await Promise.all(numbers(20).map((id) => here.put(bob, alice, id, message(alice, id))));
    expect(await first.has(UNCONFIRMED_FRAMES_MAX)).toEqual(numbers(UNCONFIRMED_FRAMES_MAX));
    first.wait();
    await first.end();
    const second = await PlainClient.connect(there, bob);
    expect(await second.has(20)).toEqual(numbers(20));
    second.wait();
    await second.end();
    expect(await left(here, bob)).toEqual([]);
  });

  test("of a plain client is not given again when the line broke over it; what waited behind it is", async () => {
    const [here, there] = await open();
    if (!here || !there) throw new Error("no mailboxes");
    const [alice, bob] = [someone(), someone()];
    await Promise.all(numbers(20).map((id) => here.put(bob, alice, id, message(alice, id))));
    const first = await PlainClient.connect(here, bob, false);
    await first.has(UNCONFIRMED_FRAMES_MAX);
    await first.end();
    expect(await left(there, bob)).toEqual(numbers(20).slice(UNCONFIRMED_FRAMES_MAX));
  });

  test("of a plain client is not given again when its relay dies over it; what waited behind it is", async () => {
    const { mailboxes, die } = await openMortal();
    const [alice, bob] = [someone(), someone()];
    const put = (id: string) => mailboxes.put(bob, alice, id, message(alice, id));
    const knock = JSON.stringify({ v: 1, type: "knock", from: alice, id: "knock" });
    await mailboxes.put(bob, alice, "knock", knock);
    const messages = numbers(UNCONFIRMED_FRAMES_MAX - 1);
    await Promise.all(messages.map(put));
    const first = await PlainClient.connect(mailboxes, bob, false);
    expect(await first.has(UNCONFIRMED_FRAMES_MAX)).toEqual(["knock", ...messages]);
    const next = await die();
    await next.put(bob, alice, "late", message(alice, "late"));
    const second = await PlainClient.connect(next, bob);
    expect(await second.has(2)).toEqual(["knock", "late"]);
    expect(second.doubted).toBe(messages.length);
    second.wait();
    await second.end();
    expect(await left(next, bob)).toEqual([]);
    expect(await next.put(bob, alice, "0", message(alice, "0"))).toBe("duplicate");
  });

  test("of a plain client is given again, once, when its relay dies after it knew that the line was dead", async () => {
    const { mailboxes, die } = await openMortal();
    const [alice, bob] = [someone(), someone()];
    const first = await PlainClient.connect(mailboxes, bob, false);
    first.wait();
    await Promise.all(numbers(20).map((id) => mailboxes.put(bob, alice, id, message(alice, id))));
    await first.has(UNCONFIRMED_FRAMES_MAX);
    first.wait();
    await first.end();
    const second = await PlainClient.connect(await die(), bob);
    expect(await second.has(20)).toEqual(numbers(20));
    expect(second.doubted).toBe(0);
  });

  test("of a plain client that takes it may be more than a mailbox holds, and keeps each sender's order", async () => {
    const [here, there] = await open();
    if (!here || !there) throw new Error("no mailboxes");
    const bob = someone();
    const senders = Array.from({ length: 50 }, someone);
    const client = await PlainClient.connect(there, bob);
    const count = MAILBOX_FRAMES_MAX + 500;
    for (let n = 0; n < count; n += 50) {
      const outcomes = senders.map((sender) => here.put(bob, sender, String(n), message(sender, String(n))));
      expect(new Set(await Promise.all(outcomes))).toEqual(new Set(["stored"]));
    }
    await client.has(count);
    for (const sender of senders) {
      const own = client.taken.filter(({ from }) => from === sender).map(({ id }) => Number(id));
      expect(own).toEqual(Array.from({ length: count / 50 }, (_, turn) => 50 * turn));
    }
    client.wait();
    await client.end();
    expect(await left(here, bob)).toEqual([]);
  });
}

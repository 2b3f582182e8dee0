import { expect, onTestFinished, test } from "vitest";
import type { Mail, Mailboxes, MailFeed } from "../../../src/cluster/state.ts";
import { FRAME_TEXT_SIZE_MAX, MAILBOX_FRAMES_MAX } from "../../../src/limits.ts";

// What every kind of mail must hold, whichever replica is asked.

/** Handles of several replicas on one store; the same object several times where there is but one process. */
export type OpenMailboxes = () => Promise<readonly Mailboxes[]>;

let names = 0;
/** A DID that no other test has. */
export const someone = () => `did:mesh:${(++names).toString(16).padStart(8, "0")}${"5".repeat(24)}`;

/** A reader that takes what comes. */
class Reader {
  readonly mail: Mail[] = [];
  readonly #feed: MailFeed;
  readonly #waiting: { readonly count: number; readonly resolve: () => void }[] = [];

  private constructor(feed: MailFeed) {
    this.#feed = feed;
  }

  static async open(mailboxes: Mailboxes, to: string): Promise<Reader> {
    let reader: Reader | undefined;
    const feed = await mailboxes.open(to, () => reader?.take());
    reader = new Reader(feed);
    onTestFinished(() => feed.close());
    reader.take();
    return reader;
  }

  get pending(): number {
    return this.#feed.pending;
  }

  take(): void {
    for (let mail = this.#feed.next(); mail; mail = this.#feed.next()) this.mail.push(mail);
    for (const { count, resolve } of this.#waiting) if (this.mail.length >= count) resolve();
  }

  /** Resolves when it has so many. */
  async has(count: number): Promise<readonly Mail[]> {
    if (this.mail.length < count) await new Promise<void>((resolve) => this.#waiting.push({ count, resolve }));
    return this.mail;
  }

  ack(id: string, from?: string): void {
    this.#feed.ack(id, from);
  }

  close(): Promise<void> {
    return this.#feed.close();
  }
}

export const ids = (mail: readonly Mail[]) => mail.map(({ id }) => id);
export const numbers = (count: number) => Array.from({ length: count }, (_, n) => String(n));

/** What a fresh reader gets, until a frame that is put behind it all. */
export async function left(mailboxes: Mailboxes, to: string): Promise<string[]> {
  const marker = `marker-${++names}`;
  await mailboxes.put(to, someone(), marker, "marker");
  const reader = await Reader.open(mailboxes, to);
  while (!reader.mail.some(({ id }) => id === marker)) await reader.has(reader.mail.length + 1);
  reader.ack(marker);
  await reader.close();
  return ids(reader.mail).filter((id) => !id.startsWith("marker-"));
}

export function mailboxesConformance(open: OpenMailboxes): void {
  test("that waited comes in the order of the puts, then what comes live", async () => {
    const [here, there] = await open();
    if (!here || !there) throw new Error("no mailboxes");
    const [alice, bob] = [someone(), someone()];
    const outcomes = await Promise.all(numbers(50).map((id) => here.put(bob, alice, id, `frame ${id}`)));
    expect(new Set(outcomes)).toEqual(new Set(["stored"]));
    const reader = await Reader.open(there, bob);
    expect(reader.pending).toBe(50);
    await reader.has(50);
    await Promise.all(["live 1", "live 2", "live 3"].map((id) => here.put(bob, alice, id.replace(" ", "-"), id)));
    expect(ids(await reader.has(53))).toEqual([...numbers(50), "live-1", "live-2", "live-3"]);
    const [first] = reader.mail;
    expect(first).toMatchObject({ from: alice, id: "0", text: "frame 0" });
    expect(new Set(reader.mail.map(({ position }) => position)).size).toBe(53);
  });

  test("of many senders on two replicas keeps the order of each", async () => {
    const replicas = await open();
    const bob = someone();
    const [serving] = replicas;
    if (!serving) throw new Error("no mailboxes");
    const reader = await Reader.open(serving, bob);
    const senders = Array.from({ length: 8 }, someone);
    await Promise.all(
      senders.flatMap((sender, n) => numbers(60).map((id) => replicas[n % 2]?.put(bob, sender, id, `${sender} ${id}`))),
    );
    const mail = await reader.has(8 * 60);
    for (const sender of senders) expect(ids(mail.filter(({ from }) => from === sender))).toEqual(numbers(60));
  });

  test("is given again to the next reader until it is acked, to whichever replica that comes", async () => {
    const [here, there] = await open();
    if (!here || !there) throw new Error("no mailboxes");
    const [alice, carol, bob] = [someone(), someone(), someone()];
    for (const id of numbers(3)) await here.put(bob, alice, id, id);
    await here.put(bob, carol, "0", "another's");
    const first = await Reader.open(here, bob);
    await first.has(4);
    first.ack("0", carol);
    first.ack("1", alice);
    // Not one that is there.
    first.ack("7");
    first.ack("2", carol);
    await first.close();
    expect(await left(there, bob)).toEqual(["0", "2"]);
    const second = await Reader.open(there, bob);
    await second.has(2);
    // Without a sender it is the oldest of that id.
    second.ack("0");
    await second.close();
    expect(await left(here, bob)).toEqual(["2"]);
  });

  test("knows a frame that comes again, while it is being stored, waits or was acked", async () => {
    const [here, there] = await open();
    if (!here || !there) throw new Error("no mailboxes");
    const [alice, carol, bob] = [someone(), someone(), someone()];
    const put = (at: Mailboxes) => at.put(bob, alice, "1", "frame");
    expect((await Promise.all([put(here), put(here), put(there)])).sort()).toEqual([
      "duplicate",
      "duplicate",
      "stored",
    ]);
    expect(await put(there)).toBe("duplicate");
    expect(await there.put(bob, carol, "1", "another's")).toBe("stored");
    const reader = await Reader.open(there, bob);
    await reader.has(2);
    reader.ack("1", alice);
    await reader.close();
    expect(await left(there, bob)).toEqual(["1"]);
    expect(await put(here)).toBe("duplicate");
    expect(await left(here, bob)).toEqual(["1"]);
  });

  test("of one recipient is nobody else's", async () => {
    const [mailboxes] = await open();
    if (!mailboxes) throw new Error("no mailboxes");
    const [alice, bob, carol] = [someone(), someone(), someone()];
    const reader = await Reader.open(mailboxes, carol);
    await mailboxes.put(bob, alice, "1", "for bob");
    await mailboxes.put(carol, alice, "1", "for carol");
    expect((await reader.has(1)).map(({ text }) => text)).toEqual(["for carol"]);
    reader.ack("1");
    expect(await left(mailboxes, bob)).toEqual(["1"]);
  });

  test("of any length comes byte by byte, and goes whole", async () => {
    const [here, there] = await open();
    if (!here || !there) throw new Error("no mailboxes");
    const [alice, bob] = [someone(), someone()];
    const reader = await Reader.open(there, bob);
    const frames = [1, FRAME_TEXT_SIZE_MAX, FRAME_TEXT_SIZE_MAX + 1, 300_000, 5_000_000].map((length, n) =>
      Buffer.from(`${n}ü${"x".repeat(length)}`),
    );
    for (const [n, frame] of frames.entries()) {
      const text = frame.length > FRAME_TEXT_SIZE_MAX ? frame : frame.toString();
      expect(await here.put(bob, alice, String(n), text)).toBe("stored");
    }
    await here.put(bob, alice, "last", "behind the long ones");
    const mail = await reader.has(frames.length + 1);
    expect(ids(mail)).toEqual(["0", "1", "2", "3", "4", "last"]);
    for (const [n, frame] of frames.entries()) expect(Buffer.from(mail[n]?.text ?? "").equals(frame)).toBe(true);
    for (const { id } of mail) reader.ack(id);
    await reader.close();
    expect(await left(here, bob)).toEqual([]);
  });

  test("of one recipient is bounded, and of others is not hindered by it", async () => {
    const [here, there] = await open();
    if (!here || !there) throw new Error("no mailboxes");
    const [bob, carol] = [someone(), someone()];
    const senders = Array.from({ length: 50 }, someone);
    const put = (at: Mailboxes, n: number) => at.put(bob, senders[n % 50] ?? "", String(n), "x");
    const outcomes: string[] = [];
    for (let n = 0; n < MAILBOX_FRAMES_MAX + 100; n += 100)
      outcomes.push(
        ...(await Promise.all(Array.from({ length: 100 }, (_, k) => put(k % 2 === 0 ? here : there, n + k)))),
      );
    expect(outcomes.filter((outcome) => outcome === "stored")).toHaveLength(MAILBOX_FRAMES_MAX);
    expect(outcomes.filter((outcome) => outcome === "full")).toHaveLength(100);
    expect(await there.put(carol, bob, "1", "x")).toBe("stored");
    const reader = await Reader.open(there, bob);
    const mail = await reader.has(MAILBOX_FRAMES_MAX);
    for (const [n, sender] of senders.entries()) {
      const own = mail.filter(({ from }) => from === sender).map(({ id }) => Number(id));
      expect(own).toEqual([...own].sort((a, b) => a - b));
      expect(own.every((id) => id % 50 === n)).toBe(true);
    }
    for (const { id, from } of mail) reader.ack(id, from);
    await reader.close();
    expect(await left(here, bob)).toEqual([]);
  });
}

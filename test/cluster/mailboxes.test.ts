import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { type EmbeddedMailboxes, type MailboxesOptions, openMailboxes } from "../../src/cluster/embedded/mailboxes.ts";
import { MAILBOX_AGE_MAX_MS } from "../../src/limits.ts";
import { type Disk, realDisk } from "../../src/store/disk.ts";
import { killedAt } from "./disks.ts";
import { temporaryDirectory } from "./world.ts";

const NOW = Date.parse("2026-03-01T12:00:00Z");

async function open(directory: string, more: Partial<MailboxesOptions> = {}): Promise<EmbeddedMailboxes> {
  const mailboxes = await openMailboxes({ disk: realDisk, directory, now: () => NOW, ...more });
  onTestFinished(() => mailboxes.close());
  return mailboxes;
}

const texts = (mailboxes: EmbeddedMailboxes, to: string, after = 0) =>
  [...mailboxes.from(to, after)].map(({ text }) => text);
const generationsIn = async (directory: string) => (await readdir(join(directory, "mail"))).sort();

describe("a mailbox", () => {
  test("gives what is after a position, in the order of the puts", async () => {
    const mailboxes = await open(await temporaryDirectory());
    const outcomes = await Promise.all(["1", "2", "3"].map((id) => mailboxes.put("bob", "alice", id, `frame ${id}`)));
    expect(outcomes).toEqual(["stored", "stored", "stored"]);
    const [first] = mailboxes.from("bob", 0);
    expect(texts(mailboxes, "bob", first?.position)).toEqual(["frame 2", "frame 3"]);
    expect(texts(mailboxes, "carol")).toEqual([]);
  });

  test("knows a frame that comes again while it is being written, waits or was acked", async () => {
    const directory = await temporaryDirectory();
    const mailboxes = await open(directory);
    const put = () => mailboxes.put("bob", "alice", "1", "frame");
    expect(await Promise.all([put(), put()])).toEqual(["stored", "duplicate"]);
    expect(await put()).toBe("duplicate");
    expect(await mailboxes.put("bob", "carol", "1", "another's")).toBe("stored");
    mailboxes.ack("bob", "1", "alice");
    expect(await put()).toBe("duplicate");
    await mailboxes.close();
    const reopened = await open(directory);
    expect(await reopened.put("bob", "alice", "1", "frame")).toBe("duplicate");
    expect(texts(reopened, "bob")).toEqual(["another's"]);
  });

  test("is full by frames, by bytes, and by what all have together; also of what is still being written", async () => {
    const limits = { frames: 3, bytes: 2000, bytesOfAll: 3000 };
    const mailboxes = await open(await temporaryDirectory(), { limits });
    let n = 0;
    const put = (to: string, size = 1) => mailboxes.put(to, "alice", String(n++), "x".repeat(size));
    expect(await Promise.all([put("a"), put("a"), put("a"), put("a")])).toEqual(["stored", "stored", "stored", "full"]);
    expect(await Promise.all([put("b", 1000), put("b", 1000)])).toEqual(["stored", "full"]);
    expect(await Promise.all([put("c", 400), put("c", 400)])).toEqual(["stored", "full"]);
    mailboxes.ack("a", "0");
    expect(await put("a")).toBe("stored");
  });

  test("forgets what is older than 72 h, also when it is opened", async () => {
    const directory = await temporaryDirectory();
    let time = NOW;
    const mailboxes = await open(directory, { now: () => time });
    await mailboxes.put("bob", "alice", "old", "old");
    time += MAILBOX_AGE_MAX_MS;
    await mailboxes.put("bob", "alice", "new", "new");
    mailboxes.expire(time);
    expect(texts(mailboxes, "bob")).toEqual(["old", "new"]);
    mailboxes.expire(time + 1);
    expect(texts(mailboxes, "bob")).toEqual(["new"]);
    await mailboxes.close();
    expect(texts(await open(directory, { now: () => time + 1 }), "bob")).toEqual(["new"]);
  });

  test("stays in order while frames are removed from everywhere", async () => {
    const mailboxes = await open(await temporaryDirectory());
    await Promise.all(Array.from({ length: 200 }, (_, n) => mailboxes.put("bob", "alice", String(n), String(n))));
    for (let n = 0; n < 200; n++) if (n % 7 !== 3) mailboxes.ack("bob", String(n));
    await mailboxes.put("bob", "alice", "200", "200");
    const left = Array.from({ length: 201 }, (_, n) => n).filter((n) => n % 7 === 3 || n === 200);
    expect(texts(mailboxes, "bob")).toEqual(left.map(String));
  });
});

describe("the journal of the mail", () => {
  /** Mostly garbage: `kept` of `all` frames are not acked. */
  async function littered(directory: string): Promise<void> {
    const mailboxes = await openMailboxes({ disk: realDisk, directory, now: () => NOW });
    await Promise.all(
      Array.from({ length: 30 }, (_, n) => mailboxes.put("bob", "alice", String(n), `${n} ${"x".repeat(2000)}`)),
    );
    for (let n = 0; n < 30; n++) if (n % 10 !== 5) mailboxes.ack("bob", String(n));
    await mailboxes.close();
  }
  const left = ["5", "15", "25"];
  const leftIn = (mailboxes: EmbeddedMailboxes) => [...mailboxes.from("bob", 0)].map(({ id }) => id);

  test("is rewritten when most of it is garbage, and left alone when not", async () => {
    const directory = await temporaryDirectory();
    await littered(directory);
    expect(await generationsIn(directory)).toEqual(["1", "generation"]);
    const kept = await open(directory);
    expect(await generationsIn(directory)).toEqual(["1", "generation"]);
    await kept.close();
    const rewritten = await open(directory, { rewriteSizeMin: 1 });
    expect(await generationsIn(directory)).toEqual(["2", "generation"]);
    expect(leftIn(rewritten)).toEqual(left);
    await rewritten.close();
    const again = await open(directory, { rewriteSizeMin: 1 });
    expect(await generationsIn(directory)).toEqual(["2", "generation"]);
    expect(leftIn(again)).toEqual(left);
    expect(await again.put("bob", "alice", "0", "acked before the rewrite")).toBe("duplicate");
  });

  test("is rewritten while it is in use: what comes meanwhile waits and is kept", async () => {
    const directory = await temporaryDirectory();
    await littered(directory);
    let rewriteSizeMin = Number.POSITIVE_INFINITY;
    const options: MailboxesOptions = {
      disk: realDisk,
      directory,
      now: () => NOW,
      get rewriteSizeMin() {
        return rewriteSizeMin;
      },
    };
    const mailboxes = await openMailboxes(options);
    onTestFinished(() => mailboxes.close());
    await mailboxes.put("bob", "alice", "before", "before");
    rewriteSizeMin = 1;
    const tidied = mailboxes.tidy();
    const puts = ["m1", "m2"].map((id) => mailboxes.put("bob", "alice", id, id));
    mailboxes.ack("bob", "5");
    await tidied;
    expect(await Promise.all(puts)).toEqual(["stored", "stored"]);
    await mailboxes.close();
    expect(leftIn(await open(directory))).toEqual(["15", "25", "before", "m1", "m2"]);
  });

  test("what a killed rewrite left lying is no mail", async () => {
    const directory = await temporaryDirectory();
    await littered(directory);
    await mkdir(join(directory, "mail", "2"));
    await writeFile(join(directory, "mail", "2", "000000000001.jsonl"), "half a li");
    expect(leftIn(await open(directory))).toEqual(left);
    expect(await generationsIn(directory)).toEqual(["1", "generation"]);
  });

  test("a rewrite killed at any change loses nothing and brings nothing back", async () => {
    let rewrites = 0;
    for (let change = 1; ; change++) {
      const directory = await temporaryDirectory();
      await littered(directory);
      const disk = killedAt(change);
      const mailboxes = await openMailboxes({ disk, directory, now: () => NOW, rewriteSizeMin: 1 }).catch(
        () => undefined,
      );
      const outcome = await mailboxes?.put("bob", "alice", "after", "after").catch(() => "lost");
      await mailboxes?.close().catch(() => undefined);
      const reopened = await open(directory);
      const found = leftIn(reopened);
      expect(found.slice(0, 3)).toEqual(left);
      if (outcome === "stored") expect(found).toEqual([...left, "after"]);
      if ((await generationsIn(directory)).includes("2")) rewrites++;
      await reopened.close();
      if (!disk.wasKilled()) break;
    }
    expect(rewrites).toBeGreaterThan(1);
  });

  test("a rewrite whose pointer was moved by a write that failed goes on where the next start will read", async () => {
    const directory = await temporaryDirectory();
    await littered(directory);
    const disk: Disk = {
      ...realDisk,
      async replace(path, bytes) {
        await realDisk.replace(path, bytes);
        throw new Error("the directory could not be synced");
      },
    };
    const mailboxes = await openMailboxes({ disk, directory, now: () => NOW, rewriteSizeMin: 1 });
    expect(await mailboxes.put("bob", "alice", "after", "after")).toBe("stored");
    await mailboxes.close();
    expect(await generationsIn(directory)).toEqual(["2", "generation"]);
    expect(leftIn(await open(directory))).toEqual([...left, "after"]);
  });

  test("a rewrite that failed is tried again later, from the beginning", async () => {
    const directory = await temporaryDirectory();
    await littered(directory);
    let isBroken = true;
    const disk: Disk = {
      ...realDisk,
      replace: (path, bytes) => (isBroken ? Promise.reject(new Error("no space")) : realDisk.replace(path, bytes)),
    };
    const mailboxes = await openMailboxes({ disk, directory, now: () => NOW, rewriteSizeMin: 1 });
    isBroken = false;
    for (const id of ["big1", "big2", "big3"]) {
      await mailboxes.put("bob", "alice", id, "x".repeat(2 * 1024 * 1024));
      mailboxes.ack("bob", id);
    }
    await mailboxes.tidy();
    await mailboxes.close();
    expect(await generationsIn(directory)).toEqual(["2", "generation"]);
    expect(leftIn(await open(directory))).toEqual(left);
  });

  test("a pointer that names nothing is damage, not an empty mailbox", async () => {
    const directory = await temporaryDirectory();
    await littered(directory);
    await writeFile(join(directory, "mail", "generation"), "");
    await expect(open(directory)).rejects.toMatchObject({ code: "store_damaged" });
  });
});

import type { StreamInfo } from "@nats-io/jetstream";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { type Bus, connectBus } from "../../src/cluster/jetstream/bus.ts";
import { type JetStreamDisk, openJetStreamDisk } from "../../src/cluster/jetstream/home.ts";
import { MeshError } from "../../src/errors.ts";
import type { Disk } from "../../src/store/disk.ts";
import { describeDisk } from "../store/conformance/disk.ts";
import { type NatsNode, natsNodes } from "./nodes.ts";
import { withNats } from "./server.ts";

// A home in NATS: one writer, nothing lost, nothing by half.

let servers: Awaited<ReturnType<typeof natsNodes>>;
let url: string;
let clusters = 0;

beforeAll(async () => {
  servers = await natsNodes(1);
  url = servers.nodes[0]?.url ?? "";
});
afterAll(() => servers.close());

async function connected(cluster: string, to = url): Promise<Bus> {
  const connect = () => connectBus({ servers: to, cluster });
  // Servers that have just started may not have found each other yet.
  const bus = await connect().catch(connect).catch(connect);
  onTestFinished(() => bus.close());
  return bus;
}
const freshCluster = () => `home-${clusters++}`;

const bytesOf = (text: string) => Buffer.from(text, "utf8");
const textOf = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString("utf8");

/** Every file with its text. */
async function filesOf(disk: Disk, directory = "/"): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  for (const name of await disk.list(directory)) {
    const path = `${directory === "/" ? "" : directory}/${name}`;
    if ((await disk.size(path)) === undefined) Object.assign(files, await filesOf(disk, path));
    else files[path] = textOf(await disk.read(path)) ?? "";
  }
  return files;
}

/** The messages of a home, in order. */
async function messagesOf(bus: Bus): Promise<{ readonly seq: number; readonly data: Uint8Array }[]> {
  const { state } = await bus.jsm.streams.info(bus.name("home"));
  const messages = [];
  for (let seq = state.first_seq; seq <= state.last_seq; seq++) {
    const message = await bus.jsm.streams.getMessage(bus.name("home"), { seq }).catch(() => null);
    if (message) messages.push({ seq, data: message.data });
  }
  return messages;
}

describe("a disk in NATS", () => {
  describeDisk(async () => {
    const cluster = freshCluster();
    const disk = await openJetStreamDisk(await connected(cluster), "home");
    const reopen = async () => openJetStreamDisk(await connected(cluster), "home");
    return { disk, directory: "/home", reopen };
  });
});

describe("who opens a home", () => {
  /** Opened by one, then by another: the first is deposed and does not know it. */
  async function deposed() {
    const cluster = freshCluster();
    let told = 0;
    const first = await openJetStreamDisk(await connected(cluster), "home", { onDeposed: () => told++ });
    const file = await first.append("/journal");
    await file.write(bytesOf("one "));
    await file.sync();
    await first.replace("/vault", bytesOf("of the first"));
    const bus = await connected(cluster);
    const second = await openJetStreamDisk(bus, "home");
    return { cluster, bus, first, second, file, told: () => told };
  }

  it("deposes who had it: whatever that writes is refused and seen by nobody", async () => {
    const { cluster, first, second, file, told } = await deposed();
    expect(await filesOf(second)).toEqual({ "/journal": "one ", "/vault": "of the first" });
    await file.write(bytesOf("two "));
    const pending = [
      file.sync(),
      first.replace("/vault", bytesOf("of the deposed")),
      first.create("/more", bytesOf("of the deposed")),
      first.name("/vault", "/other"),
      first.remove("/vault"),
      first.gather("/blob", [bytesOf("of the deposed")]),
      file.truncate(0),
      first.append("/third"),
      first.compact(),
    ];
    for (const each of await Promise.allSettled(pending))
      expect(each).toMatchObject({ status: "rejected", reason: { code: "store_io" } });
    await expect(first.read("/vault")).rejects.toMatchObject({ code: "store_io" });
    await expect(first.replace("/vault", bytesOf("later"))).rejects.toMatchObject({ code: "store_io" });
    expect(told()).toBe(1);
    await file.close();
    await second.replace("/vault", bytesOf("of the second"));
    const expected = { "/journal": "one ", "/vault": "of the second" };
    expect(await filesOf(second)).toEqual(expected);
    expect(await filesOf(await openJetStreamDisk(await connected(cluster), "home"))).toEqual(expected);
  });

  it("has what the other wrote up to its last word, and nothing that was refused", async () => {
    const cluster = freshCluster();
    const first = await openJetStreamDisk(await connected(cluster), "home");
    const file = await first.append("/journal");
    const durable: number[] = [];
    const writing = (async () => {
      for (let n = 0; ; n++) {
        await file.write(bytesOf(`${n}\n`));
        await file.sync();
        durable.push(n);
      }
    })();
    const ended = writing.catch((error: unknown) => error);
    const bus = await connected(cluster);
    while (durable.length < 50) await new Promise((resolve) => setImmediate(resolve));
    const second = await openJetStreamDisk(bus, "home");
    const lines = textOf(await second.read("/journal")) ?? "";
    expect(await ended).toMatchObject({ code: "store_io" });
    expect(lines).toBe(durable.map((n) => `${n}\n`).join(""));
  });

  it("is one of many at the same time: the last one has it", async () => {
    const cluster = freshCluster();
    const buses = await Promise.all(Array.from({ length: 5 }, () => connected(cluster)));
    const disks = await Promise.all(buses.map((bus) => openJetStreamDisk(bus, "home")));
    const outcomes = await Promise.allSettled(disks.map((disk, n) => disk.replace("/who", bytesOf(`${n}`))));
    const winners = outcomes.flatMap(({ status }, n) => (status === "fulfilled" ? [n] : []));
    expect(winners).toHaveLength(1);
    expect(textOf(await disks[winners[0] ?? 0]?.read("/who"))).toBe(`${winners[0]}`);
  });
});

describe("what must be forgotten", () => {
  it("is out of NATS when it was replaced or removed", async () => {
    const bus = await connected(freshCluster());
    const disk = await openJetStreamDisk(bus, "home");
    await disk.replace("/vault", bytesOf("an old secret"));
    await disk.replace("/vault", bytesOf("a new secret"));
    const large = Buffer.alloc(1_500_000, "a large secret ");
    await disk.gather("/blob", [large]);
    await disk.remove("/blob");
    const all = Buffer.concat((await messagesOf(bus)).map(({ data }) => data)).toString("utf8");
    expect(all).toContain("a new secret");
    expect(all).not.toContain("an old secret");
    expect(all).not.toContain("a large secret");
  });
});

describe("a log that is begun anew", () => {
  async function written(): Promise<{ cluster: string; bus: Bus; disk: JetStreamDisk }> {
    const cluster = freshCluster();
    const bus = await connected(cluster);
    const disk = await openJetStreamDisk(bus, "home");
    const file = await disk.append("/journal/1.jsonl");
    for (let n = 0; n < 10; n++) {
      await file.write(bytesOf(`line ${n}\n`));
      await file.sync();
    }
    await file.truncate(14);
    await file.close();
    await disk.replace("/vault", bytesOf("secrets"));
    await disk.replace("/large", Buffer.alloc(1_300_000, "large "));
    await disk.gather("/blobs/x", [bytesOf("blob")]);
    await disk.name("/blobs/x", "/blobs/y");
    await disk.replace("/gone", bytesOf("gone"));
    await disk.remove("/gone");
    return { cluster, bus, disk };
  }

  it("holds the files and no more, and they go on", async () => {
    const { cluster, bus, disk } = await written();
    const before = await filesOf(disk);
    await disk.compact();
    expect(await filesOf(disk)).toEqual(before);
    // Begin, end, four files, and two parts of the large one.
    expect(await messagesOf(bus)).toHaveLength(8);
    const file = await disk.append("/journal/1.jsonl");
    await file.write(bytesOf("line 10\n"));
    await file.sync();
    await disk.replace("/vault", bytesOf("more secrets"));
    const again = await openJetStreamDisk(await connected(cluster), "home");
    expect(await filesOf(again)).toEqual({
      ...before,
      "/journal/1.jsonl": "line 0\nline 1\nline 10\n",
      "/vault": "more secrets",
    });
  });

  it("loses nothing wherever its writer dies", async () => {
    const { bus, disk } = await written();
    const files = await filesOf(disk);
    const log = await messagesOf(bus);
    await disk.compact();
    const anew = await messagesOf(bus);
    for (let kept = 0; kept <= anew.length; kept++) {
      const other = await connected(freshCluster());
      const name = await other.stream("home", { subjects: [other.subject("home")] });
      for (const { data } of [...log, ...anew.slice(0, kept)]) await other.js.publish(other.subject("home"), data);
      const opened = await openJetStreamDisk(other, "home");
      expect(await filesOf(opened)).toEqual(files);
      await opened.replace("/after", bytesOf("after"));
      await opened.close();
      const again = await openJetStreamDisk(other, "home");
      expect(await filesOf(again)).toEqual({ ...files, "/after": "after" });
      // Of one that was broken off nothing stays.
      if (kept < anew.length) {
        const { state } = await other.jsm.streams.info(name);
        expect(state.bytes).toBeLessThan(2_000_000);
      }
    }
  });

  it("is begun by itself when it has become long", async () => {
    const bus = await connected(freshCluster());
    const disk = await openJetStreamDisk(bus, "home");
    const file = await disk.append("/probe");
    // Written and cut off again and again: the file stays short, its log does not.
    for (let n = 0; n < 20; n++) {
      await file.write(bytesOf("x"));
      await file.write(Buffer.alloc(500_000, n));
      await file.sync();
      await file.truncate(1);
      await file.sync();
    }
    await disk.close();
    const { state } = await bus.jsm.streams.info(bus.name("home"));
    expect(state.bytes).toBeLessThan(6_000_000);
    const again = await openJetStreamDisk(bus, "home");
    expect(textOf(await again.read("/probe"))).toBe("x");
  });
});

describe("a NATS that dies", () => {
  /** False for what a disk refuses. */
  function isRefused(error: unknown): false {
    if (error instanceof MeshError && error.code === "store_io") return false;
    throw error;
  }

  /** Appends numbers, and ends when told to, with what was acked. */
  function appending(disk: Disk) {
    const acked: number[] = [];
    let isOver = false;
    const reached: { count: number; resolve: () => void }[] = [];
    const done = (async () => {
      const file = await disk.append("/journal");
      for (let n = 0; !isOver; n++) {
        await file.write(bytesOf(`${n}\n`));
        // What was refused because an election took long goes with the next.
        while (!(await file.sync().then(() => true, isRefused)));
        acked.push(n);
        for (const each of reached) if (acked.length >= each.count) each.resolve();
      }
      await file.close();
    })();
    return {
      acked,
      reach: (more: number) =>
        Promise.race([done, new Promise<void>((resolve) => reached.push({ count: acked.length + more, resolve }))]),
      end: async () => {
        isOver = true;
        await done;
      },
    };
  }
  /** The stream when all its copies have caught up: one may be lost again. */
  async function wholeStream(bus: Bus): Promise<StreamInfo> {
    for (;;) {
      const info = await bus.jsm.streams.info(bus.name("home")).catch(() => undefined);
      const { leader, replicas = [] } = info?.cluster ?? {};
      if (info && leader && replicas.length === 2 && replicas.every(({ current, offline }) => current && !offline))
        return info;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  const textOfNumbers = (numbers: readonly number[]) => numbers.map((n) => `${n}\n`).join("");

  it("and comes back loses nothing that was acked", async () => {
    const [node] = await withNats(1);
    const bus = await connected("one", node?.url);
    const disk = await openJetStreamDisk(bus, "home");
    const writer = appending(disk);
    for (let round = 0; round < 2; round++) {
      await writer.reach(100);
      await node?.kill();
      await node?.start();
    }
    await writer.reach(100);
    await writer.end();
    const again = await openJetStreamDisk(bus, "home");
    expect(textOf(await again.read("/journal"))).toBe(textOfNumbers(writer.acked));
  });

  it("as the leader of three loses nothing that was acked, and the writer goes on", async () => {
    const nodes = await withNats(3);
    const bus = await connected("three", nodes.map(({ url }) => url).join(","));
    const disk = await openJetStreamDisk(bus, "home");
    const writer = appending(disk);
    await writer.reach(100);
    for (let round = 0; round < 2; round++) {
      const info = await wholeStream(bus);
      const leader: NatsNode | undefined = nodes[Number(/^n(\d)$/.exec(info.cluster?.leader ?? "")?.[1])];
      expect(leader).toBeDefined();
      await leader?.kill();
      await writer.reach(100);
      await leader?.start();
      await writer.reach(100);
    }
    await writer.end();
    const again = await openJetStreamDisk(bus, "home");
    expect(textOf(await again.read("/journal"))).toBe(textOfNumbers(writer.acked));
  }, 120_000);

  it("is refused by the disk after a while; what came through or not is certain before anything else is", async () => {
    const [node] = await withNats(1);
    const bus = await connected("away", node?.url);
    const disk = await openJetStreamDisk(bus, "home");
    await disk.replace("/vault", bytesOf("old"));
    await node?.kill();
    await expect(disk.replace("/vault", bytesOf("new"))).rejects.toMatchObject({ code: "store_io" });
    // Nobody is told what may not be so.
    await expect(disk.read("/vault")).rejects.toMatchObject({ code: "store_io" });
    const attached = new Promise<void>((resolve) => bus.onAttached(resolve));
    await node?.start();
    await attached;
    expect(await waited(() => disk.read("/vault"))).toBe("old");
    await disk.replace("/vault", bytesOf("newer"));
    expect(textOf(await disk.read("/vault"))).toBe("newer");
  });
});

/** Asks until it is answered: a server that has just come back takes a moment. */
async function waited(ask: () => Promise<Uint8Array | undefined>): Promise<string | undefined> {
  for (let left = 10; ; left--) {
    try {
      return textOf(await ask());
    } catch (error) {
      if (left === 0) throw error;
    }
  }
}

import { appendFile, cp, mkdir, readdir, readFile, truncate } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { MeshNode } from "../../src/actors/node.ts";
import { persist } from "../../src/actors/state.ts";
import { CLUSTER_DEFINITIONS, definitionOf, partsOf } from "../../src/inspect/definitions.ts";
import { stateText } from "../../src/inspect/fold.ts";
import { formatHistory, listStreams, readHistory } from "../../src/inspect/history.ts";
import { type Point, type Replay, replayStream as replayOf } from "../../src/inspect/moments.ts";
import { REDACTED, redactContext } from "../../src/inspect/redact.ts";
import { checkReplay } from "../../src/inspect/replay.ts";
import { homeSource } from "../../src/inspect/source.ts";
import { realDisk } from "../../src/store/disk.ts";
import type { StoredEvent } from "../../src/store/journal.ts";
import { writeSnapshots } from "../../src/store/snapshots.ts";
import { cluster, type Laptop, laptop, say, temporaryDirectory } from "./world.ts";

const replayStream = (home: string, stream: string, number?: number): Promise<Replay> =>
  replayOf(homeSource(home), stream, number === undefined ? undefined : ({ number } satisfies Point));
const asJson = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

/** Two laptops that have talked; both are running. */
async function talking(): Promise<{ alice: Laptop; bob: Laptop }> {
  const server = await cluster();
  const alice = await laptop(server, "alice");
  const bob = await laptop(server, "bob");
  await say(alice, bob, "hello bob");
  await say(bob, alice, "hello alice");
  await say(alice, bob, "how are you?");
  await alice.mesh.call("settle", {});
  return { alice, bob };
}

async function lastSegment(home: string): Promise<string> {
  const journal = join(home, "journal");
  return join(journal, (await readdir(journal)).sort().at(-1) ?? "");
}

/** The journal alone, as it is now, in another place. */
async function copyOf(home: string): Promise<string> {
  const copy = join(await temporaryDirectory(), "copy");
  await mkdir(copy);
  await cp(join(home, "journal"), join(copy, "journal"), { recursive: true });
  return copy;
}

describe("beside a running owner", () => {
  test("every stream replays to the live state", async () => {
    const { alice } = await talking();
    const isKept = (stream: string) => definitionOf(stream)?.live !== true;
    const live = [...alice.node.core.system.streams()].filter(([stream]) => isKept(stream));
    expect(live.map(([stream]) => partsOf(stream).kind).sort()).toEqual([
      "conversation",
      "pairing",
      "prekeys",
      "session",
    ]);
    const streams = await listStreams(alice.home);
    expect(streams.map(({ stream }) => stream).sort()).toEqual(live.map(([stream]) => stream).sort());
    for (const [stream, state] of live) {
      const { kind } = partsOf(stream);
      const replay = await replayStream(alice.home, stream);
      expect(replay.value).toEqual(state.snapshot.value);
      expect(replay.context).toEqual(redactContext(kind, state.snapshot.context));
      expect(replay.timers.map(({ id }) => id)).toEqual(Object.keys(persist(state).timers));
      expect(replay.events).toBe(streams.find((each) => each.stream === stream)?.events);
      expect(replay.at).toBe(streams.find((each) => each.stream === stream)?.last_at);
      // Nothing waits any more; what remains is the link, which every restart brings up.
      expect(replay.effects).toEqual(kind === "pairing" ? ["connect"] : []);
    }
  });

  test("history tells each transition and each effect, in order", async () => {
    const { alice, bob } = await talking();
    const stream = `conversation/${bob.did}`;
    const { lines, total } = await readHistory(alice.home, { stream });
    expect(total).toBe(lines.length);
    expect(lines.slice(0, 5).map(({ type, from, to, effects }) => ({ type, from, to, effects }))).toEqual([
      { type: "SEND", from: "closed", to: "opening", effects: ["establish"] },
      { type: "ANNOUNCED", from: "opening", to: "opening", effects: [] },
      { type: "ESTABLISHED", from: "opening", to: "open", effects: ["seal"] },
      { type: "SEALED", from: "open", to: "open", effects: ["transmit"] },
      { type: "TRANSMITTED", from: "open", to: "open", effects: [] },
    ]);
    for (const [index, line] of lines.entries()) {
      expect(line.accepted).toBe(true);
      expect(line.from).toBe(index === 0 ? "closed" : lines[index - 1]?.to);
      expect(new Date(line.at).toISOString()).toBe(line.at);
    }
    const live = alice.node.core.system.state(stream);
    expect(lines.at(-1)?.to).toBe(live && stateText(live.snapshot.value));
    const everything = await readHistory(alice.home);
    expect(everything.lines.filter((line) => line.stream === stream)).toEqual(lines);
  });

  test("pages of whole commits cover everything once", async () => {
    const { alice } = await talking();
    const { lines, total } = await readHistory(alice.home, { limit: 10_000 });
    const paged: typeof lines = [];
    for (let after = 0; ; ) {
      const page = await readHistory(alice.home, { after, limit: 3 });
      expect(page.total).toBe(total);
      const last = page.lines.at(-1);
      if (!last) break;
      paged.push(...page.lines);
      after = last.number;
    }
    expect(paged).toEqual(lines);
    expect((await readHistory(alice.home, { limit: 2 })).lines).toEqual(lines.slice(-2));
  });

  test("a stream replays to where it stood at any commit", async () => {
    const { alice, bob } = await talking();
    const stream = `conversation/${bob.did}`;
    const { lines } = await readHistory(alice.home, { stream });
    const [first] = lines;
    const before = await replayStream(alice.home, stream, (first?.number ?? 0) - 1);
    expect(before).toMatchObject({ events: 0, number: 0, at: null, value: "closed", effects: [] });
    expect(before.accepts).toContain("SEND");
    const after = await replayStream(alice.home, stream, first?.number);
    expect(after).toMatchObject({
      events: 1,
      number: first?.number,
      value: "opening",
      effects: ["establish"],
    });
    expect(after.accepts).toContain("ESTABLISH_FAILED");
    expect(after.accepts.filter((type) => type.startsWith("xstate."))).toEqual([]);
  });

  test("a last line that is not whole yet is left out", async () => {
    const { alice } = await talking();
    const home = await copyOf(alice.home);
    const whole = await readHistory(home);
    const segment = await lastSegment(home);
    await appendFile(segment, '{"n":999,"t":1,"g":999,"p":"","e":[{"s":"conversation/did');
    expect(await readHistory(home)).toEqual(whole);
    const bytes = await readFile(segment);
    await truncate(segment, bytes.lastIndexOf(10) - 5);
    const numbers = new Set(whole.lines.map(({ number }) => number));
    const torn = await readHistory(home);
    expect(new Set(torn.lines.map(({ number }) => number)).size).toBe(numbers.size - 1);
    expect(torn.lines).toEqual(whole.lines.slice(0, torn.lines.length));
    expect((await checkReplay(home)).differences).toEqual([]);
  });

  test("a stream that is not there is refused, and some that are are named", async () => {
    const { alice, bob } = await talking();
    const refusal = { code: "input_invalid", message: expect.stringContaining(`conversation/${bob.did}`) };
    await expect(replayStream(alice.home, "conversation/nobody")).rejects.toMatchObject(refusal);
    await expect(replayStream(alice.home, "kettle/1")).rejects.toMatchObject(refusal);
    await expect(readHistory(alice.home, { stream: "offload/none" })).rejects.toMatchObject(refusal);
    await expect(readHistory(alice.home, { limit: 1_000_000 })).rejects.toMatchObject({ code: "input_invalid" });
    await expect(replayStream("/nowhere", "offload/none")).rejects.toMatchObject({
      message: expect.stringContaining("The journal is empty."),
    });
    expect(await listStreams("/nowhere")).toEqual([]);
    expect(await readHistory("/nowhere")).toEqual({ lines: [], total: 0 });
  });

  test("no words, nonces or sealed bodies are read out of a home", async () => {
    const { alice, bob } = await talking();
    const journal = await readFile(await lastSegment(alice.home), "utf8");
    const kept = [...journal.matchAll(/"(?:sealed|nonce)":"([^"]+)"/g)].map(([, value]) => value ?? "");
    expect(kept.length).toBeGreaterThan(4);
    const replays = await Promise.all(
      (await listStreams(alice.home)).map(({ stream }) => replayStream(alice.home, stream)),
    );
    const shown = JSON.stringify([await readHistory(alice.home), replays]);
    for (const secret of [...kept, "hello", "how are"]) expect(shown).not.toContain(secret);
    expect(shown).toContain(bob.did);
  });
});

describe("a whole home", () => {
  test("folds to the snapshots that its node wrote", async () => {
    const { alice } = await talking();
    const before = await checkReplay(alice.home);
    expect(before).toMatchObject({ streams: 4, compared_at: null, differences: [] });
    await alice.mesh.close();
    const { total, lines } = await readHistory(alice.home);
    expect(await checkReplay(alice.home)).toEqual({
      streams: 4,
      events: total,
      compared_at: lines.at(-1)?.number,
      differences: [],
    });
  });

  test("of a controller is understood too", async () => {
    const home = await temporaryDirectory();
    const node = await MeshNode.open({ home, definitions: CLUSTER_DEFINITIONS });
    onTestFinished(() => node.close());
    node.start();
    const tell = (stream: string, event: StoredEvent) => node.core.system.commit([{ stream, event }]).durable;
    const laptop = `did:mesh:${"0".repeat(32)}`;
    const grant = { slots: 1, capabilities: ["offload"], expires_at: Date.now() + 60_000, token_budget: null };
    await tell("grant/laptop", { type: "ISSUED", token_hash: "c".repeat(64), ...grant });
    await tell("grant/laptop", { type: "BOUND", did: laptop, name: "laptop" });
    const run = { request: "r1", grant: "laptop", laptop, sandbox: "sandbox-1", capabilities: [], timeout_minutes: 1 };
    await tell("run/r1", { type: "REQUESTED", ...run });
    const replay = await replayStream(home, "grant/laptop");
    expect(replay).toMatchObject({ value: { valid: "active" }, context: { did: laptop, tokenHash: REDACTED } });
    expect(replay.timers).toEqual([
      { id: "xstate.after.expiry.grant.valid", at: new Date(grant.expires_at).toISOString() },
    ]);
    expect((await replayStream(home, "run/r1")).effects).toEqual(["spawn"]);
    await node.close();
    expect(await checkReplay(home)).toEqual({ streams: 2, events: 3, compared_at: 3, differences: [] });
  });

  test("names the stream whose snapshot is another one", async () => {
    const { alice, bob } = await talking();
    await alice.mesh.close();
    const { system } = alice.node.core;
    const { position, state } = system.capture();
    const stream = `conversation/${bob.did}`;
    const changed = asJson(state) as { actors: Record<string, { context: { sent: number } }> };
    const actor = changed.actors[stream];
    if (actor) actor.context.sent++;
    await writeSnapshots(realDisk, alice.home, { versions: system.versions, position, state: changed });
    const { differences } = await checkReplay(alice.home);
    expect(differences.map((difference) => difference.stream)).toEqual([stream]);
    // Snapshots of another program version are no snapshots.
    await writeSnapshots(realDisk, alice.home, { versions: "other@1", position, state: changed });
    expect(await checkReplay(alice.home)).toMatchObject({ compared_at: null, differences: [] });
    // Snapshots that know more than the journal: the journal was cut.
    await writeSnapshots(realDisk, alice.home, { versions: system.versions, position: position + 5, state });
    expect((await checkReplay(alice.home)).differences).toMatchObject([{ stream: "snapshots" }]);
  });
});

describe("the timeline", () => {
  const line = {
    number: 1,
    at: "2026-03-01T12:00:00.000Z",
    stream: "conversation/did:mesh:0123456789abcdef0123456789abcdef",
    type: "SEND",
    event: { type: "SEND" },
    from: "closed",
    to: "opening",
    effects: ["establish"],
    accepted: true,
  };

  test("is one aligned line an event", () => {
    const id = "xstate.after.retry.pairing.joining.registeringLater";
    const lines = [
      line,
      { ...line, type: "ESTABLISHED", from: "opening", to: "open", effects: ["seal", "transmit"] },
      {
        ...line,
        stream: "pairing/did:mesh:ffff456789abcdef0123456789abcdef",
        type: "@timer",
        event: { type: "@timer", id },
        from: "joining.registeringLater",
        to: "joining.registering",
        effects: ["register"],
      },
      { ...line, type: "READ", from: "open", to: "open", effects: [], accepted: false },
    ];
    expect(formatHistory(lines)).toBe(
      [
        "2026-03-01 12:00:00.000  conversation/01234567…  SEND         closed -> opening                         establish",
        "2026-03-01 12:00:00.000  conversation/01234567…  ESTABLISHED  opening -> open                           seal, transmit",
        "2026-03-01 12:00:00.000  pairing/ffff4567…       after retry  joining.registeringLater -> .registering  register",
        "2026-03-01 12:00:00.000  conversation/01234567…  READ         open                                      (refused)",
      ].join("\n"),
    );
    expect(formatHistory([])).toBe("");
  });

  test("fits 120 columns, whatever happens", async () => {
    const long = "x".repeat(200);
    const { alice } = await talking();
    const { lines } = await readHistory(alice.home);
    const worst = { ...line, stream: `${long}/${long}`, type: long, from: long, to: long, effects: [long, long] };
    const rows = formatHistory([...lines, worst]).split("\n");
    expect(rows).toHaveLength(lines.length + 1);
    for (const row of rows) expect(row.length).toBeLessThanOrEqual(120);
  });
});

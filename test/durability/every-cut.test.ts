// Every file of a home, cut and changed all through its last two commits, at every third byte and around the ends of lines: it opens as it was before or after them, or it
// refuses and says where. Never anything else.

import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { realNetwork } from "../../src/actors/network.ts";
import { MeshNode } from "../../src/actors/node.ts";
import { type Ports, realPorts } from "../../src/actors/ports.ts";
import { MeshError } from "../../src/errors.ts";
import type { ConversationContext } from "../../src/machines/conversation/events.ts";
import type { SessionContext } from "../../src/machines/session/events.ts";
import { joinPath } from "../../src/store/disk.ts";
import { call, offline, openWorld } from "../actors/world.ts";
import { ALICE } from "../specification.ts";
import { type Files, MemoryDisk } from "../store/memory-disk.ts";

const on = (ports: Ports, disk: MemoryDisk): Ports => ({ ...ports, disk });
const SEGMENT = "000000000001.jsonl";

/** A recorded run: its files at its end, and what it was after each commit of its last two. */
interface Run {
  readonly home: string;
  readonly files: Files;
  readonly states: ReadonlyMap<number, string>;
  readonly head: number;
}

/** All that a home is: states, the index of messages, and the secrets that move. */
function portrait({ core }: MeshNode): string {
  const sessions = [...core.system.streams("session")].map(([, { snapshot }]) => {
    const { id }: SessionContext = snapshot.context;
    return [id, core.keyring.ratchet(id)?.state, core.keyring.ratchet(id)?.skipped.size];
  });
  return JSON.stringify([core.system.capture(), core.keyring.hasIdentity, sessions]);
}

const openOn = (home: string, files: Files) => {
  const disk = new MemoryDisk(files);
  return MeshNode.open({ home, ports: on(offline(), disk) }).then((node) => ({ node, disk }));
};

/** Goes on from files, and records what each commit makes of the home. */
async function record(home: string, from: Files, work: (node: MeshNode) => Promise<unknown>): Promise<Run> {
  const { node, disk } = await openOn(home, from);
  const states = new Map([[node.core.system.position, portrait(node)]]);
  node.core.system.subscribe(({ commit }) => {
    // The last change of a commit has it whole.
    if (commit) states.set(commit.number, portrait(node));
  });
  await work(node);
  return { home, files: new Map(disk.files), states, head: node.core.system.position };
}

const sendWith = (node: MeshNode, id: string, length = 10) => {
  const { body, size, secrets, before } = node.core.bodies.seal(ALICE, id.padEnd(length, "x"), true);
  const event = { type: "SEND", id, kind: "work", body, size };
  // A secret of its own in each commit, so that what rides in the line counts too.
  return node.core.system.commit([{ stream: `conversation/${ALICE}`, event }], {
    secrets: { ...secrets, [`sent/${ALICE}/${id}`]: "AAAA" },
    before,
  }).durable;
};

/** What became of a home that was tampered with: the commit after which it stands, or why it refuses. */
async function outcome(run: Run, files: Files, torn?: number): Promise<number | MeshError> {
  let node: MeshNode;
  try {
    node = (await openOn(run.home, files)).node;
  } catch (error) {
    if (error instanceof MeshError) return error;
    throw error;
  }
  if (torn !== undefined) expect(node.journal.report.cut?.bytes ?? 0, "what it says was torn").toBe(torn);
  const seen = portrait(node);
  for (const [number, state] of run.states) if (state === seen) return number;
  throw new Error(`A third thing, at commit ${node.core.system.position}.`);
}

const withFile = (files: Files, path: string, bytes: Uint8Array): Files => new Map(files).set(path, bytes);
const bytesOf = ({ files }: Run, path: string): Buffer => Buffer.from(files.get(path) ?? []);

/** A byte changed in the ways in which bytes change: by a bit, by the first bit, into a newline, into nothing. */
function* changesOf(bytes: Buffer, at: number): Generator<Buffer> {
  const old = bytes[at] ?? 0;
  for (const value of new Set([old ^ 1, old ^ 0x80, 10, 0])) {
    if (value === old) continue;
    const changed = Buffer.from(bytes);
    changed[at] = value;
    yield changed;
  }
}

/** Where each line of a segment begins, and the end of the last. */
function linesIn(bytes: Buffer): number[] {
  const starts = [0];
  for (let at = bytes.indexOf(10); at !== -1; at = bytes.indexOf(10, at + 1)) starts.push(at + 1);
  return starts;
}

interface Runs {
  /** Its last two commits were synced one after the other, */
  readonly apart: Run;
  /** or by one sync. */
  readonly together: Run;
  /** It was closed in peace: the vault and the snapshots are of its end. */
  readonly closed: Run;
}
let runs: Promise<Runs> | undefined;
const recorded = () => {
  runs ??= recordRuns();
  return runs;
};

async function recordRuns(): Promise<Runs> {
  const world = await openWorld();
  const disk = new MemoryDisk();
  const bob = await world.open("bob", on(realPorts(realNetwork), disk));
  const alice = await world.open("alice");
  // Sessions, ratchets that turned, an outbox and an inbox.
  await call(bob, "send", { to: "alice", message: "are you there?" });
  await call(alice, "await", { from: ["bob"], timeout_ms: 10_000 });
  await call(alice, "send", { to: "bob", message: "yes" });
  await call(bob, "await", { from: ["alice"], timeout_ms: 10_000 });
  await bob.close();
  const home = world.home("bob");
  const begun = new Map(disk.files);
  const apart = await record(home, begun, async (node) => {
    await sendWith(node, "blob", 40_000);
    await sendWith(node, "one");
    await sendWith(node, "two");
  });
  const together = await record(home, begun, async (node) => {
    await sendWith(node, "blob", 40_000);
    await Promise.all([sendWith(node, "one"), sendWith(node, "two")]);
  });
  const closed = await record(home, apart.files, async (node) => {
    await sendWith(node, "three");
    await node.close();
  });
  return { apart, together, closed };
}

const journalOf = ({ home }: Run) => join(home, "journal", SEGMENT);

/** The segment's line that a byte stands in, from 1; it is the number of its commit, too. */
const lineAt = (starts: readonly number[], at: number) => starts.filter((start) => start <= at).length;

/** Which bytes are tried. */
const EVERY = 3;
const NEAR = 8;

function* lastTwo({ head }: Run, bytes: Buffer): Generator<{ at: number; line: number }> {
  const starts = linesIn(bytes);
  expect(starts.length - 1, "a line each commit").toBe(head);
  const isNearEnd = (at: number) => starts.some((start) => Math.abs(start - at) < NEAR);
  for (let at = starts[head - 2] ?? 0; at < bytes.length; at++)
    if (at % EVERY === 0 || isNearEnd(at)) yield { at, line: lineAt(starts, at) };
}

describe("the journal", () => {
  it("cut anywhere is as it was before the commit that was cut, and says how much was torn", async () => {
    const { apart, together } = await recorded();
    for (const run of [apart, together]) {
      const path = journalOf(run);
      const bytes = bytesOf(run, path);
      const starts = linesIn(bytes);
      for (const { at, line } of lastTwo(run, bytes)) {
        const files = withFile(run.files, path, bytes.subarray(0, at));
        const torn = at - (starts[line - 1] ?? 0);
        expect(await outcome(run, files, torn), `cut at byte ${at}`).toBe(line - 1);
      }
    }
  });

  it("changed anywhere in its last commit is as it was before it; in the one before it refuses, naming segment and line", async () => {
    const { apart } = await recorded();
    const path = journalOf(apart);
    const bytes = bytesOf(apart, path);
    for (const { at, line } of lastTwo(apart, bytes)) {
      for (const changed of changesOf(bytes, at)) {
        const seen = await outcome(apart, withFile(apart.files, path, changed));
        if (line === apart.head) expect(seen, `byte ${at}`).toBe(apart.head - 1);
        else {
          expect(seen, `byte ${at}`).toMatchObject({ code: "store_damaged" });
          expect(String(seen)).toContain(`Journal segment ${SEGMENT}, line ${line}: `);
        }
      }
    }
  });

  it("changed anywhere in its last group is as it was before the commit that was changed", async () => {
    const { together } = await recorded();
    const path = journalOf(together);
    const bytes = bytesOf(together, path);
    for (const { at, line } of lastTwo(together, bytes))
      for (const changed of changesOf(bytes, at))
        expect(await outcome(together, withFile(together.files, path, changed)), `byte ${at}`).toBe(line - 1);
  });

  it("of a home that was closed does not open shorter than the vault knows it, and nothing is changed then", async () => {
    const { closed } = await recorded();
    const path = journalOf(closed);
    const bytes = bytesOf(closed, path);
    for (const { at, line } of lastTwo(closed, bytes)) {
      for (const content of [bytes.subarray(0, at), ...changesOf(bytes, at)]) {
        const disk = new MemoryDisk(withFile(closed.files, path, content));
        const error = await MeshNode.open({ home: closed.home, ports: on(offline(), disk) }).catch((each) => each);
        expect(error, `byte ${at}`).toMatchObject({ code: "store_damaged" });
        // Cut between two lines, nothing is broken but that more were made.
        expect(error.message).toMatch(new RegExp(`^Journal segment ${SEGMENT}, line (${line}|${line - 1}): `));
        expect(disk.files.get(path)).toEqual(content);
      }
    }
  });
});

describe("a file that is written whole", () => {
  /** Every byte of its beginning, then every so-and-so-many. */
  function* placesIn(bytes: Buffer, stride: number): Generator<number> {
    for (let at = 0; at < bytes.length; at += at < 100 ? 1 : stride) yield at;
  }

  async function damageEach(
    name: string,
    stride: number,
    isRight: (seen: number | MeshError, run: Run) => boolean,
  ): Promise<number> {
    const { closed } = await recorded();
    const path = joinPath(closed.home, name);
    const bytes = bytesOf(closed, path);
    expect(bytes.length).toBeGreaterThan(0);
    let tried = 0;
    for (const at of placesIn(bytes, stride)) {
      for (const content of [bytes.subarray(0, at), ...changesOf(bytes, at)]) {
        const seen = await outcome(closed, withFile(closed.files, path, content));
        if (!isRight(seen, closed)) expect.fail(`${name}, byte ${at}: ${String(seen)}`);
        tried++;
      }
    }
    return tried;
  }
  const refuses =
    (code: string, ...names: string[]) =>
    (seen: number | MeshError, { home }: Run) =>
      seen instanceof MeshError &&
      seen.code === code &&
      names.some((name) => seen.message.startsWith(joinPath(home, name)));

  it("the vault: it refuses and names it", async () => {
    expect(await damageEach("vault", 41, refuses("store_damaged", "vault"))).toBeGreaterThan(500);
  });
  it("the store key: it refuses and names it or what it should open, or it is the same key still", async () => {
    const asKey = refuses("store_key_unreadable", "store.key");
    const asVault = refuses("store_damaged", "vault");
    await damageEach("store.key", 1, (seen, run) => asKey(seen, run) || asVault(seen, run) || seen === run.head);
  });
  it("the snapshots: they are a cache, and cost nothing but time", async () => {
    await damageEach("snapshots/snapshots.json", 37, (seen, { head }) => seen === head);
  });
  it("a blob: the home is whole, and the words come back whole or not at all", async () => {
    const { closed } = await recorded();
    const { node } = await openOn(closed.home, closed.files);
    const context: ConversationContext | undefined = node.core.system.state(`conversation/${ALICE}`)?.snapshot.context;
    const body = context?.outbox.find(({ id }) => id === "blob")?.body;
    if (!body || !("blob" in body)) throw new Error("the large message is in no blob");
    const path = joinPath(closed.home, `blobs/${body.blob}`);
    const bytes = bytesOf(closed, path);
    for (let at = 0; at < bytes.length; at += 997) {
      for (const content of [bytes.subarray(0, at), ...changesOf(bytes, at)]) {
        const files = withFile(closed.files, path, content);
        expect(await outcome(closed, files)).toBe(closed.head);
        const tampered = await openOn(closed.home, files);
        await expect(tampered.node.core.bodies.open(ALICE, body)).rejects.toMatchObject({ code: "store_damaged" });
      }
    }
  });
  it("any of them missing: it refuses and names it, and makes no new one", async () => {
    const { closed } = await recorded();
    for (const [name, code] of [
      ["vault", "store_damaged"],
      ["store.key", "store_key_unreadable"],
      [`journal/${SEGMENT}`, "store_damaged"],
    ] as const) {
      const files = new Map(closed.files);
      files.delete(joinPath(closed.home, name));
      const disk = new MemoryDisk(files);
      const opening = MeshNode.open({ home: closed.home, ports: on(offline(), disk) });
      await expect(opening).rejects.toMatchObject({ code });
      expect([...disk.files.keys()].sort()).toEqual([...files.keys()].sort());
    }
  });
});

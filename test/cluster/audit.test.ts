import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { openMesh } from "../../src/actors/mesh.ts";
import type { Change } from "../../src/actors/system.ts";
import { AuditLog, placesOf } from "../../src/cluster/audit/log.ts";
import { hashOf } from "../../src/cluster/audit/record.ts";
import type { Governance } from "../../src/cluster/governance.ts";
import { openCluster, openOperator } from "../../src/cluster/local.ts";
import { identityFromSeed } from "../../src/crypto/index.ts";
import { type Disk, realDisk } from "../../src/store/disk.ts";

// Who asked what of a cluster, when, and how it ended.

/** A cluster that lived: two tasks, a refusal, a pairing that ended. Returns its folder, closed. */
async function lived(folder: string, governance: Governance = {}): Promise<string> {
  const directory = join(folder, "cluster");
  const cluster = await openCluster({ directory, port: 0, governance });
  const laptop = await openMesh({ home: join(folder, "laptop") });
  const grant = { name: "laptop", slots: 1, capabilities: ["offload"], expires_ms: 600_000 };
  const { token } = await cluster.call("grant_issue", grant);
  await laptop.call("pair", { token });
  const script = join(folder, "secret-name.sh");
  writeFileSync(script, 'exit "$1"\n');
  const end = async (id: string) => {
    await laptop.call("offload_status", { id, wait_ms: 30_000, until_over: true });
    const stop = new AbortController();
    await new Promise<void>((resolve, reject) => {
      const look = async () => {
        const { sandboxes } = await cluster.call("sandboxes", {});
        if (sandboxes.every((each) => each.settled)) resolve();
      };
      cluster.call("watch", {}, { signal: stop.signal, onProgress: () => look().catch(reject) }).catch(reject);
    });
    stop.abort();
  };
  for (const task of ["run secret-name.sh 0", "run secret-name.sh 3"])
    await end((await laptop.call("offload", { task, files: [script] })).offload_id);
  await end((await laptop.call("offload", { task: "no", files: [], capability: "gpu" })).offload_id);
  await cluster.call("grant_revoke", { name: "laptop" });
  await laptop.close();
  await cluster.close();
  return directory;
}

const temporary = () => mkdtempSync(join(tmpdir(), "kars-audit-"));
let folder: string;
let directory: string;
let path: string;
let whole: string;

beforeAll(async () => {
  folder = temporary();
  directory = await lived(folder);
  path = join(directory, "audit.jsonl");
  // What happened after the last look is written when it is opened.
  await ask();
  whole = readFileSync(path, "utf8");
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeEach(() => {
  writeFileSync(path, whole);
  for (const name of readdirSync(directory)) if (name.endsWith(".damaged")) rmSync(join(directory, name));
});

async function ask(query: { grant?: string; since?: number; limit?: number; verify?: boolean } = {}) {
  const notes: string[] = [];
  const operator = await openOperator(directory, (note) => notes.push(note));
  try {
    return { ...(await operator.call("audit", query)), notes };
  } finally {
    await operator.close();
  }
}

const linesOf = (text: string) => text.split("\n").slice(0, -1);
const parsed = (text: string): Record<string, unknown>[] => linesOf(text).map((line) => JSON.parse(line));

it("a fact that comes while another is being written is written too", async () => {
  const directory = temporary();
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const writing = Promise.withResolvers<void>();
  const written = Promise.withResolvers<void>();
  const disk: Disk = {
    ...realDisk,
    append: async (at) => {
      const file = await realDisk.append(at);
      return {
        get size() {
          return file.size;
        },
        write: (bytes) => file.write(bytes),
        sync: async () => {
          writing.resolve();
          await written.promise;
          await file.sync();
        },
        truncate: (size) => file.truncate(size),
        close: () => file.close(),
      };
    },
  };
  const identity = () => identityFromSeed(new Uint8Array(32));
  const log = new AuditLog({
    ...{ disk, ...placesOf(directory), identity },
    ...{ contextOf: () => undefined, note: () => undefined },
  });
  await log.open(0);
  const revoked = (number: number) => {
    const commit = { number, at: 0, entries: [], place: { segment: "", offset: 0, length: 0 } };
    return { commit, stream: `grant/g${number}`, event: { type: "REVOKED" }, at: 0 } as unknown as Change;
  };
  log.onChange(revoked(1));
  await writing.promise;
  log.onChange(revoked(2));
  written.resolve();
  await log.still(async (lines) => expect(lines).toBe(2));
  expect(parsed(readFileSync(join(directory, "audit.jsonl"), "utf8"))).toMatchObject([
    { grant: "g1" },
    { grant: "g2" },
  ]);
  await log.close();
});

describe("the audit record", () => {
  it("says who asked what, when, and how it ended", () => {
    const lines = parsed(whole);
    const did = expect.stringMatching(/^did:mesh:/);
    const hash = expect.stringMatching(/^[0-9a-f]{64}$/);
    const whose = { grant: "laptop", laptop: did, request: expect.any(String) };
    const allowed = { what: "task.allowed", ...whose, task_sha256: hash, task_size: 20, files: 1, bytes: 10 };
    const begun = { what: "task.begun", ...whose, files: 1, bytes: 10 };
    expect(lines).toMatchObject([
      { what: "grant.issued", grant: "laptop", slots: 1, capabilities: ["offload"] },
      { what: "grant.bound", grant: "laptop", laptop: did },
      allowed,
      begun,
      {
        what: "task.ended",
        ...whose,
        outcome: "done",
        code: null,
        exit: 0,
        tokens: 0,
        duration_ms: expect.any(Number),
      },
      allowed,
      begun,
      { what: "task.ended", ...whose, outcome: "error", exit: 3 },
      { what: "task.refused", ...whose, code: "capability_missing", task_size: 2 },
      { what: "grant.revoked", grant: "laptop" },
    ]);
    expect(lines.map(({ seq }) => seq)).toEqual(lines.map((_, index) => index + 1));
    for (const { at } of lines) expect(new Date(String(at)).toISOString()).toBe(at);
  });

  it("holds each line by the hash of the one before, so that anyone can follow it", () => {
    let prev = "0".repeat(64);
    for (const line of linesOf(whole)) {
      expect(JSON.parse(line).prev).toBe(prev);
      prev = hashOf(line);
    }
  });

  it("holds no word of a task and no file's name, unless the operator wants the words", async () => {
    expect(whole).not.toContain("secret-name");
    expect(readFileSync(join(directory, "controller", "journal", "000000000001.jsonl"), "utf8")).not.toContain(
      "secret-name",
    );
    const other = temporary();
    onTestFinished(() => rmSync(other, { recursive: true, force: true }));
    const told = readFileSync(join(await lived(other, { recordsTasks: true }), "audit.jsonl"), "utf8");
    expect(parsed(told).find(({ what }) => what === "task.allowed")).toMatchObject({ task: "run secret-name.sh 0" });
  });

  it("is read by pairing, by time and by number", async () => {
    expect(await ask()).toMatchObject({ total: 10, verdict: null });
    expect((await ask({ limit: 2 })).entries.map(({ what }) => what)).toEqual(["task.refused", "grant.revoked"]);
    expect((await ask({ grant: "somebody-else" })).total).toBe(0);
    const [, , third] = parsed(whole);
    expect((await ask({ since: Date.parse(String(third?.at)) })).total).toBeLessThanOrEqual(8);
  });

  it("is whole, and says by which hash to know it later", async () => {
    const { verdict } = await ask({ verify: true });
    expect(verdict).toEqual({ lines: 10, head: hashOf(linesOf(whole).at(-1) ?? ""), problem: null });
  });

  it("goes on where it ended, without a line twice", async () => {
    const cluster = await openCluster({ directory, port: 0 });
    await cluster.call("grant_issue", { name: "second", slots: 1, capabilities: ["offload"], expires_ms: 60_000 });
    const { entries, verdict } = await cluster.call("audit", { verify: true });
    await cluster.close();
    expect(verdict?.problem).toBeNull();
    expect(entries.map(({ what }) => what).slice(-2)).toEqual(["grant.revoked", "grant.issued"]);
    whole = readFileSync(path, "utf8");
  });
});

/** The same facts in a chain of its own: what somebody would write who knows the form. */
const rechained = (lines: readonly Record<string, unknown>[]): string => {
  let prev = "0".repeat(64);
  return lines
    .map((line) => {
      const text = JSON.stringify({ ...line, prev });
      prev = hashOf(text);
      return `${text}\n`;
    })
    .join("");
};

describe("a record that was changed is not taken for whole", () => {
  const without = (from: number, to = from) => linesOf(whole).toSpliced(from - 1, to - from + 1);
  const joined = (lines: readonly string[]) => lines.map((line) => `${line}\n`).join("");

  it.each<[string, () => string, number, RegExp]>([
    ["a word is another", () => whole.replace('"outcome":"done"', '"outcome":"none"'), 5, /changed|something else/],
    ["a line is missing", () => joined(without(4)), 4, /has number 5/],
    [
      "two stand in another order",
      () => joined(linesOf(whole).toSpliced(2, 2, ...linesOf(whole).slice(2, 4).toReversed())),
      3,
      /has number 4/,
    ],
    ["a line is no line", () => joined(linesOf(whole).with(6, "{")), 7, /no line/],
    [
      "the whole chain is made anew",
      () => rechained(parsed(whole).with(7, { ...parsed(whole)[7], exit: 0 })),
      8,
      /something else/,
    ],
  ])("%s", async (_, change, line, reason) => {
    writeFileSync(path, change());
    const { verdict } = await ask({ verify: true });
    expect(verdict?.problem?.line).toBe(line);
    expect(verdict?.problem?.reason).toMatch(reason);
  });

  it("while the cluster is up: its end is cut off", async () => {
    const cluster = await openCluster({ directory, port: 0 });
    writeFileSync(path, joined(without(9, linesOf(whole).length)));
    const { verdict } = await cluster.call("audit", { verify: true });
    await cluster.close();
    expect(verdict?.problem).toMatchObject({ line: 9, reason: expect.stringContaining("cut off") });
  });

  it("while the cluster is up: a line is added", async () => {
    const cluster = await openCluster({ directory, port: 0 });
    appendFileSync(path, `${linesOf(whole).at(-1)}\n`);
    const { verdict } = await cluster.call("audit", { verify: true });
    await cluster.close();
    expect(verdict?.problem?.reason).toContain("knows nothing of it");
  });
});

describe("a record that is damaged", () => {
  it("by a torn write is completed from the journal, and that is said", async () => {
    for (const length of [whole.length - 1, whole.length - 40]) {
      writeFileSync(path, whole.slice(0, length));
      const { verdict, notes } = await ask({ verify: true });
      expect(verdict?.problem).toBeNull();
      expect(notes).toEqual([expect.stringMatching(/^The audit record was 1 lines short/)]);
      expect(readFileSync(path, "utf8")).toBe(whole);
    }
  });

  it("at its end in another way is kept beside, and made anew", async () => {
    const damaged = `${whole}this is no line\n`;
    writeFileSync(path, damaged);
    const { verdict, notes } = await ask({ verify: true });
    expect(verdict?.problem).toBeNull();
    expect(notes.join()).toMatch(/kept as .*\.damaged/);
    expect(readFileSync(path, "utf8")).toBe(whole);
    const kept = readdirSync(directory).filter((name) => name.endsWith(".damaged"));
    expect(kept.map((name) => readFileSync(join(directory, name), "utf8"))).toEqual([damaged]);
  });
});

import { copyFileSync, existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it, onTestFinished } from "vitest";
import { verifySegment } from "../../src/cluster/audit/elsewhere.ts";
import { hashOf } from "../../src/cluster/audit/record.ts";
import { closingLine } from "../../src/cluster/audit/segment.ts";
import { openCluster } from "../../src/cluster/local.ts";
import { identityFromSeed } from "../../src/crypto/index.ts";
import { Cluster, run, tidyUp } from "../cli/harness.ts";

// The audit record is rotated: each segment is closed and signed, and can be checked where there is no cluster.

function temporary(): string {
  const path = mkdtempSync(join(tmpdir(), "kars-segments-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function open(directory: string) {
  const notes: string[] = [];
  const cluster = await openCluster({ directory, port: 0, onNote: (text) => notes.push(text) });
  const issue = (name: string) =>
    cluster.call("grant_issue", { name, slots: 1, capabilities: ["offload"], expires_ms: 60_000 });
  return { cluster, issue, notes };
}

/** A cluster's folder whose record was rotated after two lines, twice. Closed. */
async function rotated() {
  const directory = temporary();
  const { cluster, issue } = await open(directory);
  const closed: { path: string; last: number; did: string }[] = [];
  for (const names of [
    ["a", "b"],
    ["c", "d"],
  ]) {
    for (const name of names) await issue(name);
    closed.push(await cluster.call("audit_rotate", {}));
  }
  await issue("e");
  await cluster.call("audit", {});
  await cluster.close();
  const [first, second] = closed;
  if (!first || !second) throw new Error("not rotated");
  return { directory, first, second, did: first.did, path: join(directory, "audit.jsonl") };
}

const linesOf = (path: string) => readFileSync(path, "utf8").split("\n").slice(0, -1);
const write = (path: string, lines: readonly string[]) =>
  writeFileSync(path, lines.map((line) => `${line}\n`).join(""));

const other = identityFromSeed(new Uint8Array(32).fill(7));

describe("a closed segment", () => {
  it("is whole elsewhere by the controller's DID, and each goes on from the one before", async () => {
    const { first, second, did } = await rotated();
    const elsewhere = join(temporary(), "segment");
    copyFileSync(first.path, elsewhere);
    const one = await verifySegment(elsewhere, did);
    const two = await verifySegment(second.path, did);
    expect(one).toMatchObject({ first: 1, last: 2, follows: "0".repeat(64), problem: null });
    expect(two).toMatchObject({ first: 3, last: 4, follows: one.head, problem: null });
  });

  it.each<[string, (lines: string[]) => string[], RegExp]>([
    [
      "a word is another",
      (lines) => lines.map((line) => line.replace('"grant":"a"', '"grant":"z"')),
      /does not follow/,
    ],
    ["the last line before the end is another", (lines) => lines.map((l) => l.replace('"b"', '"z"')), /not those/],
    ["a line is missing", (lines) => lines.toSpliced(0, 1), /has number 2/],
    ["its end is missing", (lines) => lines.slice(0, -1), /cut off, or it was never closed/],
    ["something follows", (lines) => [...lines, lines[0] ?? ""], /something follows/],
    [
      "what is signed is another",
      (lines) => lines.map((l) => l.replace(/("at":"\d{4}-)(?=[^"]*","first")/, "$19")),
      /signature does not hold/,
    ],
    [
      "all of it is made anew by somebody else",
      (lines) => {
        const changed = lines.slice(0, 1).map((line) => line.replace('"grant":"a"', '"grant":"z"'));
        const end = { seq: 1, commit: 1, ofCommit: 1, hash: hashOf(changed[0] ?? "") };
        return [...changed, closingLine(other, 1, end, new Date(0).toISOString())];
      },
      /signed by did:mesh:.*, not by/,
    ],
    [
      "the same under the controller's name",
      (lines) => {
        const end = { seq: 1, commit: 1, ofCommit: 1, hash: hashOf(lines[0] ?? "") };
        const did = /did:mesh:[0-9a-f]{32}/.exec(lines.at(-1) ?? "")?.[0] ?? "";
        const forged = closingLine(other, 1, end, new Date(0).toISOString()).replace(other.did, did);
        return [...lines.slice(0, 1), forged];
      },
      /its key is not the key of/,
    ],
  ])("is not whole when %s", async (_, change, reason) => {
    const { first, did } = await rotated();
    write(first.path, change(linesOf(first.path)));
    const { problem } = await verifySegment(first.path, did);
    expect(problem?.reason).toMatch(reason);
  });

  it("is not whole for another DID, and a file that is not there is no segment", async () => {
    const { first, directory, did } = await rotated();
    expect((await verifySegment(first.path, other.did)).problem?.reason).toMatch(/not by/);
    await expect(verifySegment(join(directory, "no"), did)).rejects.toMatchObject({ code: "input_invalid" });
  });
});

describe("a record that was rotated", () => {
  /** What is recorded and how it is, after one more line. */
  const verdictOf = async (directory: string, name = "f") => {
    const { cluster, issue } = await open(directory);
    await issue(name);
    const { entries, verdict } = await cluster.call("audit", { verify: true });
    await cluster.close();
    return { entries: entries.map(({ grant }) => grant), problem: verdict?.problem, lines: verdict?.lines };
  };

  it("is read and checked over all of its segments, and goes on", async () => {
    const { directory } = await rotated();
    expect(await verdictOf(directory)).toEqual({ entries: ["a", "b", "c", "d", "e", "f"], problem: null, lines: 6 });
  });

  it("goes on, too, when its segments were taken elsewhere", async () => {
    const { directory, first, second, path } = await rotated();
    rmSync(first.path);
    expect((await verdictOf(directory)).problem).toBeNull();
    rmSync(second.path);
    expect(await verdictOf(directory, "g")).toMatchObject({ entries: ["e", "f", "g"], problem: null });
    expect(JSON.parse(linesOf(path)[0] ?? "")).toMatchObject({ what: "segment.opened", after: 4 });
  });

  it("is not whole when a line of a closed segment was changed, or its beginning was made up", async () => {
    const { directory, first, path } = await rotated();
    const kept = readFileSync(first.path, "utf8");
    writeFileSync(first.path, kept.replace('"grant":"b"', '"grant":"z"'));
    expect((await verdictOf(directory)).problem).toMatchObject({
      line: 2,
      reason: expect.stringMatching(/^in audit\.1-2\.jsonl: .*something else/),
    });
    writeFileSync(first.path, kept);
    const [opening = "", ...rest] = linesOf(path);
    // Somebody takes a line away and says that it lies in a segment before.
    const [line = ""] = rest;
    const { seq, commit } = JSON.parse(line);
    const made = { ...JSON.parse(opening), after: seq, commit, prev: hashOf(line) };
    write(path, [JSON.stringify(made), ...rest.slice(1)]);
    expect((await verdictOf(directory, "g")).problem?.reason).toMatch(/signature does not hold/);
  });

  it("is brought to its end when it was broken off by a crash", async () => {
    const { directory, second, path } = await rotated();
    // As if nothing had been done yet but the closed segment: the open one has its lines.
    const lines = linesOf(second.path).slice(0, -1);
    write(path, lines);
    expect(await verdictOf(directory)).toEqual({ entries: ["a", "b", "c", "d", "e", "f"], problem: null, lines: 6 });
    // As if the open one had not been written.
    const again = await rotated();
    rmSync(again.path);
    expect(await verdictOf(again.directory)).toEqual({
      entries: ["a", "b", "c", "d", "e", "f"],
      problem: null,
      lines: 6,
    });
  });

  it("that is not whole is not signed, and neither is one without a line", async () => {
    const directory = temporary();
    const { cluster, issue } = await open(directory);
    onTestFinished(() => cluster.close());
    await expect(cluster.call("audit_rotate", {})).rejects.toMatchObject({ code: "input_invalid" });
    await issue("a");
    await cluster.call("audit", {});
    const path = join(directory, "audit.jsonl");
    const kept = readFileSync(path, "utf8");
    writeFileSync(path, kept.replace('"grant":"a"', '"grant":"z"'));
    await expect(cluster.call("audit_rotate", {})).rejects.toMatchObject({ code: "store_damaged" });
    expect(existsSync(join(directory, "audit.1-1.jsonl"))).toBe(false);
    writeFileSync(path, kept);
    await cluster.call("audit_rotate", {});
    // A segment that is replaced after a rotation is noticed as any.
    copyFileSync(path, `${path}.new`);
    renameSync(`${path}.new`, path);
    await issue("b");
    expect((await cluster.call("audit", { verify: true })).verdict?.problem).toBeNull();
    expect(linesOf(path)).toHaveLength(2);
  });
});

describe("the command line", () => {
  afterEach(tidyUp);

  it("rotates, and verifies a segment elsewhere", async () => {
    const cluster = await Cluster.up();
    await cluster.token("laptop");
    const ended = await run("kars-local", ["--dir", cluster.directory, "audit", "rotate", "--json"]);
    expect(ended.code, ended.stderr).toBe(0);
    const { path, did } = JSON.parse(ended.stdout);
    const verify = (...args: string[]) => run("kars-local", ["audit", "--verify", ...args]);
    expect(await verify(path, "--key", did)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("The segment is whole"),
    });
    expect(await verify(path, "--key", other.did)).toMatchObject({
      code: 1,
      stdout: expect.stringContaining("not whole"),
    });
    expect(await verify(path)).toMatchObject({ code: 2 });
  }, 60_000);
});

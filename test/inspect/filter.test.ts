/** A part of a history, and a history that goes on. */
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { followHistory, type HistoryLine, readHistory } from "../../src/inspect/history.ts";
import { cluster, type Laptop, laptop, say, temporaryDirectory } from "./world.ts";

async function talking(): Promise<{ alice: Laptop; bob: Laptop; carol: Laptop }> {
  const server = await cluster();
  const [alice, bob, carol] = [
    await laptop(server, "alice"),
    await laptop(server, "bob"),
    await laptop(server, "carol"),
  ];
  await say(alice, bob, "the first secret");
  await say(alice, carol, "the second secret");
  await alice.mesh.call("settle", {});
  return { alice, bob, carol };
}

describe("a history", () => {
  test("by types, in whatever case", async () => {
    const { alice } = await talking();
    const { lines, total } = await readHistory(alice.home, { types: ["send", "SEALED"] });
    expect([...new Set(lines.map(({ type }) => type))].sort()).toEqual(["SEALED", "SEND"]);
    const everything = await readHistory(alice.home);
    expect(total).toBe(everything.lines.filter(({ type }) => type === "SEND" || type === "SEALED").length);
  });

  test("by a peer: its conversation and its sessions, by its name or DID", async () => {
    const { alice, bob, carol } = await talking();
    await alice.mesh.call("send", { to: "bob", message: "by your name" });
    await alice.mesh.call("settle", {});
    const { lines } = await readHistory(alice.home, { peer: "bob" });
    expect((await readHistory(alice.home, { peer: bob.did })).lines).toEqual(lines);
    const kinds = new Set(lines.map(({ stream }) => stream.slice(0, stream.indexOf("/"))));
    expect([...kinds].sort()).toEqual(["conversation", "session"]);
    expect(lines.some(({ stream }) => stream === `conversation/${bob.did}`)).toBe(true);
    expect(lines.some(({ stream }) => stream === `conversation/${carol.did}`)).toBe(false);
    await expect(readHistory(alice.home, { peer: "dave" })).rejects.toMatchObject({ code: "peer_unknown" });
  });

  test("by times, both included", async () => {
    const { alice } = await talking();
    const { lines } = await readHistory(alice.home);
    const [since = 0, until = 0] = [lines[3], lines.at(-3)].map((line) => Date.parse(line?.at ?? ""));
    const part = await readHistory(alice.home, { since, until });
    expect(part.lines).toEqual(lines.filter(({ at }) => Date.parse(at) >= since && Date.parse(at) <= until));
  });

  test("by a text in what is shown; what is not shown is not found", async () => {
    const { alice, bob } = await talking();
    const found = await readHistory(alice.home, { text: bob.did.toUpperCase() });
    expect(found.total).toBeGreaterThan(0);
    for (const line of found.lines) expect(JSON.stringify(line)).toContain(bob.did);
    expect(await readHistory(alice.home, { text: "secret" })).toEqual({ lines: [], total: 0 });
  });
});

describe("a history that is followed", () => {
  test("says what is there, then what comes, each once and in order, until it is told to stop", async () => {
    const { alice, bob } = await talking();
    const stop = new AbortController();
    const lines: HistoryLine[] = [];
    const following = (async () => {
      for await (const line of followHistory(alice.home, {}, stop.signal)) lines.push(line);
    })();
    const { total } = await readHistory(alice.home);
    await vi.waitFor(() => expect(lines.length).toBe(total), { timeout: 10_000 });
    for (const words of ["one", "two", "three"]) await say(alice, bob, words);
    await alice.mesh.call("settle", {});
    const now = await readHistory(alice.home, { limit: 10_000 });
    await vi.waitFor(() => expect(lines.length).toBeGreaterThanOrEqual(now.total), { timeout: 10_000 });
    expect(lines.slice(0, now.total)).toEqual(now.lines);
    stop.abort();
    await following;
  });

  test("begins behind a commit, of one stream, of what is wanted", async () => {
    const { alice, bob } = await talking();
    const stream = `conversation/${bob.did}`;
    const { lines } = await readHistory(alice.home, { stream });
    const after = lines[2]?.number ?? 0;
    await say(alice, bob, "and this");
    const stop = new AbortController();
    const told: HistoryLine[] = [];
    for await (const line of followHistory(alice.home, { stream, after, types: ["SEND"] }, stop.signal)) {
      told.push(line);
      if (told.length === 1) await say(alice, bob, "and that");
      else break;
    }
    stop.abort();
    expect(told.map(({ type, stream: name }) => [type, name])).toEqual(told.map(() => ["SEND", stream]));
    expect(told.every(({ number }) => number > after)).toBe(true);
  });

  test("is refused where there is no home", async () => {
    const nowhere = followHistory(join(await temporaryDirectory(), "nowhere"), {}, new AbortController().signal);
    await expect(nowhere.next()).rejects.toMatchObject({ code: "input_invalid" });
  });
});

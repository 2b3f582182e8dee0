/** A stream walked through: conditions, and what changed between two points. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { formatChanges } from "../../src/cli/changes.ts";
import { parseCondition } from "../../src/inspect/condition.ts";
import { changesBetween, firstMoment, momentsOf, replayStream } from "../../src/inspect/moments.ts";
import { parseRecording } from "../../src/inspect/recording.ts";
import { fileSource, sourceOf } from "../../src/inspect/source.ts";

const FILE = join(import.meta.dirname, "../histories/0.1.0/offloads.laptop.jsonl");
const recording = parseRecording(FILE, readFileSync(FILE, "utf8"));
const source = sourceOf(FILE, recording);
const [offload = ""] = recording.events.map(({ stream }) => stream).filter((stream) => stream.startsWith("offload/"));
const first = (condition: string) => firstMoment(source, offload, parseCondition(condition));

describe("a moment", () => {
  it("is before the first event, and after each", async () => {
    const moments = await Array.fromAsync(momentsOf(source, offload));
    const events = recording.events.filter(({ stream }) => stream === offload);
    expect(moments.map(({ type }) => type)).toEqual(["", ...events.map(({ event }) => event.type)]);
    expect(moments[0]?.replay()).toMatchObject({ events: 0, number: 0, at: null, value: "new" });
    expect(moments.at(-1)?.replay()).toEqual(await replayStream(source, offload));
  });

  it("is found by its commit, and by a time: the last one until then", async () => {
    const moments = await Array.fromAsync(momentsOf(source, offload));
    const middle = moments[Math.floor(moments.length / 2)];
    if (!middle) throw new Error("no moments");
    const there = moments.findLast(({ number }) => number <= middle.number);
    expect(await replayStream(source, offload, { number: middle.number })).toEqual(there?.replay());
    const then = moments.findLast(({ at }) => at <= middle.at);
    expect(await replayStream(source, offload, { time: middle.at })).toEqual(then?.replay());
    expect(await replayStream(source, offload, { time: 0 })).toMatchObject({ events: 0 });
  });

  it.each([
    ["state=running", ({ value }: { value: unknown }) => JSON.stringify(value).includes("running")],
    ["state=active.running", ({ value }: { value: unknown }) => JSON.stringify(value).includes("running")],
    ["event = STARTED", ({ value }: { value: unknown }) => JSON.stringify(value).includes("running")],
    ["accepts=STARTED", ({ accepts }: { accepts: readonly string[] }) => accepts.includes("STARTED")],
    ["results.length>=1", ({ context }: { context: Record<string, unknown> }) => String(context.results) !== ""],
    ["sandbox.name!=null", ({ context }: { context: Record<string, unknown> }) => context.sandbox !== null],
  ] as const)("is the first for which %s", async (condition, isIt) => {
    const found = await first(condition);
    expect(isIt(found.replay() as never)).toBe(true);
    const holds = parseCondition(condition);
    for await (const moment of momentsOf(source, offload)) {
      if (moment.events === found.events) break;
      expect(moment.events > 0 && holds(moment)).toBe(false);
    }
  });

  it("is none where a condition never holds, and what is no condition is refused", async () => {
    await expect(first("state=on fire")).rejects.toMatchObject({
      code: "input_invalid",
      message: expect.stringContaining("never held"),
    });
    for (const text of ["", "state", "=x", "a b=c", "unread>many"])
      expect(() => parseCondition(text)).toThrow(/is no condition/);
  });
});

it("what changed is told by its place, before and after; nothing between a point and itself", async () => {
  const [before, after] = [await replayStream(source, offload, { number: 0 }), (await first("state=running")).replay()];
  const changes = changesBetween(before, after);
  expect(changes).toContainEqual({ path: "value", recorded: "new", now: { active: "running" } });
  expect(changes.map(({ path }) => path)).toContain("context.sandbox.name");
  expect(changesBetween(after, after)).toEqual([]);
  // In what order events are listed says nothing: only what came and what went is told.
  const [came, went] = [true, false].map((isNow) =>
    (isNow ? after : before).accepts.filter((type) => !(isNow ? before : after).accepts.includes(type)),
  );
  expect(formatChanges(changes)).toContainEqual(`accepts: now also ${came?.join(", ")}; no longer ${went?.join(", ")}`);
});

it("a file that is no history, or was changed, is refused", async () => {
  await expect(fileSource(import.meta.filename)).rejects.toMatchObject({ code: "input_invalid" });
  await expect(fileSource(join(import.meta.dirname, "nothing"))).rejects.toMatchObject({ code: "file_unreadable" });
  await expect(replayStream(source, "offload/nothing")).rejects.toMatchObject({ code: "input_invalid" });
});

/** What pages are told of a home: every event, in order, with nothing that viewers are not shown. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { commitOf } from "../../src/inspect/divergence.ts";
import { readHistory } from "../../src/inspect/history.ts";
import { parseRecording } from "../../src/inspect/recording.ts";
import { redactContext, redactEvent } from "../../src/inspect/redact.ts";
import { pathsOf, Timeline } from "../../src/inspect/timeline.ts";
import { ROW, ROW_SIZE, type Rows, SHAPE, SHAPE_SIZE, type Told } from "../../src/page/protocol.ts";
import { realDisk } from "../../src/store/disk.ts";
import { Journal } from "../../src/store/journal.ts";
import { temporaryDirectory } from "./world.ts";

const histories = join(import.meta.dirname, "../histories");
const files = readdirSync(histories, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".jsonl"));

/** A home that holds a recorded history, and what a page is told of it until it has all. */
async function told(file: string): Promise<{ home: string; messages: readonly string[] }> {
  const { events } = parseRecording(file, readFileSync(join(histories, file), "utf8"));
  const home = await temporaryDirectory();
  const journal = await Journal.open({ disk: realDisk, directory: join(home, "journal") });
  for (const event of events) {
    const { at, entries } = commitOf(event);
    await journal.append({ at, entries });
  }
  await journal.close();
  const timeline = new Timeline(home);
  const ended = new AbortController();
  onTestFinished(() => ended.abort());
  const messages: string[] = [];
  await new Promise<void>((resolve, reject) => {
    const hear = (message: string) => {
      messages.push(message);
      if (message.startsWith('{"type":"ready"')) resolve();
    };
    timeline.hear(hear);
    timeline.run(ended.signal).catch(reject);
  });
  return { home, messages };
}

/** The events as a page understands them. */
function understood(messages: readonly string[]) {
  const [words, shapes]: [string[], number[]] = [[""], []];
  const events: { number: number; at: number; stream: string; event: string; state: string; note: string }[] = [];
  let [number, at] = [0, 0];
  for (const message of messages) {
    const heard: Told = JSON.parse(message);
    if (heard.type !== "rows") continue;
    const { rows }: Rows = heard;
    words.push(...heard.words);
    shapes.push(...heard.shapes);
    for (let from = 0; from < rows.length; from += ROW_SIZE) {
      number += rows[from + ROW.number] ?? 0;
      at += rows[from + ROW.at] ?? 0;
      const shape = (rows[from + ROW.shape] ?? 0) * SHAPE_SIZE;
      const word = (part: number) => words[shapes[shape + part] ?? 0] ?? "";
      const stream = words[rows[from + ROW.stream] ?? 0] ?? "";
      events.push({ number, at, stream, event: word(SHAPE.event), state: word(SHAPE.state), note: word(SHAPE.note) });
    }
  }
  return events;
}

/** Every text in a value. */
const textsIn = (value: unknown): string[] =>
  typeof value === "string"
    ? [value]
    : typeof value === "object" && value !== null
      ? Object.values(value).flatMap(textsIn)
      : [];

describe.each(files)("%s", (file) => {
  test("is told event by event, as its history has it", async () => {
    const { home, messages } = await told(file);
    const { lines } = await readHistory(home, { limit: 10_000 });
    expect(understood(messages).map(({ note: _, ...told }) => told)).toEqual(
      lines.map(({ number, at, stream, type, to, event }) => ({
        number,
        at: Date.parse(at),
        stream,
        event: type === "@timer" ? `after ${String(event.id).split(".")[2]}` : type,
        state: to,
      })),
    );
  });

  test("says nothing that viewers are not shown", async () => {
    const { messages } = await told(file);
    const { events } = parseRecording(file, readFileSync(join(histories, file), "utf8"));
    const shown = new Set<string>();
    const all = new Set<string>();
    for (const { stream, event, after } of events) {
      const kind = stream.slice(0, stream.indexOf("/"));
      for (const text of textsIn([event, after.context])) all.add(text);
      for (const text of textsIn([redactEvent(kind, event), redactContext(kind, after.context ?? {}), stream]))
        shown.add(text);
    }
    const bytes = messages.join("\n");
    const hidden = [...all].filter((text) => text.length > 8 && ![...shown].some((each) => each.includes(text)));
    expect(hidden.length).toBeGreaterThan(0);
    expect(hidden.filter((text) => bytes.includes(text))).toEqual([]);
  });
});

test("an offload is told of as far as it is: its files on their way, what it says of itself, and all of it in the end", async () => {
  const { messages } = await told("0.1.0/offloads.laptop.jsonl");
  const offloads = understood(messages).filter(({ stream }) => stream.startsWith("offload/"));
  const notes = new Set(offloads.map(({ note }) => note.replaceAll(/[\d.]+/g, "n")));
  expect(notes).toEqual(new Set(["", "↑ n of n kB", "↓ n of n kB", "n%"]));
  expect(new Set(offloads.filter(({ state }) => state === "done").map(({ note }) => note))).toEqual(new Set(["100%"]));
});

test("nested and parallel states are named by their paths", () => {
  expect(pathsOf("open")).toBe("open");
  expect(pathsOf({ active: { uploading: "pulled" } })).toBe("active.uploading.pulled");
  expect(pathsOf({ one: { left: "a", right: { b: "c" } } })).toBe("one.left.a one.right.b.c");
});

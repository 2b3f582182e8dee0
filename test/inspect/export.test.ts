/** A history for a bug report: it shows what viewers are shown, and the machines make of it what they made of the real one. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { commitOf, firstDivergence } from "../../src/inspect/divergence.ts";
import { exportStream } from "../../src/inspect/export.ts";
import { stateText } from "../../src/inspect/fold.ts";
import { momentsOf } from "../../src/inspect/moments.ts";
import { parseRecording, type RecordedEvent } from "../../src/inspect/recording.ts";
import { redactEvent } from "../../src/inspect/redact.ts";
import { type Source, sourceOf } from "../../src/inspect/source.ts";

const histories = join(import.meta.dirname, "../histories");
const files = readdirSync(histories, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".jsonl"));
const read = (file: string) => parseRecording(file, readFileSync(join(histories, file), "utf8"));
const streamsIn = (events: readonly RecordedEvent[]) => [...new Set(events.map(({ stream }) => stream))];

async function statesOf(source: Source, stream: string): Promise<string[]> {
  const states = [];
  for await (const { replay } of momentsOf(source, stream)) states.push(stateText(replay().value));
  return states;
}

/** Every text in a value that is not the name of a field. */
const textsIn = (value: unknown): string[] =>
  typeof value === "string"
    ? [value]
    : typeof value === "object" && value !== null
      ? Object.values(value).flatMap(textsIn)
      : [];

/** Of an address the host is shown. */
const isShown = (shown: ReadonlySet<string>, text: string): boolean => {
  const url = URL.parse(text);
  return shown.has(text) || (url !== null && shown.has(url.host) && text === `${url.protocol}//${url.host}`);
};

describe.each(files)("%s", (file) => {
  const recording = read(file);
  const source = sourceOf(file, recording);

  test("goes through the same states when it is exported", async () => {
    for (const stream of streamsIn(recording.events)) {
      const events = await exportStream(source, stream);
      const exported = { program: recording.program, events };
      expect(firstDivergence(exported)).toBeUndefined();
      expect(await statesOf(sourceOf("", exported), stream)).toEqual(await statesOf(source, stream));
    }
  });

  test("says nothing that viewers are not shown", async () => {
    for (const stream of streamsIn(recording.events)) {
      const kind = stream.slice(0, stream.indexOf("/"));
      const real = recording.events.filter((each) => each.stream === stream);
      const events = await exportStream(source, stream);
      const shown = new Set(real.flatMap((each) => textsIn(redactEvent(kind, commitOf(each).entries[0]?.event))));
      const hidden = new Set(
        real.flatMap(({ event }) => textsIn(event)).filter((text) => text !== "" && !isShown(shown, text)),
      );
      // What follows from the events follows from what stands in their place.
      const words = new Set(events.flatMap(({ event }) => textsIn(event)));
      expect([...hidden].filter((text) => words.has(text))).toEqual([]);
    }
  });
});

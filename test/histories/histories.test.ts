/** Recorded histories of every version are replayed by every build: what was decided once is decided again. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { createMachine } from "xstate";
import { DEFINITIONS, definitionOf, partsOf } from "../../src/inspect/definitions.ts";
import { assertFaithful, differencesOf } from "../../src/inspect/divergence.ts";
import { formatRecording, parseRecording, type Recording } from "../../src/inspect/recording.ts";
import type { MachineDefinition } from "../../src/machines/definition.ts";

const files = readdirSync(import.meta.dirname, { recursive: true, encoding: "utf8" })
  .map((path) => path.replaceAll("\\", "/"))
  .filter((path) => path.endsWith(".jsonl"))
  .sort();
const textOf = (file: string) => readFileSync(join(import.meta.dirname, file), "utf8");
const read = (file: string) => parseRecording(file, textOf(file));

describe("this program makes of a recorded history what was made of it then", () => {
  it.each(files)("%s", (file) => {
    assertFaithful(file, read(file));
  });

  it("every kind of stream is among them", () => {
    const kinds = new Set(files.flatMap((file) => read(file).events.map(({ stream }) => partsOf(stream).kind)));
    const kept = [...DEFINITIONS.values()].filter(({ live }) => !live).map(({ kind }) => kind);
    expect([...kinds].sort()).toEqual(kept.sort());
  });
});

type Config = Readonly<Record<string, unknown>>;

/** The definitions of this program, but for one machine whose configuration is another. */
function altered(kind: string, alter: (config: Config) => Config, more: Partial<MachineDefinition> = {}) {
  const definition = DEFINITIONS.get(kind);
  if (!definition) throw new Error(`no machine ${kind}`);
  const { config, implementations } = definition.machine;
  const machine = createMachine(alter(config) as typeof config).provide(implementations as never);
  return (stream: string) =>
    partsOf(stream).kind === kind ? { ...definition, ...more, machine } : definitionOf(stream);
}
/** A part of a configuration changed, by its path. */
const at =
  (path: readonly string[], change: (part: Config) => unknown) =>
  (config: Config): Config => {
    const [field = "", ...rest] = path;
    const part = (config[field] ?? {}) as Config;
    return { ...config, [field]: rest.length === 0 ? change(part) : at(rest, change)(part) };
  };
const without = (field: string) => (part: Config) => ({ ...part, [field]: undefined });

const MESSAGES = files.find((file) => file.endsWith("messages.alice.jsonl")) ?? "";

function refusalOf(run: () => void): { code: string; message: string } {
  try {
    run();
  } catch (error) {
    return error as { code: string; message: string };
  }
  throw new Error("nothing was noticed");
}
const diverges = (recording: Recording, definitions: Parameters<typeof assertFaithful>[2]) =>
  refusalOf(() => assertFaithful(MESSAGES, recording, definitions));

describe("a machine that means something else now", () => {
  const recording = read(MESSAGES);

  it.each<[string, ReturnType<typeof altered>, string]>([
    [
      "goes to another state",
      altered(
        "conversation",
        at(["states", "closed", "on", "SEND"], (on) => ({ ...on, target: "waiting" })),
      ),
      'value: recorded "opening", now "waiting"',
    ],
    [
      "forgets an effect",
      altered("conversation", at(["states", "opening"], without("entry"))),
      'effects.0: recorded ["establish",',
    ],
    [
      "asks for it in another way",
      altered(
        "conversation",
        at(["states", "opening", "entry"], (entry) => ({ ...entry, params: () => ({ peer: "somebody" }) })),
      ),
      'effects.0.1.peer: recorded "did:mesh:0',
    ],
    [
      "forgets what is pending at a restart",
      altered("conversation", at(["states", "opening", "on"], without("RESUMED"))),
      'pending.0: recorded ["establish",',
    ],
    [
      "forgets a deadline",
      altered("conversation", at(["states", "waiting"], without("after"))),
      "timers.xstate.after.retry.conversation.waiting",
    ],
    [
      "counts otherwise",
      altered(
        "conversation",
        at(["on", "TRANSMITTED"], (on) => ({ ...on, actions: ["discardSent"] })),
      ),
      "context.sent: recorded 1, now 0",
    ],
    [
      "has no use for an event any more",
      altered("session", at(["states", "open", "states", "knocked", "on"], without("CONFIRMED"))),
      "the machine has no use for it",
    ],
    [
      "throws",
      altered(
        "session",
        at(["states", "open", "on"], (on) => ({
          ...on,
          ENCRYPTED: {
            actions: "noSuchAction",
            guard: () => {
              throw new Error("no");
            },
          },
        })),
      ),
      "the machine throws",
    ],
  ])("is noticed when it %s: file, event, time and what differs are told", (_, definitions, what) => {
    const { code, message } = diverges(recording, definitions);
    expect(code).toBe("history_diverged");
    const told = /^(\S+): Event (\d+), (\S+) of (\S+) \(commit (\d+), (\S+)\):/.exec(message);
    const event = recording.events[Number(told?.[2]) - 1];
    expect(told?.slice(1)).toEqual([
      MESSAGES,
      expect.anything(),
      event?.event.type,
      event?.stream,
      String(event?.commit),
      new Date(event?.at ?? 0).toISOString(),
    ]);
    expect(message).toContain(what);
    for (const line of message.split("\n")) expect(line.length).toBeLessThan(400);
  });

  it("is not noticed when it only keeps something more than before", () => {
    const more = (config: Config): Config => {
      const context = config.context as (input: unknown) => object;
      return { ...config, context: (input: unknown) => ({ ...context(input), mood: "good" }) };
    };
    assertFaithful(MESSAGES, recording, altered("conversation", more));
  });
});

describe("events of old versions in a recorded history", () => {
  const recording = read(MESSAGES);
  const same = (config: Config) => config;

  it("are upcast before they are replayed", () => {
    assertFaithful(MESSAGES, recording, altered("conversation", same, { upcasts: [(event) => event] }));
    const renames = altered("conversation", same, {
      upcasts: [(event) => (event.type === "SEND" ? { ...event, kind: "work" } : event)],
    });
    expect(diverges(recording, renames).message).toContain('context.outbox.0.kind: recorded "chat", now "work"');
  });

  it("and of newer ones are refused as such", () => {
    const [first, ...rest] = recording.events;
    const newer = { ...recording, events: [...(first ? [{ ...first, version: 2 }] : []), ...rest] };
    expect(diverges(newer, undefined).code).toBe("store_newer");
  });
});

describe("a damaged history", () => {
  const text = textOf(MESSAGES);
  const lines = text.split("\n");

  it("is told apart from one that diverges", () => {
    const damaged = [
      "",
      text.slice(0, -1),
      text.slice(0, text.length >> 1),
      text.replace('"type":"SEND"', '"type":"READ"'),
      lines.toSpliced(5, 1).join("\n"),
      [...lines.slice(0, -2), "{}", ""].join("\n"),
      text.replace('"history":1', '"history":2'),
      `${text}\n`,
    ];
    for (const each of damaged) {
      const { code, message } = refusalOf(() => parseRecording(MESSAGES, each));
      expect(code).toBe("input_invalid");
      expect(message).toContain(`The recorded history ${MESSAGES} is damaged`);
    }
  });

  it("is not what was written and read again", () => {
    expect(formatRecording(parseRecording(MESSAGES, text))).toBe(text);
  });
});

describe("differences", () => {
  it("are told where they are, as deep as both sides go", () => {
    const before = { a: [1, { b: "x" }], gone: 1, same: { deep: [null, true] } };
    const after = { a: [1, { b: "y" }, 3], same: { deep: [null, true] }, came: [] };
    expect(differencesOf(before, after)).toEqual([
      { path: "a.1.b", recorded: "x", now: "y" },
      { path: "a.2", recorded: undefined, now: 3 },
      { path: "gone", recorded: 1, now: undefined },
      { path: "came", recorded: undefined, now: [] },
    ]);
    expect(differencesOf({ a: [] }, { a: {} })).toEqual([{ path: "a", recorded: [], now: {} }]);
    expect(differencesOf(before, structuredClone(before))).toEqual([]);
  });
});

import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { PRESETS } from "../../src/cluster/runner/presets.ts";
import { begin, folder } from "./tasks.ts";

// Agents by name. None of them runs here: programs of their names stand in for them, which check how they are called and
// print what the agents' own documentation says that they print.

/** Puts a program first on the search path, as a shell script. */
function standIn(name: string, text: string): string {
  const place = folder();
  const path = join(place, name);
  writeFileSync(
    path,
    `#!/bin/sh\necho "$@" > "${place}/argv"\ncat > "${place}/stdin"\npwd > "${place}/pwd"\n${text}\n`,
  );
  chmodSync(path, 0o755);
  const { PATH } = process.env;
  process.env.PATH = `${place}${delimiter}${PATH}`;
  onTestFinished(() => {
    process.env.PATH = PATH;
  });
  return place;
}

const said = (place: string, what: "argv" | "stdin" | "pwd") => readFileSync(join(place, what), "utf8");
const print = (...events: object[]) => `cat <<'END'\n${events.map((event) => JSON.stringify(event)).join("\n")}\nEND`;

const CASES = [
  {
    name: "openclaw",
    argv: "agent exec --message-file - --json --timeout 300",
    output: `cat <<'END'
{
  "ok": true,
  "status": "ok",
  "final": "It is done.",
  "usage": { "input": 120, "output": 8, "cacheRead": 5, "total": 133 }
}
END`,
    tokens: { prompt: 125, completion: 8 },
    failing: `echo '{"ok":false,"status":"error","final":null,"error":{"message":"no model","kind":"config"}}'; exit 1`,
  },
  {
    name: "claude",
    argv: "--print --output-format stream-json --verbose --permission-mode acceptEdits",
    output: print(
      { type: "system", subtype: "init" },
      {
        type: "assistant",
        message: {
          id: "m1",
          content: [{ type: "text", text: "I look." }],
          usage: { input_tokens: 10, output_tokens: 2 },
        },
      },
      {
        type: "assistant",
        message: { id: "m1", content: [{ type: "tool_use" }], usage: { input_tokens: 10, output_tokens: 4 } },
      },
      {
        type: "result",
        subtype: "success",
        is_error: false,
        result: "It is done.",
        usage: { input_tokens: 30, cache_read_input_tokens: 10, cache_creation_input_tokens: 2, output_tokens: 9 },
      },
    ),
    tokens: { prompt: 42, completion: 9 },
    failing: print({ type: "result", subtype: "error_max_turns", is_error: true, result: "no model", usage: {} }),
  },
  {
    name: "codex",
    argv: "exec --json --skip-git-repo-check --sandbox workspace-write -",
    output: print(
      { type: "thread.started", thread_id: "t" },
      { type: "item.completed", item: { id: "i0", type: "agent_message", text: "I look." } },
      { type: "item.completed", item: { id: "i1", type: "agent_message", text: "It is done." } },
      { type: "turn.completed", usage: { input_tokens: 50, cached_input_tokens: 20, output_tokens: 7 } },
    ),
    tokens: { prompt: 50, completion: 7 },
    failing: print({ type: "turn.failed", error: { message: "no model" } }),
  },
] as const;

const HOST = { rules: { network: "host" as const } };

describe.each(CASES)("the runner $name", ({ name, argv, output, tokens, failing }) => {
  it("gets the task as a prompt that says where it is, and gives its last word, its files and its tokens", async () => {
    const place = standIn(name, `echo made > out/made.txt\n${output}`);
    const { result, directory } = begin("Count the words.", {
      ...HOST,
      runner: name,
      files: { "a.txt": "a", "b.txt": "b" },
    });
    expect(await result).toMatchObject({
      ok: true,
      exit: 0,
      summary: "It is done.",
      files: [expect.stringMatching(/\/made\.txt$/)],
      tokens,
    });
    expect(said(place, "argv").trim()).toBe(argv);
    expect(said(place, "pwd").trim()).toBe(directory);
    const prompt = said(place, "stdin");
    for (const part of ["a.txt, b.txt", "folder out", "The task:\n\nCount the words."]) expect(prompt).toContain(part);
  });

  it("fails with the agent's own reason", async () => {
    standIn(name, failing);
    const { ok, summary } = await begin("x", { ...HOST, runner: name }).result;
    expect(ok).toBe(false);
    expect(summary).toContain("no model");
  });

  it("is given the variables by which it finds its configuration, and no others", async () => {
    const preset = PRESETS.find((each) => each.name === name);
    const [variable = ""] = preset?.variables ?? [];
    process.env[variable] = "/its/own/place";
    process.env.KARS_TEST_OTHER = "not its business";
    onTestFinished(() => {
      delete process.env[variable];
      delete process.env.KARS_TEST_OTHER;
    });
    standIn(name, "env >&2; exit 1");
    const { summary } = await begin("x", { ...HOST, runner: name }).result;
    expect(summary).toContain(`${variable}=/its/own/place`);
    expect(summary).not.toContain("not its business");
  });
});

describe("an agent that is cancelled half way", () => {
  it("has its tokens counted as far as it told", async () => {
    const [, claude] = CASES;
    standIn("claude", `${claude.output.split("\n").slice(0, 3).join("\n")}\nEND\nwhile :; do sleep 1; done`);
    const { result, says, cancel, alive } = begin("x", { ...HOST, runner: "claude" });
    await says("I look.");
    cancel();
    expect((await result).tokens).toEqual({ prompt: 10, completion: 2 });
    expect(alive()).toEqual([]);
  });
});

it("an agent that is not installed is said to be missing", async () => {
  const { PATH } = process.env;
  onTestFinished(() => {
    process.env.PATH = PATH;
  });
  process.env.PATH = "/usr/bin:/bin";
  const { ok, summary } = await begin("x", { ...HOST, runner: "codex" }).result;
  expect(ok).toBe(false);
  expect(summary).toMatch(/codex.*not found/s);
});

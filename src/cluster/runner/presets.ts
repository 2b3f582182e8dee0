import { z } from "zod";
import { PROGRESS_LINE_LENGTH_MAX } from "../../limits.ts";
import { safeParse } from "../../parse.ts";
import { NO_TOKENS, type TokensUsed } from "./usage.ts";

// Agents that a cluster can give its tasks to by name: how each is called without anybody at a terminal, with the prompt on
// standard input and the working directory as its own, and what its output means. docs/runners.md names the versions.

/** What an agent has told so far. */
export interface Told {
  /** Its last word, which is the summary; undefined while it has none. */
  final: string | undefined;
  /** Why it failed, in its own words. */
  problem: string | undefined;
  tokens: TokensUsed;
}

/** Takes one line of an agent's output. Returns what is worth showing as progress. */
export type Reader = (line: string) => string | undefined;

export interface Preset {
  readonly name: string;
  readonly title: string;
  readonly program: string;
  /** @param minutes the time that the task has */
  readonly args: (minutes: number) => readonly string[];
  /** Variables of the operator's environment by which it finds its configuration and its model. */
  readonly variables: readonly string[];
  readonly reader: (told: Told) => Reader;
}

const Count = z.int().min(0).catch(0);

const fromJson = <S extends z.ZodType>(schema: S, line: string): z.output<S> | undefined => {
  try {
    return safeParse(schema, JSON.parse(line)).data;
  } catch {
    // Beside its events an agent may print anything.
    return undefined;
  }
};

const shown = (text: string): string | undefined => text.trim().slice(0, PROGRESS_LINE_LENGTH_MAX) || undefined;

// OpenClaw: one document at the end, over several lines.

const OpenClawEnvelope = z.looseObject({
  ok: z.boolean(),
  final: z.string().nullish(),
  error: z.looseObject({ message: z.string() }).nullish(),
  usage: z.looseObject({ input: Count, output: Count, cacheRead: Count, cacheWrite: Count }).nullish(),
});

function readOpenClaw(told: Told): Reader {
  let text = "";
  return (line) => {
    text = line.startsWith("{") ? line : `${text}\n${line}`;
    const envelope = fromJson(OpenClawEnvelope, text);
    if (!envelope) return undefined;
    told.final = envelope.final ?? undefined;
    told.problem = envelope.ok ? undefined : (envelope.error?.message ?? "it failed without a reason");
    const { input, output, cacheRead, cacheWrite } = envelope.usage ?? {
      input: 0,
      output: 0,
      cacheRead: 0,
      cacheWrite: 0,
    };
    told.tokens = { prompt: input + cacheRead + cacheWrite, completion: output };
    return undefined;
  };
}

// Claude Code: one event a line; messages repeat while they grow, and name themselves.

const ClaudeUsage = z.looseObject({
  input_tokens: Count,
  cache_creation_input_tokens: Count,
  cache_read_input_tokens: Count,
  output_tokens: Count,
});
const ClaudeEvent = z.discriminatedUnion("type", [
  z.looseObject({
    type: z.literal("assistant"),
    message: z.looseObject({
      id: z.string(),
      usage: ClaudeUsage.nullish(),
      content: z.array(z.looseObject({ type: z.string(), text: z.string().optional() })).catch([]),
    }),
  }),
  z.looseObject({
    type: z.literal("result"),
    is_error: z.boolean().catch(false),
    subtype: z.string().catch(""),
    result: z.string().nullish(),
    usage: ClaudeUsage.nullish(),
  }),
]);

const tokensOfClaude = (usage: z.output<typeof ClaudeUsage>): TokensUsed => ({
  prompt: usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens,
  completion: usage.output_tokens,
});

function readClaude(told: Told): Reader {
  const messages = new Map<string, TokensUsed>();
  return (line) => {
    const event = fromJson(ClaudeEvent, line);
    if (!event) return undefined;
    if (event.type === "result") {
      told.final = event.result ?? undefined;
      told.problem = event.is_error ? (event.result ?? event.subtype) : undefined;
      if (event.usage) told.tokens = tokensOfClaude(event.usage);
      return undefined;
    }
    const { id, usage, content } = event.message;
    if (usage) messages.set(id, tokensOfClaude(usage));
    told.tokens = [...messages.values()].reduce(
      (sum, { prompt, completion }) => ({ prompt: sum.prompt + prompt, completion: sum.completion + completion }),
      NO_TOKENS,
    );
    return shown(content.map(({ text = "" }) => text).join(" "));
  };
}

// Codex: one event a line; tokens are told when a turn has ended.

const CodexUsage = z.looseObject({ input_tokens: Count, output_tokens: Count });
const CodexEvent = z.discriminatedUnion("type", [
  z.looseObject({
    type: z.literal("item.completed"),
    item: z.looseObject({ type: z.string(), text: z.string().optional() }),
  }),
  z.looseObject({ type: z.literal("turn.completed"), usage: CodexUsage.nullish() }),
  z.looseObject({
    type: z.literal("turn.failed"),
    usage: CodexUsage.nullish(),
    error: z.looseObject({ message: z.string() }).nullish(),
  }),
  z.looseObject({ type: z.literal("error"), message: z.string() }),
]);

function readCodex(told: Told): Reader {
  return (line) => {
    const event = fromJson(CodexEvent, line);
    if (!event) return undefined;
    if (event.type === "item.completed") {
      if (event.item.type !== "agent_message") return undefined;
      told.final = event.item.text;
      return shown(event.item.text ?? "");
    }
    if (event.type === "error") told.problem = event.message;
    else {
      const { input_tokens = 0, output_tokens = 0 } = event.usage ?? {};
      told.tokens = {
        prompt: told.tokens.prompt + input_tokens,
        completion: told.tokens.completion + output_tokens,
      };
      told.problem = event.type === "turn.failed" ? (event.error?.message ?? "the turn failed") : undefined;
    }
    return undefined;
  };
}

export const PRESETS: readonly Preset[] = [
  {
    name: "openclaw",
    title: "OpenClaw",
    program: "openclaw",
    args: (minutes) => ["agent", "exec", "--message-file", "-", "--json", "--timeout", String(Math.ceil(minutes * 60))],
    variables: ["OPENCLAW_HOME", "OPENCLAW_STATE_DIR", "OPENCLAW_CONFIG_PATH"],
    reader: readOpenClaw,
  },
  {
    name: "claude",
    title: "Claude Code",
    program: "claude",
    args: () => ["--print", "--output-format", "stream-json", "--verbose", "--permission-mode", "acceptEdits"],
    variables: ["CLAUDE_CONFIG_DIR", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"],
    reader: readClaude,
  },
  {
    name: "codex",
    title: "Codex",
    program: "codex",
    args: () => ["exec", "--json", "--skip-git-repo-check", "--sandbox", "workspace-write", "-"],
    variables: ["CODEX_HOME", "CODEX_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"],
    reader: readCodex,
  },
];

export const presetOf = (runner: string | null): Preset | undefined => PRESETS.find(({ name }) => name === runner);

/** A task as an agent is given it, with what it must know of where it is. */
export function promptOf(task: string, files: readonly string[]): string {
  return [
    "You work on a task that was sent from another machine. Nobody can answer questions: decide for yourself, and say what you decided.",
    files.length === 0
      ? "No files came with it. The current directory is yours alone."
      : `These files came with it and lie in the current directory, which is yours alone: ${files.join(", ")}.`,
    "Files that are the result go directly into the folder out, which is there already: they, and nothing else, are sent back.",
    "Your last message is sent back as the summary of what you did and found.",
    "",
    "The task:",
    "",
    task,
    "",
  ].join("\n");
}

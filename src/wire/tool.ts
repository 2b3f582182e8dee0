import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { MeshError } from "../errors.ts";
import {
  AWAIT_SENDERS_MAX,
  CAPABILITY_LENGTH_MAX,
  FILES_MAX,
  INBOX_PAGE_MAX,
  MESSAGE_SIZE_MAX,
  NAME_LENGTH_MAX,
  OFFLOAD_TIMEOUT_MINUTES,
  OFFLOAD_TIMEOUT_MINUTES_MAX,
  PATH_LENGTH_MAX,
  PEER_LENGTH_MAX,
  TASK_SIZE_MAX,
  TOKEN_PASTED_LENGTH_MAX,
  WAIT_MAX_SECONDS,
} from "../limits.ts";
import { safeParse } from "../parse.ts";
import { asAddress, Id, Name } from "./text.ts";

// What the tools take. A language model writes it: names and forms that mean the same are taken for the same, and what
// is wrong is said so that the next try is right.

/** Another name of a field; with a factor when it counts in another unit. */
type Alias = string | readonly [name: string, factor: number];

const SECONDS: readonly Alias[] = ["timeout", "timeout_seconds", "wait", "wait_seconds", "seconds"];
const MILLISECONDS: readonly Alias[] = [
  ["timeout_ms", 1 / 1000],
  ["wait_ms", 1 / 1000],
];

/** The other names under which models send a field. Case, `_` and `-` do not count. */
const ALIASES: Readonly<Record<string, readonly Alias[]>> = {
  token: ["pairing_token", "pair_token", "code"],
  name: ["display_name", "agent_name", "agent", "peer", "query"],
  task: ["prompt", "description", "instructions", "instruction"],
  files: ["file", "attachments", "attachment", "paths", "path", "file_paths"],
  to: ["target", "recipient", "agent", "peer", "sandbox"],
  capability: ["capabilities"],
  timeout_minutes: ["minutes", ["timeout_seconds", 1 / 60]],
  offload_id: ["id"],
  wait_seconds: [...SECONDS, ...MILLISECONDS],
  until_done: ["until_over", "until_finished", "wait_until_done"],
  message: ["text", "content", "body"],
  limit: ["count", "max", "max_messages"],
  all: ["include_read"],
  from: ["sender", "senders", "agent", "agents", "peer", "peers"],
  mark_read: ["mark_as_read"],
  id: ["message_id"],
  offset: ["start", "begin"],
  timeout_seconds: [...SECONDS, ...MILLISECONDS],
};

const folded = (name: string) => name.toLowerCase().replaceAll(/[_\s-]/g, "");

/** A value that says something: models fill what they leave open with null or an empty text. */
const isSaid = (value: unknown) => value !== undefined && value !== null && value !== "";

const scaled = (value: unknown, factor: number) => {
  const number = asNumber(value);
  return typeof number === "number" ? number * factor : number;
};

/** What was said about each field, under its own name. @throws MeshError `input_invalid` when two names contradict each other */
function byOwnName(fields: readonly string[], given: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const said = new Map<string, { readonly name: string; readonly value: unknown }>();
  for (const [name, value] of Object.entries(given)) if (isSaid(value)) said.set(folded(name), { name, value });
  const own = new Set(fields.map(folded));
  const named: Record<string, unknown> = {};
  for (const field of fields) {
    const others = (ALIASES[field] ?? [])
      .map((alias) => (typeof alias === "string" ? ([alias, 1] as const) : alias))
      .filter(([name]) => !own.has(folded(name)));
    const found = [[field, 1] as const, ...others].flatMap(([name, factor]) => {
      const entry = said.get(folded(name));
      return entry ? [{ name: entry.name, value: factor === 1 ? entry.value : scaled(entry.value, factor) }] : [];
    });
    const [first, ...rest] = found;
    if (!first) continue;
    const contrary = rest.find(({ value }) => !isDeepStrictEqual(value, first.value));
    if (contrary)
      throw new MeshError(
        "input_invalid",
        `${first.name} and ${contrary.name} contradict each other: give ${field} only.`,
      );
    named[field] = first.value;
  }
  return named;
}

const asNumber = (value: unknown) => (typeof value === "string" && value.trim() !== "" ? Number(value) : value);

function asText(given: unknown): unknown {
  let value = given;
  while (Array.isArray(value) && value.length === 1) value = value[0];
  return typeof value === "number" ? String(value) : value;
}

function asFlag(value: unknown): unknown {
  if (value === 1 || (typeof value === "string" && /^(true|yes|1)$/i.test(value))) return true;
  if (value === 0 || (typeof value === "string" && /^(false|no|0)$/i.test(value))) return false;
  return value;
}

function asList(value: unknown): unknown {
  if (typeof value !== "string") return value;
  if (value.trimStart().startsWith("[")) {
    try {
      return JSON.parse(value);
    } catch {
      // Not a list in JSON, so a text that starts with a bracket.
    }
  }
  return [value];
}

const typedAddress = (value: unknown) => (typeof value === "string" ? asAddress(value) : value);

/** Neither names nor DIDs contain a comma. */
const asSenders = (value: unknown) => {
  const list = asList(value);
  if (!Array.isArray(list)) return list;
  return list.flatMap((each) => (typeof each === "string" ? each.split(",") : [each])).map(typedAddress);
};

const words = (max: number) =>
  z.preprocess(
    asText,
    z
      .string()
      .max(max)
      .refine((text) => text.trim() !== "", "must not be blank"),
  );
const label = (max: number) => z.preprocess(asText, z.string().trim().min(1).max(max));
const Address = z.string().trim().min(1).max(PEER_LENGTH_MAX);
/** A name or a DID. */
const address = () => z.preprocess((value) => typedAddress(asText(value)), Address);
const flag = () => z.preprocess(asFlag, z.boolean());
const seconds = () => z.preprocess(asNumber, z.number().min(0).max(WAIT_MAX_SECONDS));

/** What one tool takes. */
export interface ToolParameters<T> {
  /** As plain JSON Schema, with the fields' own names only. */
  jsonSchema(): Record<string, unknown>;
  /** The input with the fields' own names and types, or as much of that as can be made of it: it may still be invalid. */
  prepare(raw: unknown): unknown;
  /** @throws MeshError `input_invalid`, which names the field and what is allowed */
  parse(raw: unknown): T;
}

const Raw = z.record(z.string(), z.unknown());

function parameters<S extends Readonly<Record<string, z.ZodType>>>(shape: S): ToolParameters<z.output<z.ZodObject<S>>> {
  const schema = z.object(shape);
  const fields = Object.keys(shape);
  const named = (raw: unknown) => {
    const given = safeParse(Raw, raw ?? {});
    if (!given.success) throw new MeshError("input_invalid", `An object is expected, with ${fields.join(", ")}.`);
    return byOwnName(fields, given.data);
  };
  return {
    jsonSchema() {
      const { $schema: _, ...plain } = z.toJSONSchema(schema, { io: "input" });
      return { ...plain, additionalProperties: true };
    },
    prepare(raw) {
      const input = named(raw);
      const result = safeParse(schema, input);
      return result.success ? result.data : input;
    },
    parse(raw) {
      const input = named(raw);
      const result = safeParse(schema, input);
      if (result.success) return result.data;
      const [issue] = result.error.issues;
      const field = String(issue?.path[0] ?? "");
      const problem = field in input ? (issue?.message ?? "not valid") : "is required";
      const meaning = schema.shape[field]?.description ?? `one of ${fields.join(", ")}`;
      throw new MeshError("input_invalid", `${issue?.path.join(".")}: ${problem}. ${field} is ${meaning}`);
    },
  };
}

export const MeshPairParameters = parameters({
  token: words(TOKEN_PASTED_LENGTH_MAX).describe(
    "The pairing token from the cluster's operator, copied whole; it starts with kars-pair- or azcp_1_.",
  ),
  name: z
    .preprocess(asText, Name)
    .optional()
    .describe(
      `The name under which others find this agent: letters, digits, dot, dash and underscore, at most ${NAME_LENGTH_MAX}. Without it the operator's choice is taken.`,
    ),
});

export const CloudOffloadParameters = parameters({
  task: words(TASK_SIZE_MAX).describe(
    "The whole task in words, self-contained: the cluster sees nothing of this conversation. Never put secrets in it.",
  ),
  files: z
    .preprocess(asList, z.array(z.string().min(1).max(PATH_LENGTH_MAX)).max(FILES_MAX))
    .optional()
    .describe(
      `A list of at most ${FILES_MAX} paths of local files that the task needs, absolute or relative to the workspace.`,
    ),
  to: label(NAME_LENGTH_MAX)
    .optional()
    .describe("The name of the sandbox that is to do it, where the user named one: one that stands on the cluster."),
  capability: label(CAPABILITY_LENGTH_MAX)
    .optional()
    .describe("A capability that the sandbox must have, for example gpu; instead of to."),
  timeout_minutes: z
    .preprocess(asNumber, z.number().positive().max(OFFLOAD_TIMEOUT_MINUTES_MAX))
    .optional()
    .describe(
      `How many minutes the task may take: at most ${OFFLOAD_TIMEOUT_MINUTES_MAX}, ${OFFLOAD_TIMEOUT_MINUTES} unless given.`,
    ),
  force: flag()
    .optional()
    .describe(
      "Whether to run it again while the same task with the same files has not ended. It does not let files through that look like secrets.",
    ),
});

const OffloadId = z.preprocess(asText, Id);

export const OffloadStatusParameters = parameters({
  offload_id: OffloadId.optional().describe("The id that cloud_offload returned. Without it all offloads are listed."),
  wait_seconds: seconds()
    .optional()
    .describe(
      `How many seconds to wait for the next change: 0 (answer at once, the default) to ${WAIT_MAX_SECONDS} (the default with until_done).`,
    ),
  until_done: flag().default(false).describe("true: wait until the offload has ended, not only for its next change."),
});

export const OffloadCancelParameters = parameters({
  offload_id: OffloadId.describe("The id that cloud_offload returned."),
});

export const MeshSendParameters = parameters({
  to: address().describe("The name or DID (did:mesh:…) of the agent that is to get the message."),
  message: words(MESSAGE_SIZE_MAX).describe(`The text of the message, at most ${MESSAGE_SIZE_MAX} bytes.`),
});

export const MeshInboxParameters = parameters({
  limit: z
    .preprocess(asNumber, z.int().min(1).max(INBOX_PAGE_MAX))
    .default(50)
    .describe(`How many messages to show: 1 to ${INBOX_PAGE_MAX}.`),
  all: flag().default(false).describe("true: also messages that were read before, after the unread ones."),
  from: address().optional().describe("The name or DID of one sender, to get only its messages."),
  mark_read: flag().default(true).describe("false: leave the messages unread."),
  id: z.preprocess(asText, Id).optional().describe("The id of one message, to get only that one, read before or not."),
  offset: z
    .preprocess(asNumber, z.int().min(0))
    .optional()
    .describe("With id: the character at which to begin, to continue a message that was too long for one answer."),
});

export const MeshAwaitParameters = parameters({
  from: z
    .preprocess(asSenders, z.array(Address).min(1).max(AWAIT_SENDERS_MAX))
    .describe(
      `A list of the names or DIDs of 1 to ${AWAIT_SENDERS_MAX} agents; the wait ends when each of them has written.`,
    ),
  timeout_seconds: seconds().default(60).describe(`How many seconds to wait at most: 0 to ${WAIT_MAX_SECONDS}.`),
});

export const DiscoverParameters = parameters({
  name: label(NAME_LENGTH_MAX).optional().describe("Only agents of exactly this name."),
  capability: label(CAPABILITY_LENGTH_MAX).optional().describe("Only agents with this capability."),
});

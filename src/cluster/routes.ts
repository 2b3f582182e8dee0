import type { z } from "zod";
import { asMeshError, type ErrorCode, MeshError } from "../errors.ts";
import { STATUS_CODES } from "../http.ts";
import { safeParse } from "../parse.ts";
import { parseModest } from "../wire/bounded-json.ts";
import { BODY_PARTS_MAX } from "../wire/limits.ts";
import type { Caller } from "./address.ts";
import { firstIssue } from "./issue.ts";
import type { Log } from "./log.ts";
import { OF_PAGE } from "./origin.ts";
import { type Limit, refusalText } from "./rates.ts";

// The cluster's HTTP without its transport: a table of routes, JSON bodies that a schema has seen, and errors that are JSON too.

export type Method = "GET" | "POST" | "PUT" | "DELETE";

/** A request as it arrives. */
export interface Request {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly authorization: string | undefined;
  /** Who asks, as far as the network says; undefined where there is no network. */
  readonly caller?: Caller | undefined;
  /** A page in a browser asks, which no route answers. */
  readonly isOfPage?: boolean;
  /** Reads the body, when a route wants it. @throws HttpError 413 */
  readonly read: () => Promise<Uint8Array>;
}

export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** JSON unless the headers say otherwise; empty when there is none. */
  readonly text: string;
}

/** One request as its route sees it. */
export interface Call {
  /** What stands in the path where the route has `:name`, percent-decoded. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly authorization: string | undefined;
  readonly caller: Caller | undefined;
  /** The body as the schema reads it. @throws HttpError 400 naming the offending field, 413 */
  body<T extends z.ZodType>(schema: T): Promise<z.infer<T>>;
}

export interface Answer {
  readonly status: number;
  /** Sent as JSON; nothing is sent when it is undefined. */
  readonly body?: unknown;
  /** Sent as it is, in place of a body. */
  readonly plain?: { readonly type: string; readonly text: string };
}

export interface Route {
  readonly method: Method;
  /** Segments, of which `:name` stands for any one. */
  readonly path: string;
  readonly handle: (call: Call) => Answer | Promise<Answer>;
}

/** A refusal with its HTTP status: `{"error":{"code","message"},"detail":message}`, and what else is to be said. */
export class HttpError extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly more: Readonly<Record<string, unknown>>;
  constructor(
    status: number,
    code: string,
    message: string,
    headers: Readonly<Record<string, string>> = {},
    more: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
    this.name = "HttpError";
    this.status = status;
    this.code = code;
    this.headers = headers;
    this.more = more;
  }
}

/** A rate that was met: 429 with the limit's name and when to come again. */
export const tooMany = (limit: Limit, waitMs: number): HttpError =>
  new HttpError(
    429,
    "limit_reached",
    refusalText(limit, waitMs),
    { "retry-after": String(Math.ceil(waitMs / 1000)) },
    { limit, retry_after_ms: waitMs },
  );

/** What a schema makes of an input. @throws HttpError 400 naming the offending field */
export function parsed<T extends z.ZodType>(schema: T, input: unknown): z.infer<T> {
  const result = safeParse(schema, input);
  if (!result.success) throw new HttpError(400, "input_invalid", firstIssue(result.error));
  return result.data;
}

const statuses: Partial<Record<ErrorCode, number>> = {
  input_invalid: 400,
  token_mangled: 400,
  token_invalid: 403,
  token_expired: 403,
  token_revoked: 403,
  cluster_refused: 403,
  peer_identity_mismatch: 403,
  capability_missing: 403,
  budget_exhausted: 403,
  peer_unknown: 404,
  peer_without_prekeys: 404,
  grant_unknown: 404,
  token_used: 409,
  grant_exists: 409,
  no_free_slot: 409,
  file_too_large: 413,
  limit_reached: 503,
  store_io: 503,
  nats_unavailable: 503,
  closed: 503,
};

/** Any failure as an answer. What is our own fault is told by its code's sentence alone: particulars stay in the log. */
function refusalOf(error: unknown, log: Log): HttpError {
  if (error instanceof HttpError) return error;
  const known = asMeshError(error);
  const status = statuses[known.code] ?? 500;
  if (status < 500) return new HttpError(status, known.code, known.message);
  log("request_failed", { code: known.code, detail: known.message });
  return new HttpError(status, known.code, new MeshError(known.code).message);
}

function readJson(bytes: Uint8Array): unknown {
  const json = parseModest(Buffer.from(bytes).toString("utf8"), BODY_PARTS_MAX);
  if (json === undefined) throw new HttpError(400, "input_invalid", "The body is not JSON, or too deep or too wide.");
  return json;
}

function reply({ status, body, plain }: Answer, headers: Reply["headers"] = {}): Reply {
  const type = plain?.type ?? (body === undefined ? undefined : "application/json");
  return {
    status,
    headers: { ...headers, ...(type !== undefined && { "content-type": type }), "cache-control": "no-store" },
    text: plain?.text ?? (body === undefined ? "" : JSON.stringify(body)),
  };
}

/** The values of a pattern's `:names` in a path's segments, or undefined when it is another path. */
function match(pattern: readonly string[], segments: readonly string[]): Record<string, string> | undefined {
  if (pattern.length !== segments.length) return undefined;
  const params: Record<string, string> = {};
  for (const [index, part] of pattern.entries()) {
    const segment = segments[index] ?? "";
    if (part.startsWith(":")) params[part.slice(1)] = segment;
    else if (part !== segment) return undefined;
  }
  return params;
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw new HttpError(400, "input_invalid", "The path is not percent-encoded UTF-8.");
  }
}

/** The path of the table that a request means, once that is known. */
interface Found {
  route: string;
}

export interface AnsweringOptions {
  readonly log: Log;
  /** Looks at a request before its route does. @throws HttpError */
  readonly admit?: ((caller: Caller | undefined, path: string) => void) | undefined;
  /** Told of each answer. `route` is the path of the table, or `none`. */
  readonly onAnswered?: ((route: string, status: number) => void) | undefined;
}

/** Answers from a table of routes. Unknown paths answer 404, other methods of a known path 405. Never rejects. */
export function answering(
  routes: readonly Route[],
  { log, admit, onAnswered }: AnsweringOptions,
): (request: Request) => Promise<Reply> {
  const table = routes.map((route) => ({ route, pattern: route.path.split("/") }));

  async function answer(request: Request, found: Found): Promise<Answer> {
    const { method, url, authorization, caller, read } = request;
    if (request.isOfPage) throw new HttpError(403, OF_PAGE.code, OF_PAGE.message);
    const [path = "", query = ""] = url.split("?", 2);
    admit?.(caller, path);
    const segments = path.split("/").map(decodeSegment);
    const there = table.flatMap(({ route, pattern }) => {
      const params = match(pattern, segments);
      return params ? [{ route, params }] : [];
    });
    const asked = there.find(({ route }) => route.method === method);
    found.route = there[0]?.route.path ?? found.route;
    if (there.length === 0) throw new HttpError(404, "not_found", STATUS_CODES[404] ?? "");
    if (!asked) {
      const allow = there.map(({ route }) => route.method).join(", ");
      throw new HttpError(405, "method_not_allowed", `This path takes ${allow}.`, { allow });
    }
    return asked.route.handle({
      params: asked.params,
      query: new URLSearchParams(query),
      authorization,
      caller,
      body: async (schema) => parsed(schema, readJson(await read())),
    });
  }

  async function replyTo(request: Request, found: Found): Promise<Reply> {
    try {
      return reply(await answer(request, found));
    } catch (error) {
      const { status, code, message, headers, more } = refusalOf(error, log);
      const text = message.slice(0, 1000);
      return reply({ status, body: { error: { code, message: text }, detail: text, ...more } }, headers);
    }
  }

  return async (request) => {
    const found: Found = { route: "none" };
    const made = await replyTo(request, found);
    onAnswered?.(found.route, made.status);
    return made;
  };
}

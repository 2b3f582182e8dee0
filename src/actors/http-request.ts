import { type ErrorCode, isErrorCode, MeshError } from "../errors.ts";
import { AUTH_SKEW_MAX_MS, HTTP_BODY_SIZE_MAX, HTTP_TIMEOUT_MS } from "../limits.ts";
import { safeParse } from "../parse.ts";
import { parseModest } from "../wire/bounded-json.ts";
import { BODY_PARTS_MAX } from "../wire/limits.ts";
import { ErrorResponse, PolicyDenied } from "../wire/pair.ts";
import { RegistryRefusal } from "../wire/registry.ts";
import { distrustOf, distrustText, LAPTOP_REMEDY } from "./authorities.ts";
import type { Clock, Network } from "./ports.ts";
import { POLICY_ADVICE, ProxyError } from "./proxy.ts";
import { blamesClock, quoted } from "./refusal-words.ts";

// A request to a registry or a controller over HTTP, and what its answer says. Every answer is parsed with bounds.

interface Parser<T> {
  parse(value: unknown): T;
}

export interface HttpPorts {
  readonly network: Network;
  readonly clock: Clock;
  /** Aborts the request. */
  readonly signal: AbortSignal;
}

export interface HttpRequest {
  readonly method?: "GET" | "POST" | "PUT" | "DELETE";
  readonly body?: unknown;
  readonly authorization?: string;
  /** The error code when there is no answer. */
  readonly unreachable: ErrorCode;
  /** Whether 429 counts as an answer. For other requests it means that the server did not process the request. */
  readonly mayBeThrottled?: boolean;
  /** Whether the server may lack this path, and answer 404 in any form. For other requests such an answer means a wrong server. */
  readonly mayBeMissing?: boolean;
}

export interface HttpAnswer {
  readonly status: number;
  readonly json: unknown;
  /** How many milliseconds the server's clock is ahead of ours; undefined without a `Date` header. */
  readonly aheadMs: number | undefined;
}

async function readBounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.length;
    if (size > HTTP_BODY_SIZE_MAX)
      throw new MeshError("limit_reached", `The answer is larger than ${HTTP_BODY_SIZE_MAX} bytes.`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** A signal that aborts after `duration`, or when the node closes. `ended` releases the timer. */
function within({ clock, signal }: HttpPorts, duration: number): { signal: AbortSignal; ended: () => void } {
  const late = new AbortController();
  const disarm = clock.at(clock.now() + duration, () => late.abort(new DOMException("No answer.", "TimeoutError")));
  return { signal: AbortSignal.any([late.signal, signal]), ended: disarm };
}

/**
 * How many milliseconds the server's clock is ahead of ours; undefined when the answer has no usable `Date` header.
 * @param asked,answered when the request was sent and when the answer arrived, in epoch milliseconds
 */
export function clockAhead({ headers }: Response, asked: number, answered: number): number | undefined {
  const date = Date.parse(headers.get("date") ?? "");
  // The header counts whole seconds, and was written somewhere between the question and the answer.
  return Number.isNaN(date) ? undefined : date + 500 - (asked + answered) / 2;
}

/** How this machine's clock differs from the registry's: `62 minutes behind the registry's`. */
export function clockDifference(aheadMs: number): string {
  const seconds = Math.round(Math.abs(aheadMs) / 1000);
  const [number, unit] = seconds < 120 ? [seconds, "second"] : [Math.round(seconds / 60), "minute"];
  return `${number} ${unit}${number === 1 ? "" : "s"} ${aheadMs > 0 ? "behind" : "ahead of"} the registry's`;
}

/** The status and the JSON body. @throws MeshError with the code `unreachable` when there is no answer */
export async function request(
  ports: HttpPorts,
  url: string,
  { method = "GET", body, authorization, unreachable, mayBeThrottled = false, mayBeMissing = false }: HttpRequest,
): Promise<HttpAnswer> {
  const asked = ports.clock.now();
  let response: Response;
  let text: string;
  const { signal, ended } = within(ports, HTTP_TIMEOUT_MS);
  try {
    response = await ports.network.fetch(url, {
      method,
      headers: {
        accept: "application/json",
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...(authorization === undefined ? {} : { authorization }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal,
      redirect: "error",
    });
    text = await readBounded(response);
  } catch (cause) {
    if (cause instanceof MeshError) throw cause;
    if (ports.signal.aborted) throw new MeshError("closed");
    const distrust = distrustOf(cause);
    if (distrust)
      throw new MeshError(unreachable, `${new URL(url).origin} shows ${distrustText(distrust, LAPTOP_REMEDY)}.`, {
        cause,
      });
    const reason = cause instanceof ProxyError ? `: ${cause.message}` : "";
    throw new MeshError(unreachable, `${new URL(url).origin} does not answer${reason}.`, { cause });
  } finally {
    ended();
  }
  const json = text === "" ? undefined : parseModest(text, BODY_PARTS_MAX);
  if (json === undefined && text !== "" && (!mayBeMissing || response.status !== 404))
    throw new MeshError(
      unreachable,
      `${new URL(url).origin} answered ${response.status} with a body that is not JSON, or too deep or too wide.`,
    );
  if (response.status === 403 && safeParse(PolicyDenied, json).success) {
    const { origin, pathname } = new URL(url);
    throw new MeshError(unreachable, `A proxy denies ${method} ${pathname} at ${origin}: ${POLICY_ADVICE}.`);
  }
  // 429 says nothing about this request itself, so it is worth repeating.
  if (response.status >= 500 || (response.status === 429 && !mayBeThrottled))
    throw new MeshError(unreachable, `${new URL(url).origin} answered ${response.status}.`);
  return { status: response.status, json, aheadMs: clockAhead(response, asked, ports.clock.now()) };
}

export function parsed<T>(parser: Parser<T>, json: unknown, what: string): T {
  try {
    return parser.parse(json);
  } catch (cause) {
    throw new MeshError("cluster_refused", `${what} answered in a form that is not understood.`, { cause });
  }
}

interface Refusal {
  /** The code, if the server sends one, as our servers do. */
  readonly code?: string;
  /** The server's own words. They are foreign text. */
  readonly words?: string;
}

export function readRefusal({ json }: HttpAnswer): Refusal {
  const problem = safeParse(ErrorResponse, json).data?.error;
  if (problem) return { code: problem.code, words: problem.message };
  const { detail } = safeParse(RegistryRefusal, json).data ?? {};
  if (detail === undefined) return {};
  return { words: typeof detail === "string" ? detail : detail.map(({ msg }) => msg).join(", ") };
}

/** A refusal as an error. The error has the server's code if that is one of ours, else `fallback`. */
export function refusal(answer: HttpAnswer, fallback: ErrorCode): MeshError {
  const { status, aheadMs } = answer;
  const { code, words } = readRefusal(answer);
  const isOff = aheadMs !== undefined && Math.abs(aheadMs) > AUTH_SKEW_MAX_MS;
  if (status === 401 && (isOff || blamesClock(words ?? "")))
    return new MeshError("clock_off", isOff ? `This machine's clock is ${clockDifference(aheadMs)}.` : undefined);
  if (isErrorCode(code)) return new MeshError(code);
  if (code !== undefined) return new MeshError(fallback, words);
  const saying = words === undefined ? "" : ` and says ${quoted(words)}`;
  return new MeshError(fallback, `The server answered ${status}${saying}.`);
}

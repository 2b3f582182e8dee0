/**
 * The reference registry (Python, Agent Governance Toolkit) as it was recorded: it says what that registry says, byte for byte but
 * for times. `recordings.test.ts` holds it to the recordings. What nobody recorded makes it throw, so that no test comes to rest
 * upon an answer that no registry gave. Nothing of ours runs in it but the check of a signature.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Clock } from "../../src/actors/ports.ts";
import { realClock } from "../../src/actors/ports.ts";
import { didOf, utf8, verify } from "../../src/crypto/index.ts";
import { Happenings } from "./happenings.ts";

const SKEW_MS = 5 * 60_000;
const ONLINE_MS = 90_000;
const HEARTBEAT_MIN_MS = 10_000;
const LIMIT_MAX = 200;

type Body = Readonly<Record<string, unknown>>;
type Reply = readonly [status: number, body: object | undefined];

interface Agent {
  readonly did: string;
  readonly publicKey: Uint8Array;
  readonly capabilities: readonly string[];
  readonly metadata: object;
  readonly registeredAt: string;
  lastSeen: { readonly at: number; readonly text: string };
  beatAt: number | undefined;
  bundle: { readonly [field: string]: unknown } | undefined;
  oneTime: unknown[];
}

const bytesOf = (text: unknown): Uint8Array => new Uint8Array(Buffer.from(String(text), "base64url"));
const refusal = (status: number, detail: string): Reply => [status, { detail }];
const NOT_FOUND = refusal(404, "Not Found");

/** What the framework says about a request that is not of the right shape. */
const invalid = (where: readonly [string, string], msg: string, type: string, more: object = {}): object => ({
  loc: where,
  msg,
  type,
  ...more,
});
const missing = (...where: readonly [string, string]) => invalid(where, "field required", "value_error.missing");
const unprocessable = (...problems: readonly object[]): Reply => [422, { detail: problems }];
const missingFields = (body: Body, ...fields: readonly string[]): object[] =>
  fields.filter((field) => body[field] === undefined).map((field) => missing("body", field));

export interface Asked {
  /** Method and path. */
  readonly http: string;
  readonly authorization: string | undefined;
  readonly request: string | undefined;
}

export interface RegistryOptions {
  readonly clock?: Clock;
}

export class ReferenceRegistry {
  readonly #clock: Clock;
  readonly #server: Server;
  #agents = new Map<string, Agent>();
  /** The microseconds that this machine's clock does not have: each time is later than the one before. */
  #microseconds = 0;
  /** Whether anybody is there: when not, connections are ended without an answer. */
  up = true;
  /** Requests that it took, as a recording has them. */
  readonly asked = new Happenings<Asked>();

  private constructor(server: Server, { clock = realClock }: RegistryOptions) {
    this.#server = server;
    this.#clock = clock;
    server.on("request", (request, response) => {
      // What is thrown here is a question that no recording answers: the test that asks it fails.
      void this.#answer(request, response);
    });
  }

  /** @param port of this machine; 0 picks a free one. @returns when it listens, with the port */
  static async listen(options: RegistryOptions = {}, port = 0): Promise<{ registry: ReferenceRegistry; port: number }> {
    const server = createServer();
    const registry = new ReferenceRegistry(server, options);
    await new Promise<void>((resolve, reject) =>
      server.listen(port, "127.0.0.1").once("listening", resolve).once("error", reject),
    );
    const address = server.address();
    if (typeof address !== "object" || !address) throw new Error("the registry has no port");
    return { registry, port: address.port };
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Its process ends and another one begins, which knows nobody. */
  forget(): void {
    this.#agents = new Map();
  }

  /** An agent that registered before a recording began. */
  plant({ did, capabilities, lastSeen }: { did: string; capabilities: readonly string[]; lastSeen: string }): void {
    this.#agents.set(did, {
      did,
      publicKey: new Uint8Array(32),
      capabilities,
      metadata: {},
      registeredAt: lastSeen,
      lastSeen: { at: Date.parse(lastSeen), text: lastSeen },
      beatAt: undefined,
      bundle: undefined,
      oneTime: [],
    });
  }

  /** `2026-11-30T14:05:38.522157+00:00` */
  #time(): string {
    this.#microseconds = (this.#microseconds % 999) + 1;
    const text = new Date(this.#clock.now()).toISOString();
    return text.replace("Z", `${String(this.#microseconds).padStart(3, "0")}+00:00`);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const url = new URL(request.url ?? "", "http://registry");
    const text = Buffer.concat(chunks).toString("utf8");
    this.asked.add({
      http: `${request.method} ${request.url}`,
      authorization: request.headers.authorization,
      request: text === "" ? undefined : text,
    });
    if (!this.up) {
      request.socket.destroy();
      return;
    }
    const [status, body] = this.#reply(request, url, text === "" ? undefined : (JSON.parse(text) as Body));
    response
      .writeHead(status, { "content-type": "application/json" })
      .end(body === undefined ? "" : JSON.stringify(body));
  }

  #reply({ method = "", headers }: IncomingMessage, url: URL, body: Body | undefined): Reply {
    const [, version, place, encoded, part, ...rest] = url.pathname.split("/");
    if (method === "GET" && url.pathname === "/health")
      return [200, { status: "healthy", service: "agentmesh-registry", entra_verify_enabled: false }];
    if (version !== "v1" || rest.length > 0) return NOT_FOUND;
    const { authorization } = headers;
    const route = `${method} ${place}${encoded === undefined ? "" : "/did"}${part === undefined ? "" : `/${part}`}`;
    const did = decodeURIComponent(encoded ?? "");
    switch (route) {
      case "GET discover":
        return this.#discover(url.searchParams);
      case "POST agents":
        return this.#register(body ?? {});
      case "GET agents/did":
        return this.#record(did);
      case "DELETE agents/did":
        return this.#remove(did, authorization);
      case "PUT agents/did/prekeys":
        return this.#publish(did, authorization, body ?? {});
      case "GET agents/did/prekeys":
        return this.#bundle(did);
      case "GET agents/did/presence":
        return this.#presence(did);
      case "POST agents/did/heartbeat":
        return this.#beat(did, authorization);
      default:
        // As for every path that it does not have, `/prekeys/count` among them.
        if (method === "GET") return NOT_FOUND;
        throw new Error(`no recording says what the registry answers to ${method} ${url.pathname}`);
    }
  }

  #register(body: Body): Reply {
    const problems = missingFields(body, "public_key", "proof", "proof_timestamp");
    if (problems.length > 0) return unprocessable(...problems);
    const { public_key, proof, proof_timestamp } = body;
    const publicKey = bytesOf(public_key);
    if (publicKey.length !== 32) return refusal(400, "public_key must be 32 bytes");
    const time = Date.parse(String(proof_timestamp));
    if (Number.isNaN(time)) return refusal(400, "Invalid proof_timestamp");
    if (Math.abs(this.#clock.now() - time) > SKEW_MS) return refusal(401, "Proof timestamp outside replay window");
    const signature = bytesOf(proof);
    if (signature.length !== 64) return refusal(400, "Malformed proof");
    if (!verify(publicKey, utf8.encode(`${public_key}${proof_timestamp}`), signature))
      return refusal(401, "Invalid proof-of-possession");
    const did = didOf(publicKey);
    if (this.#agents.has(did)) return refusal(409, "Agent already registered");
    const { capabilities, metadata } = body;
    this.#agents.set(did, {
      did,
      publicKey,
      capabilities: Array.isArray(capabilities) ? capabilities.map(String) : [],
      metadata: typeof metadata === "object" && metadata !== null ? metadata : {},
      registeredAt: this.#time(),
      lastSeen: { at: this.#clock.now(), text: this.#time() },
      beatAt: undefined,
      bundle: undefined,
      oneTime: [],
    });
    return [201, { did, status: "registered" }];
  }

  /** Why an `Authorization` header is not taken for that of an agent that is registered. */
  #unauthorized(authorization: string | undefined): Reply | { readonly did: string } {
    if (!authorization?.startsWith("Ed25519-Timestamp "))
      return refusal(401, "Missing or invalid Authorization header");
    const [, did = "", time = "", signature = ""] = authorization.split(" ");
    if (signature === "") return refusal(401, "Malformed Ed25519-Timestamp header");
    if (Number.isNaN(Date.parse(time))) return refusal(401, "Invalid timestamp format");
    if (Math.abs(this.#clock.now() - Date.parse(time)) > SKEW_MS)
      return refusal(401, "Timestamp outside replay window");
    const agent = this.#agents.get(did);
    if (!agent) return refusal(401, "Agent not registered");
    const bytes = bytesOf(signature);
    const isGenuine = bytes.length === 64 && verify(agent.publicKey, utf8.encode(time), bytes);
    return isGenuine ? { did } : refusal(401, "Invalid signature");
  }

  #publish(did: string, authorization: string | undefined, body: Body): Reply {
    const problems = [
      ...(authorization === undefined ? [missing("header", "Authorization")] : []),
      ...missingFields(body, "identity_key", "signed_pre_key"),
    ];
    if (problems.length > 0) return unprocessable(...problems);
    const agent = this.#agents.get(did);
    if (!agent) return refusal(404, "Agent not found");
    const claim = this.#unauthorized(authorization);
    if (!("did" in claim)) return claim;
    if (claim.did !== did) return refusal(403, "DID mismatch");
    const { one_time_pre_keys = [], identity_key, identity_key_ed = null, signed_pre_key } = body;
    agent.bundle = { identity_key, identity_key_ed, signed_pre_key };
    // What was there before is gone: an upload adds to nothing.
    agent.oneTime = Array.isArray(one_time_pre_keys) ? [...one_time_pre_keys] : [];
    return [200, { did, otk_count: agent.oneTime.length }];
  }

  #bundle(did: string): Reply {
    const agent = this.#agents.get(did);
    if (!agent?.bundle) return refusal(404, "Pre-key bundle not found");
    return [200, { ...agent.bundle, one_time_pre_key: agent.oneTime.shift() ?? null }];
  }

  #record(did: string): Reply {
    const agent = this.#agents.get(did);
    if (!agent) return refusal(404, "Agent not found");
    return [
      200,
      {
        did,
        capabilities: agent.capabilities,
        metadata: agent.metadata,
        registered_at: agent.registeredAt,
        last_seen: agent.lastSeen.text,
        reputation_score: 0.5,
        total_sessions: 0,
        successful_sessions: 0,
        failed_sessions: 0,
        timeout_sessions: 0,
        last_session_at: null,
        completion_rate: null,
        tier: "anonymous",
        verified_app_id: null,
        verified_tenant_id: null,
        verified_at: null,
      },
    ];
  }

  #remove(did: string, authorization: string | undefined): Reply {
    if (authorization === undefined) return unprocessable(missing("header", "Authorization"));
    const claim = this.#unauthorized(authorization);
    if (!("did" in claim)) return claim;
    if (claim.did !== did) return refusal(403, "DID mismatch");
    this.#agents.delete(did);
    return [204, undefined];
  }

  #presence(did: string): Reply {
    const agent = this.#agents.get(did);
    if (!agent) return refusal(404, "Agent not found");
    const { at, text } = agent.lastSeen;
    return [200, { did, last_seen: text, online: this.#clock.now() - at < ONLINE_MS }];
  }

  /** The rate counts from the last heartbeat, and not from the registration. */
  #beat(did: string, authorization: string | undefined): Reply {
    const claim = this.#unauthorized(authorization);
    if (!("did" in claim)) return claim;
    if (claim.did !== did) return refusal(403, "Authenticated DID does not match heartbeat target");
    const agent = this.#agents.get(did);
    if (!agent) return refusal(404, "Agent not found");
    const now = this.#clock.now();
    if (agent.beatAt !== undefined && now - agent.beatAt < HEARTBEAT_MIN_MS)
      return refusal(429, "Heartbeat throttled; retry after 10s");
    agent.beatAt = now;
    agent.lastSeen = { at: now, text: this.#time() };
    return [200, { did, last_seen: agent.lastSeen.text }];
  }

  #discover(query: URLSearchParams): Reply {
    const capability = query.get("capability");
    const limit = Number(query.get("limit") ?? 50);
    const bound = (msg: string, type: string, limit_value: number) =>
      invalid(["query", "limit"], msg, type, { ctx: { limit_value } });
    const problems = [
      ...(capability === null ? [missing("query", "capability")] : []),
      ...(Number.isInteger(limit)
        ? []
        : [invalid(["query", "limit"], "value is not a valid integer", "type_error.integer")]),
      ...(limit < 1 ? [bound("ensure this value is greater than or equal to 1", "value_error.number.not_ge", 1)] : []),
      ...(limit > LIMIT_MAX
        ? [bound("ensure this value is less than or equal to 200", "value_error.number.not_le", LIMIT_MAX)]
        : []),
    ];
    if (problems.length > 0) return unprocessable(...problems);
    const results = [...this.#agents.values()]
      .filter(({ capabilities }) => capabilities.includes(capability ?? ""))
      .slice(0, limit)
      .map(({ did, capabilities, lastSeen }) => ({
        did,
        capabilities,
        reputation_score: 0.5,
        last_seen: lastSeen.text,
      }));
    return [200, { results, total: results.length }];
  }
}

import {
  base64url,
  type Identity,
  type OneTimePreKey,
  type PreKeyBundle,
  type SignedPreKey,
  sign,
  utf8,
} from "../crypto/index.ts";
import { type ErrorCode, isErrorCode, MeshError } from "../errors.ts";
import { HTTP_BODY_SIZE_MAX, HTTP_TIMEOUT_MS, NAME_LENGTH_MAX } from "../limits.ts";
import { safeParse } from "../parse.ts";
import { ErrorResponse, PairResponse, PolicyDenied, pairProofText } from "../wire/pair.ts";
import {
  AgentRecord,
  AUTH_SCHEME,
  DiscoverResponse,
  PreKeysCount,
  PreKeysResponse,
  type PreKeysUpload,
  type RegisterRequest,
  RegistryRefusal,
} from "../wire/registry.ts";
import type { Clock, Network } from "./ports.ts";
import { POLICY_ADVICE, ProxyError } from "./proxy.ts";
import { blamesClock, CLOCK_ADVICE, quoted } from "./refusal-words.ts";

// What the node asks over HTTP: the registry, and the controller's `POST /v1/pair`. Every answer is parsed with bounds.

interface Parser<T> {
  parse(value: unknown): T;
}

export interface HttpPorts {
  readonly network: Network;
  readonly clock: Clock;
  /** Ends what is under way. */
  readonly signal: AbortSignal;
}

interface Request {
  readonly method?: "GET" | "POST" | "PUT" | "DELETE";
  readonly body?: unknown;
  readonly authorization?: string;
  /** What it means when nobody answers. */
  readonly unreachable: ErrorCode;
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

/** A signal that aborts after a while, or when the node closes; `ended` lets go of it. */
function within({ clock, signal }: HttpPorts, duration: number): { signal: AbortSignal; ended: () => void } {
  const late = new AbortController();
  const disarm = clock.at(clock.now() + duration, () => late.abort(new DOMException("No answer.", "TimeoutError")));
  return { signal: AbortSignal.any([late.signal, signal]), ended: disarm };
}

const isoNow = (clock: Clock) => new Date(clock.now()).toISOString();

/** The status and the JSON body. @throws MeshError with the code `unreachable` when there is no answer */
async function request(
  ports: HttpPorts,
  url: string,
  { method = "GET", body, authorization, unreachable }: Request,
): Promise<{ status: number; json: unknown }> {
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
    const reason = cause instanceof ProxyError ? `: ${cause.message}` : "";
    throw new MeshError(unreachable, `${new URL(url).origin} does not answer${reason}.`, { cause });
  } finally {
    ended();
  }
  let json: unknown;
  try {
    json = text === "" ? undefined : JSON.parse(text);
  } catch (cause) {
    throw new MeshError(
      unreachable,
      `${new URL(url).origin} answered ${response.status} with something that is not JSON.`,
      { cause },
    );
  }
  if (response.status === 403 && safeParse(PolicyDenied, json).success) {
    const { origin, pathname } = new URL(url);
    throw new MeshError(unreachable, `A proxy denies ${method} ${pathname} at ${origin}: ${POLICY_ADVICE}.`);
  }
  // Too many requests is no word about this one: it is worth coming again.
  if (response.status >= 500 || response.status === 429)
    throw new MeshError(unreachable, `${new URL(url).origin} answered ${response.status}.`);
  return { status: response.status, json };
}

function parsed<T>(parser: Parser<T>, json: unknown, what: string): T {
  try {
    return parser.parse(json);
  } catch (cause) {
    throw new MeshError("cluster_refused", `${what} answered in a form that is not understood.`, { cause });
  }
}

/** What a server of the reference's kind says about a refusal, quoted, with what a person can do about it. */
function referenceRefusal(status: number, json: unknown): string {
  const { detail } = safeParse(RegistryRefusal, json).data ?? {};
  if (detail === undefined) return `The server answered ${status}.`;
  const words = typeof detail === "string" ? detail : detail.map(({ msg }) => msg).join(", ");
  return `The server answered ${status} and says ${quoted(words)}${blamesClock(words) ? `: ${CLOCK_ADVICE}` : ""}.`;
}

/** A refusal as an error: by its own code if it names one of ours. */
function refusal(status: number, json: unknown, fallback: ErrorCode): MeshError {
  const problem = safeParse(ErrorResponse, json);
  if (!problem.success) return new MeshError(fallback, referenceRefusal(status, json));
  const { code, message } = problem.data.error;
  if (isErrorCode(code)) return new MeshError(code);
  return new MeshError(fallback, message);
}

/** `POST /v1/pair`. @throws MeshError `cluster_unreachable`, or why the token was refused */
export async function pair(
  ports: HttpPorts,
  options: {
    readonly pairUrl: string;
    readonly secret: string;
    readonly identity: Identity;
    readonly name: string | null;
  },
): Promise<PairResponse & { readonly timestamp: string }> {
  const { pairUrl, secret, identity, name } = options;
  const timestamp = isoNow(ports.clock);
  const { status, json } = await request(ports, pairUrl, {
    method: "POST",
    unreachable: "cluster_unreachable",
    body: {
      token: secret,
      did: identity.did,
      public_key: base64url.encode(identity.publicKey),
      proof: base64url.encode(sign(identity, utf8.encode(pairProofText(secret, identity.did, timestamp)))),
      proof_timestamp: timestamp,
      ...(name === null ? {} : { display_name: name }),
    },
  });
  if (status !== 200) throw refusal(status, json, "cluster_refused");
  return { ...parsed(PairResponse, json, "The controller"), timestamp };
}

/** The registry of one cluster, as one identity sees it. */
export class Registry {
  readonly #ports: HttpPorts;
  readonly #base: string;

  constructor(ports: HttpPorts, base: string) {
    this.#ports = ports;
    this.#base = base.replace(/\/+$/, "");
  }

  #ask(path: string, options: Omit<Request, "unreachable"> = {}) {
    return request(this.#ports, `${this.#base}${path}`, { ...options, unreachable: "registry_unreachable" });
  }

  /** The relay wants a time that ends with Z: written as an offset, what is signed here connects nobody. */
  #authorization(identity: Identity): string {
    const time = isoNow(this.#ports.clock).replace("Z", "+00:00");
    return `${AUTH_SCHEME} ${identity.did} ${time} ${base64url.encode(sign(identity, utf8.encode(time)))}`;
  }

  /** Registers this identity, or updates its record. */
  async register(
    identity: Identity,
    capabilities: readonly string[],
    metadata: Readonly<Record<string, string>>,
  ): Promise<void> {
    const publicKey = base64url.encode(identity.publicKey);
    const timestamp = isoNow(this.#ports.clock);
    const body: RegisterRequest = {
      public_key: publicKey,
      proof: base64url.encode(sign(identity, utf8.encode(publicKey + timestamp))),
      proof_timestamp: timestamp,
      capabilities: [...capabilities],
      metadata: { ...metadata },
    };
    const { status, json } = await this.#ask("/v1/agents", { method: "POST", body });
    // 409: this very key is registered already, which is what was wanted.
    if (status !== 201 && status !== 200 && status !== 409) throw refusal(status, json, "cluster_refused");
  }

  async publishPreKeys(identity: Identity, signed: SignedPreKey, oneTime: readonly OneTimePreKey[]): Promise<void> {
    const body: PreKeysUpload = {
      identity_key: base64url.encode(identity.dhPublic),
      identity_key_ed: base64url.encode(identity.publicKey),
      signed_pre_key: {
        key_id: signed.keyId,
        public_key: base64url.encode(signed.keyPair.public),
        signature: base64url.encode(signed.signature),
      },
      one_time_pre_keys: oneTime.map(({ keyId, keyPair }) => ({
        key_id: keyId,
        public_key: base64url.encode(keyPair.public),
      })),
    };
    const path = `/v1/agents/${encodeURIComponent(identity.did)}/prekeys`;
    const { status, json } = await this.#ask(path, {
      method: "PUT",
      body,
      authorization: this.#authorization(identity),
    });
    if (status < 200 || status >= 300) throw refusal(status, json, "cluster_refused");
  }

  /** How many one-time prekeys of ours it has left, where it says that (an extension); null elsewhere. */
  async preKeysLeft(identity: Identity): Promise<number | null> {
    const path = `/v1/agents/${encodeURIComponent(identity.did)}/prekeys/count`;
    const { status, json } = await this.#ask(path, { authorization: this.#authorization(identity) });
    const { data } = safeParse(PreKeysCount, json);
    return status === 200 && data ? data.one_time_count : null;
  }

  /** Takes this identity's record and prekeys away. */
  async remove(identity: Identity): Promise<void> {
    const path = `/v1/agents/${encodeURIComponent(identity.did)}`;
    const { status, json } = await this.#ask(path, { method: "DELETE", authorization: this.#authorization(identity) });
    if (status !== 204 && status !== 404) throw refusal(status, json, "cluster_refused");
  }

  /**
   * A peer's prekey bundle, unchecked: X3DH checks it against the DID. Consumes one one-time prekey.
   * @throws MeshError `peer_without_prekeys` when there is none
   */
  async bundle(did: string): Promise<PreKeyBundle> {
    const { status, json } = await this.#ask(`/v1/agents/${encodeURIComponent(did)}/prekeys`);
    if (status === 404) throw new MeshError("peer_without_prekeys");
    if (status !== 200) throw refusal(status, json, "cluster_refused");
    const answer = parsed(PreKeysResponse, json, "The registry");
    const oneTime = answer.one_time_pre_key;
    if (!answer.identity_key_ed)
      throw new MeshError(
        "peer_without_prekeys",
        "The peer's prekeys do not name its Ed25519 key, so nobody can check that they are the peer's own. It has to update its client.",
      );
    return {
      did,
      identityKey: base64url.decode(answer.identity_key),
      identityKeyEd: base64url.decode(answer.identity_key_ed),
      signedPreKey: {
        keyId: answer.signed_pre_key.key_id,
        publicKey: base64url.decode(answer.signed_pre_key.public_key),
        signature: base64url.decode(answer.signed_pre_key.signature),
      },
      ...(oneTime ? { oneTimePreKey: { keyId: oneTime.key_id, publicKey: base64url.decode(oneTime.public_key) } } : {}),
    };
  }

  /** An agent's record. @throws MeshError `peer_unknown` */
  async agent(did: string): Promise<AgentRecord> {
    const { status, json } = await this.#ask(`/v1/agents/${encodeURIComponent(did)}`);
    if (status === 404) throw new MeshError("peer_unknown");
    if (status !== 200) throw refusal(status, json, "cluster_refused");
    return parsed(AgentRecord, json, "The registry");
  }

  /** Agents with a capability (a display name is one more capability), or all. */
  async discover(capability: string | undefined, limit: number): Promise<Agent[]> {
    const query = new URLSearchParams({ ...(capability === undefined ? {} : { capability }), limit: String(limit) });
    const { status, json } = await this.#ask(`/v1/discover?${query}`);
    if (status !== 200) throw refusal(status, json, "cluster_refused");
    return parsed(DiscoverResponse, json, "The registry").results.map((result) => ({
      did: result.did,
      name: nameOf(result),
      capabilities: result.capabilities.filter((entry) => entry !== nameOf(result)),
      online: result.online === true,
      last_seen: result.last_seen ?? null,
    }));
  }
}

export interface Agent {
  readonly did: string;
  /** What it calls itself: a hint, never trust. */
  readonly name: string | null;
  readonly capabilities: readonly string[];
  readonly online: boolean;
  readonly last_seen: string | null;
}

/** What an agent calls itself: the name in its metadata, if it is registered as a capability too. */
export function nameOf(result: {
  readonly capabilities: readonly string[];
  readonly [extra: string]: unknown;
}): string | null {
  const metadata = result.metadata;
  if (typeof metadata !== "object" || metadata === null || !("name" in metadata)) return null;
  const { name } = metadata;
  return typeof name === "string" && name.length <= NAME_LENGTH_MAX && result.capabilities.includes(name) ? name : null;
}

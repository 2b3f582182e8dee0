import {
  base64url,
  type Identity,
  type OneTimePreKey,
  type PreKeyBundle,
  type SignedPreKey,
  sign,
  utf8,
} from "../crypto/index.ts";
import { MeshError } from "../errors.ts";
import { safeParse } from "../parse.ts";
import { PairResponse, pairProofText } from "../wire/pair.ts";
import {
  AgentRecord,
  AUTH_SCHEME,
  DiscoverResponse,
  PreKeysCount,
  PreKeysResponse,
  type PreKeysUpload,
  PresenceResponse,
  type RegisterRequest,
} from "../wire/registry.ts";
import { type Agent, nameOf } from "./agent.ts";
import {
  type HttpAnswer,
  type HttpPorts,
  type HttpRequest,
  parsed,
  readRefusal,
  refusal,
  request,
} from "./http-request.ts";
import type { Clock } from "./ports.ts";

// The node's requests over HTTP: to the registry, and the controller's `POST /v1/pair`.

const isoNow = (clock: Clock) => new Date(clock.now()).toISOString();

/** How the reference registry says that it does not know the signer or the subject of a request. */
const UNKNOWN_AGENT = /^agent not (?:registered|found)$/i;

/**
 * Whether a refusal says that the registry has no record of this agent. A path that the registry or a proxy does not know is
 * answered with 404 as well, so only the words can tell.
 */
function isOfUnknownAgent(answer: HttpAnswer): boolean {
  if (answer.status !== 401 && answer.status !== 404) return false;
  const { code, words } = readRefusal(answer);
  return code === "peer_unknown" || (code === undefined && UNKNOWN_AGENT.test(words ?? ""));
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
  const answer = await request(ports, pairUrl, {
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
  if (answer.status !== 200) throw refusal(answer, "cluster_refused");
  return { ...parsed(PairResponse, answer.json, "The controller"), timestamp };
}

/** The registry of one cluster, as one identity sees it. */
export class Registry {
  readonly #ports: HttpPorts;
  readonly #base: string;

  constructor(ports: HttpPorts, base: string) {
    this.#ports = ports;
    this.#base = base.replace(/\/+$/, "");
  }

  #ask(path: string, options: Omit<HttpRequest, "unreachable"> = {}): Promise<HttpAnswer> {
    return request(this.#ports, `${this.#base}${path}`, { ...options, unreachable: "registry_unreachable" });
  }

  /** Sends a signed request about this identity's own record. @throws MeshError `registry_forgot` */
  async #askSigned(
    identity: Identity,
    path: string,
    options: Omit<HttpRequest, "unreachable"> = {},
  ): Promise<HttpAnswer> {
    const authorization = this.#authorization(identity);
    const answer = await this.#ask(`/v1/agents/${encodeURIComponent(identity.did)}${path}`, {
      ...options,
      authorization,
    });
    if (isOfUnknownAgent(answer)) throw new MeshError("registry_forgot");
    return answer;
  }

  /** The relay wants a time that ends with Z: written as an offset, what is signed here connects nobody. */
  #authorization(identity: Identity): string {
    const time = isoNow(this.#ports.clock).replace("Z", "+00:00");
    return `${AUTH_SCHEME} ${identity.did} ${time} ${base64url.encode(sign(identity, utf8.encode(time)))}`;
  }

  /**
   * Registers this identity. Our own registry updates a record that is there; the reference registry leaves it as it is.
   * @returns `exists` when the registry has a record of this identity and did not change it
   */
  async register(
    identity: Identity,
    capabilities: readonly string[],
    metadata: Readonly<Record<string, string>>,
  ): Promise<"taken" | "exists"> {
    const publicKey = base64url.encode(identity.publicKey);
    const timestamp = isoNow(this.#ports.clock);
    const body: RegisterRequest = {
      public_key: publicKey,
      proof: base64url.encode(sign(identity, utf8.encode(publicKey + timestamp))),
      proof_timestamp: timestamp,
      capabilities: [...capabilities],
      metadata: { ...metadata },
    };
    const answer = await this.#ask("/v1/agents", { method: "POST", body });
    if (answer.status === 409) return "exists";
    if (answer.status !== 201 && answer.status !== 200) throw refusal(answer, "cluster_refused");
    return "taken";
  }

  /** Publishes prekeys, which replace the ones published before. @throws MeshError `registry_forgot` */
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
    const answer = await this.#askSigned(identity, "/prekeys", { method: "PUT", body });
    if (answer.status < 200 || answer.status >= 300) throw refusal(answer, "cluster_refused");
  }

  /**
   * How many of our one-time prekeys the registry has left; null if it does not have this extension.
   * @throws MeshError `registry_forgot`, `clock_off`
   */
  async preKeysLeft(identity: Identity): Promise<number | null> {
    const answer = await this.#askSigned(identity, "/prekeys/count", { mayBeMissing: true });
    if (answer.status === 401) throw refusal(answer, "cluster_refused");
    const { data } = safeParse(PreKeysCount, answer.json);
    return answer.status === 200 && data ? data.one_time_count : null;
  }

  /**
   * Tells the registry that this agent is online. The answer that the heartbeat came too soon counts as success.
   * @throws MeshError `registry_forgot`, `clock_off`
   */
  async beat(identity: Identity): Promise<void> {
    const may = { mayBeThrottled: true, mayBeMissing: true };
    const answer = await this.#askSigned(identity, "/heartbeat", { method: "POST", body: {}, ...may });
    if (answer.status === 404) return this.#mustKnow(identity);
    if (answer.status !== 429 && (answer.status < 200 || answer.status >= 300))
      throw refusal(answer, "cluster_refused");
  }

  /** Checks that the registry has a record of this identity, for a registry that takes no heartbeats. @throws MeshError `registry_forgot` */
  async #mustKnow({ did }: Identity): Promise<void> {
    try {
      await this.agent(did);
    } catch (error) {
      throw error instanceof MeshError && error.code === "peer_unknown" ? new MeshError("registry_forgot") : error;
    }
  }

  /** Deletes this identity's record and prekeys, if the registry has them. */
  async remove(identity: Identity): Promise<void> {
    try {
      const answer = await this.#askSigned(identity, "", { method: "DELETE" });
      if (answer.status !== 204) throw refusal(answer, "cluster_refused");
    } catch (error) {
      if (!(error instanceof MeshError && error.code === "registry_forgot")) throw error;
    }
  }

  /**
   * A peer's prekey bundle, unchecked: X3DH checks it against the DID. Consumes one one-time prekey.
   * @throws MeshError `peer_without_prekeys` when there is none
   */
  async bundle(did: string): Promise<PreKeyBundle> {
    const answer = await this.#ask(`/v1/agents/${encodeURIComponent(did)}/prekeys`);
    if (answer.status === 404) throw new MeshError("peer_without_prekeys");
    if (answer.status !== 200) throw refusal(answer, "cluster_refused");
    const bundle = parsed(PreKeysResponse, answer.json, "The registry");
    const oneTime = bundle.one_time_pre_key;
    if (!bundle.identity_key_ed)
      throw new MeshError(
        "peer_without_prekeys",
        "The peer's prekeys do not name its Ed25519 key, so nobody can check that they are the peer's own. The peer has to update its client.",
      );
    return {
      did,
      identityKey: base64url.decode(bundle.identity_key),
      identityKeyEd: base64url.decode(bundle.identity_key_ed),
      signedPreKey: {
        keyId: bundle.signed_pre_key.key_id,
        publicKey: base64url.decode(bundle.signed_pre_key.public_key),
        signature: base64url.decode(bundle.signed_pre_key.signature),
      },
      ...(oneTime ? { oneTimePreKey: { keyId: oneTime.key_id, publicKey: base64url.decode(oneTime.public_key) } } : {}),
    };
  }

  /** An agent's record. @throws MeshError `peer_unknown` */
  async agent(did: string): Promise<AgentRecord> {
    const answer = await this.#ask(`/v1/agents/${encodeURIComponent(did)}`);
    if (answer.status === 404) throw new MeshError("peer_unknown");
    if (answer.status !== 200) throw refusal(answer, "cluster_refused");
    return parsed(AgentRecord, answer.json, "The registry");
  }

  /** Agents with a capability; a display name is one more capability. */
  async discover(capability: string, limit: number): Promise<Agent[]> {
    const agents = await this.#discover({ capability, limit: String(limit) });
    if (agents === "capability missing") throw new MeshError("cluster_refused", "The registry does not list agents.");
    return agents;
  }

  /** All agents; undefined when this registry lists agents by capability only, as the reference registry does. */
  async discoverAll(limit: number): Promise<Agent[] | undefined> {
    const agents = await this.#discover({ limit: String(limit) });
    return agents === "capability missing" ? undefined : agents;
  }

  async #discover(query: Readonly<Record<string, string>>): Promise<Agent[] | "capability missing"> {
    const answer = await this.#ask(`/v1/discover?${new URLSearchParams(query)}`);
    if (answer.status === 422 && query.capability === undefined) return "capability missing";
    if (answer.status !== 200) throw refusal(answer, "cluster_refused");
    return parsed(DiscoverResponse, answer.json, "The registry").results.map((result) => ({
      did: result.did,
      name: nameOf(result),
      capabilities: result.capabilities.filter((entry) => entry !== nameOf(result)),
      online: result.online ?? null,
      last_seen: result.last_seen ?? null,
    }));
  }

  /** Whether an agent is online, and when it was seen last. @throws MeshError `peer_unknown` */
  async presence(did: string): Promise<Pick<Agent, "online" | "last_seen">> {
    const answer = await this.#ask(`/v1/agents/${encodeURIComponent(did)}/presence`);
    if (answer.status === 404) throw new MeshError("peer_unknown");
    if (answer.status !== 200) throw refusal(answer, "cluster_refused");
    const { online, last_seen = null } = parsed(PresenceResponse, answer.json, "The registry");
    return { online, last_seen };
  }
}

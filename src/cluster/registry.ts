import { z } from "zod";
import { base64url, CryptoError, type PreKeyBundle, verifyBundle } from "../crypto/index.ts";
import {
  DiscoverQuery,
  type Membership,
  PreKeysUpload,
  RegisterRequest,
  ReputationRequest,
  UnprovenRegisterRequest,
} from "../wire/registry.ts";
import { type Agent, bundleOf } from "./agent.ts";
import { claimRefusal, readAuthorization, registrationProof } from "./proof.ts";
import { type Limit, type Meter, openMeter } from "./rates.ts";
import { type Answer, type Call, HttpError, parsed, type Route, tooMany } from "./routes.ts";
import type { Agents, Presence } from "./state.ts";

// The registry: who is there, what they can do, and the keys to open a session with them. It is trusted with nothing:
// whoever asks checks the keys against the DID.

/** Extension: a query without a capability lists everyone, within the same limit. */
const AnyQuery = DiscoverQuery.partial({ capability: true });

/** The controller's word for an agent; it may have to be asked for. */
export type Vouch = (did: string) => Membership | undefined | Promise<Membership | undefined>;

export interface RegistryOptions {
  readonly agents: Agents;
  readonly presence: Presence;
  readonly now: () => number;
  /** Takes agents that prove nothing, as old clients do not; otherwise they are refused. */
  readonly allowUnproven?: boolean | undefined;
  /** The controller's word for an agent that the cluster let in; undefined for any other. */
  readonly vouch?: Vouch | undefined;
  readonly meter?: Meter | undefined;
}

/** Any registration: what else is in it decides how it is read. */
const AnyRegistration = z.looseObject({ proof: z.unknown().optional() });

const iso = (time: number) => new Date(time).toISOString();
const alreadyRegistered = () => new HttpError(409, "already_registered", "The agent is already registered.");
const unknownAgent = () => new HttpError(404, "peer_unknown", "No agent of that DID is registered.");

export function registryRoutes(options: RegistryOptions): readonly Route[] {
  const { agents, presence, now, allowUnproven = false, vouch, meter = openMeter({ now }) } = options;

  /** The milliseconds that the caller's address has to wait; none where there is no address to count by. */
  const waitOf = (limit: Limit, { caller }: Call) => (caller ? meter.take(limit, caller.address, caller) : 0);

  async function known({ params }: Call): Promise<{ did: string; agent: Agent }> {
    const did = params.did ?? "";
    const agent = await agents.get(did);
    if (!agent) throw unknownAgent();
    return { did, agent };
  }

  /** The registered agent that signed the request. @throws HttpError 401 */
  async function signer({ authorization }: Call): Promise<string> {
    const claim = readAuthorization(authorization);
    if (!claim)
      throw new HttpError(
        401,
        "unauthorized",
        "The Authorization header is not Ed25519-Timestamp <did> <time> <signature>.",
      );
    const agent = await agents.get(claim.did);
    const key = agent && signingKeyOf(agent);
    const refusal = key === undefined ? "its DID is not registered" : claimRefusal(claim, key, now());
    if (refusal !== undefined)
      throw new HttpError(401, "unauthorized", `The Authorization header does not count: ${refusal}.`);
    return claim.did;
  }

  /** The agent of the path, when it signed the request itself. @throws HttpError 404, 401, 403 */
  async function own(call: Call): Promise<{ did: string; agent: Agent }> {
    const found = await known(call);
    if ((await signer(call)) !== found.did)
      throw new HttpError(403, "forbidden", "The request is signed by another agent.");
    return found;
  }

  async function register(call: Call): Promise<Answer> {
    const waitMs = waitOf("registrations_per_address", call);
    if (waitMs > 0) throw tooMany("registrations_per_address", waitMs);
    const body = await call.body(AnyRegistration);
    if (allowUnproven && body.proof === undefined) return claim(parsed(UnprovenRegisterRequest, body));
    const request = parsed(RegisterRequest, body);
    const proof = registrationProof(request, now());
    if (proof === "malformed")
      throw new HttpError(400, "input_invalid", "public_key, proof or proof_timestamp: not in canonical form");
    if (proof === "stale")
      throw new HttpError(401, "unauthorized", "proof_timestamp: too far from the registry's clock");
    if (proof === "unproved") throw new HttpError(401, "unauthorized", "proof: does not verify");
    const { capabilities, metadata, public_key: publicKey } = request;
    const outcome = await agents.register({ ...proof, publicKey, capabilities, metadata });
    // Nobody without a proof speaks for it any more.
    presence.proved(proof.did);
    // The reference answers 409 whatever a known agent says. Ours takes news from it, with a proof of now.
    if (outcome === "exists") throw alreadyRegistered();
    return { status: outcome === "registered" ? 201 : 200, body: { did: proof.did, status: outcome } };
  }

  /** Registers the old way. The key that is named settles nothing: the prekeys will show whose the DID is. */
  async function claim(request: z.infer<typeof UnprovenRegisterRequest>): Promise<Answer> {
    const { did, public_key: publicKey, capabilities, metadata } = request;
    const outcome = await agents.claim({ did, publicKey, capabilities, metadata });
    if (outcome === "exists") throw alreadyRegistered();
    return { status: 201, body: { did, status: outcome } };
  }

  async function publish(call: Call): Promise<Answer> {
    // Of an agent that proved nothing the upload speaks for itself: its signed prekey is signed by the key behind the DID.
    const isSigned = (await known(call)).agent.provedAt !== null;
    const { did } = await (isSigned ? own(call) : known(call));
    const upload = await call.body(PreKeysUpload);
    verifyUpload(did, upload);
    const agent = await agents.publish(did, upload, isSigned);
    if (!agent) throw unknownAgent();
    return { status: 200, body: { did, otk_count: agent.held.size, ...countOf(agent) } };
  }

  async function bundle(call: Call): Promise<Answer> {
    const { did, agent } = await known(call);
    // Whoever drains one-time prekeys gets bundles without one after a while, and so does everyone else from that agent: that
    // costs a session some forward secrecy of its first message, and nobody a session. Both buckets pay only for keys.
    const mayTake =
      agent.held.size > 0 &&
      waitOf("bundles_per_address", call) === 0 &&
      meter.take("bundles_per_agent", did, call.caller) === 0;
    const body = mayTake ? await agents.takeBundle(did) : bundleOf({ ...agent, held: new Map() })?.bundle;
    if (!body) throw new HttpError(404, "peer_without_prekeys", "The agent has published no prekeys.");
    return { status: 200, body };
  }

  async function heartbeat(call: Call): Promise<Answer> {
    const { did } = await own(call);
    if (!(await presence.beat(did)))
      throw new HttpError(429, "limit_reached", "One heartbeat in ten seconds is enough.", { "retry-after": "10" });
    agents.seen(did);
    return { status: 200, body: { did, last_seen: iso(now()) } };
  }

  async function rate(call: Call): Promise<Answer> {
    const by = await signer(call);
    const { did } = await known(call);
    if (by === did) throw new HttpError(403, "forbidden", "An agent does not rate itself.");
    const { score, reason } = await call.body(ReputationRequest);
    const reputation = await agents.rate(did, by, score, reason);
    if (reputation === undefined) throw unknownAgent();
    return { status: 200, body: { did, reputation_score: rounded(reputation) } };
  }

  async function remove(call: Call): Promise<Answer> {
    const { did } = await own(call);
    if (!(await agents.remove(did))) throw unknownAgent();
    return { status: 204 };
  }

  async function discover(call: Call): Promise<Answer> {
    const { capability, limit } = parsed(AnyQuery, Object.fromEntries(call.query));
    const { found: all, total } = await agents.find(capability);
    const online = await presence.online(all.map(([did]) => did));
    const found = all.map(([did, agent]) => ({ did, agent, online: online.has(did) }));
    found.sort(
      (a, b) => Number(b.online) - Number(a.online) || b.agent.lastSeen - a.agent.lastSeen || (a.did < b.did ? -1 : 1),
    );
    const results = found
      .slice(0, limit)
      .map(({ did, agent: { capabilities, metadata, reputation, lastSeen }, online }) => ({
        did,
        capabilities,
        metadata,
        reputation_score: rounded(reputation),
        last_seen: iso(lastSeen),
        online,
      }));
    return { status: 200, body: { results, total } };
  }

  async function record(call: Call): Promise<Answer> {
    const { did, agent } = await known(call);
    const membership = await vouch?.(did);
    const body = {
      did,
      public_key: agent.publicKey,
      capabilities: agent.capabilities,
      metadata: agent.metadata,
      status: "registered",
      registered_at: iso(agent.registeredAt),
      last_seen: iso(agent.lastSeen),
      reputation_score: rounded(agent.reputation),
      ...(membership && { membership }),
    };
    return { status: 200, body };
  }

  async function sight(call: Call): Promise<Answer> {
    const { did, agent } = await known(call);
    const online = await presence.online([did]);
    return { status: 200, body: { did, last_seen: iso(agent.lastSeen), online: online.has(did) } };
  }

  return [
    { method: "POST", path: "/v1/agents", handle: register },
    { method: "GET", path: "/v1/agents/:did", handle: record },
    { method: "DELETE", path: "/v1/agents/:did", handle: remove },
    { method: "PUT", path: "/v1/agents/:did/prekeys", handle: publish },
    { method: "GET", path: "/v1/agents/:did/prekeys", handle: bundle },
    {
      method: "GET",
      path: "/v1/agents/:did/prekeys/count",
      handle: async (call) => ({ status: 200, body: countOf((await own(call)).agent) }),
    },
    { method: "GET", path: "/v1/agents/:did/presence", handle: sight },
    { method: "POST", path: "/v1/agents/:did/heartbeat", handle: heartbeat },
    { method: "POST", path: "/v1/agents/:did/reputation", handle: rate },
    { method: "GET", path: "/v1/discover", handle: discover },
  ];
}

/** The Ed25519 key that belongs to the agent's DID; unknown of one that proved nothing and published nothing. */
const signingKeyOf = ({ provedAt, publicKey, published }: Agent) =>
  provedAt === null ? published?.identity_key_ed : publicKey;

const rounded = (score: number) => Math.round(score * 10_000) / 10_000;

/** Extension: what an agent needs to know to replenish its one-time prekeys. */
const countOf = (agent: Agent) => ({
  signed_pre_key_id: agent.published?.signed_pre_key.key_id ?? null,
  one_time_count: agent.held.size,
});

const fields: Partial<Record<CryptoError["code"], string>> = {
  did_mismatch: "identity_key_ed",
  key_invalid: "identity_key_ed",
  identity_mismatch: "identity_key",
  signature_invalid: "signed_pre_key.signature",
};

/** Makes every check that a session's opener would make. @throws HttpError 400 naming the offending field */
function verifyUpload(did: string, upload: PreKeysUpload): void {
  const bytes = (field: string, text: string) => {
    try {
      return base64url.decode(text);
    } catch {
      // The alphabet and the length were checked: what is left are stray bits in the last character.
      throw new HttpError(400, "input_invalid", `${field}: not base64url in its canonical form`);
    }
  };
  const { identity_key, identity_key_ed, signed_pre_key, one_time_pre_keys } = upload;
  for (const [index, { public_key }] of one_time_pre_keys.entries())
    bytes(`one_time_pre_keys.${index}.public_key`, public_key);
  const bundle: PreKeyBundle = {
    did,
    identityKey: bytes("identity_key", identity_key),
    identityKeyEd: bytes("identity_key_ed", identity_key_ed),
    signedPreKey: {
      keyId: signed_pre_key.key_id,
      publicKey: bytes("signed_pre_key.public_key", signed_pre_key.public_key),
      signature: bytes("signed_pre_key.signature", signed_pre_key.signature),
    },
  };
  try {
    verifyBundle(did, bundle);
  } catch (error) {
    if (!(error instanceof CryptoError)) throw error;
    throw new HttpError(400, "input_invalid", `${fields[error.code] ?? "signed_pre_key"}: ${error.message}`);
  }
}

import { createHash, hash, timingSafeEqual } from "node:crypto";
import type { Core } from "../actors/core.ts";
import { base64url, didOf, sign, utf8, verify } from "../crypto/index.ts";
import { type ErrorCode, MeshError } from "../errors.ts";
import { AUTH_SKEW_MAX_MS, MEMBERSHIP_MS } from "../limits.ts";
import type { GrantContext } from "../machines/grant/events.ts";
import { encodeToken, type PairRequest, type PairResponse, pairedProofText, pairProofText } from "../wire/pair.ts";
import { type Membership, memberText, runMarkText, runText } from "../wire/registry.ts";

// Pairing records: what the operator allows, and the one laptop that consumed its token.

export const grantOf = (name: string): string => `grant/${name}`;
/** The one stream of all that was refused. */
export const REFUSALS = "refusal/requests";
export const runOf = (request: string): string => `run/${request}`;

/** The phase as the operator knows it. */
export type GrantPhase = "PendingPairing" | "Active" | "Expired" | "Revoked";

export interface GrantView {
  readonly name: string;
  readonly phase: GrantPhase;
  readonly slots: number;
  readonly slots_used: number;
  readonly capabilities: readonly string[];
  readonly expires_at: string;
  readonly did: string | null;
  readonly paired_at: string | null;
  readonly completed: number;
  readonly failed: number;
  readonly token_budget: number | null;
  readonly tokens_used: number;
}

/** Where the cluster is reached. */
export interface ClusterUrls {
  readonly relay_url: string;
  readonly registry_url: string;
  readonly pair_url: string;
}

const hashOf = (secret: string) => createHash("sha256").update(secret).digest("hex");
const isHash = (a: string, b: string) => a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));

export class Grants {
  readonly #core: Core;
  readonly #cluster: string;
  readonly #urls: () => ClusterUrls;

  constructor(core: Core, cluster: string, urls: () => ClusterUrls) {
    this.#core = core;
    this.#cluster = cluster;
    this.#urls = urls;
  }

  /** Makes a token. It is shown once; the cluster keeps its hash. @throws MeshError `grant_exists` */
  async issue(options: {
    readonly name: string;
    readonly slots: number;
    readonly capabilities: readonly string[];
    readonly expiresMs: number;
    readonly tokenBudget: number | null;
  }): Promise<{ readonly name: string; readonly token: string; readonly expires_at: string }> {
    const { ports, system, keyring } = this.#core;
    const secret = base64url.encode(ports.random(32));
    const token = encodeToken({ pairUrl: this.#urls().pair_url, controllerDid: keyring.identity.did, secret });
    const expiresAt = ports.clock.now() + options.expiresMs;
    const { accepted, durable } = system.commit([
      {
        stream: grantOf(options.name),
        event: {
          type: "ISSUED",
          token_hash: hashOf(secret),
          slots: options.slots,
          capabilities: [...options.capabilities],
          expires_at: expiresAt,
          token_budget: options.tokenBudget,
        },
      },
    ]);
    if (!accepted[0]) throw new MeshError("grant_exists", `"${options.name}".`);
    await durable;
    return { name: options.name, token, expires_at: new Date(expiresAt).toISOString() };
  }

  /** Ends a grant, and what runs by it. @throws MeshError `grant_unknown` */
  async revoke(name: string): Promise<GrantView> {
    this.view(name);
    const { system } = this.#core;
    const context: GrantContext | undefined = system.decided(grantOf(name))?.snapshot.context;
    await system.commit([
      { stream: grantOf(name), event: { type: "REVOKED" } },
      ...(context?.running ?? []).map((run) => ({ stream: runOf(run), event: { type: "STOP", reason: "revoked" } })),
    ]).durable;
    return this.view(name);
  }

  /** @throws MeshError `grant_unknown` */
  view(name: string): GrantView {
    const state = this.#core.system.state(grantOf(name));
    if (!state) throw new MeshError("grant_unknown", `"${name}".`);
    const context: GrantContext = state.snapshot.context;
    return {
      name: context.name,
      phase: this.#phase(name),
      slots: context.slots,
      slots_used: context.running.length,
      capabilities: context.capabilities,
      expires_at: new Date(context.expiresAt).toISOString(),
      did: context.did,
      paired_at: context.pairedAt === null ? null : new Date(context.pairedAt).toISOString(),
      completed: context.completed,
      failed: context.failed,
      token_budget: context.tokenBudget,
      tokens_used: context.tokensUsed + this.#underWay(context.running),
    };
  }

  /** Whether a run has a slot of a grant. */
  holds(name: string, run: string): boolean {
    const snapshot = this.#core.system.decided(grantOf(name))?.snapshot;
    return snapshot?.context.running.includes(run) ?? false;
  }

  /** Tokens that runs have used which still run: they count at once. */
  #underWay(runs: readonly string[]): number {
    return runs.reduce((sum, run) => sum + (this.#core.system.decided(runOf(run))?.snapshot.context.tokens ?? 0), 0);
  }

  #phase(name: string): GrantPhase {
    const snapshot = this.#core.system.decided(grantOf(name))?.snapshot;
    if (snapshot?.matches("revoked")) return "Revoked";
    const context: GrantContext | undefined = snapshot?.context;
    if (!context || snapshot?.matches("expired") || context.expiresAt <= this.#core.ports.clock.now()) return "Expired";
    return snapshot?.matches({ valid: "active" }) ? "Active" : "PendingPairing";
  }

  list(): GrantView[] {
    return [...this.#core.system.streams("grant")].map(([, state]) => this.view(state.snapshot.context.name));
  }

  /** The grant that a laptop holds, whatever its phase; an active one before others. */
  of(laptop: string): GrantView | undefined {
    const held = this.list().filter(({ did }) => did === laptop);
    return held.find(({ phase }) => phase === "Active") ?? held[0];
  }

  /**
   * The controller's word that an agent is of this cluster, signed for a while.
   * @param run the request that the agent works on, if it is the sandbox of a run
   */
  vouch(did: string, run?: string): Membership {
    const { ports, keyring } = this.#core;
    const expiresAt = new Date(ports.clock.now() + MEMBERSHIP_MS).toISOString();
    const signed = (text: string) => base64url.encode(sign(keyring.identity, utf8.encode(text)));
    const mark = run === undefined ? undefined : hash("sha256", runMarkText(run), "hex");
    return {
      controller_key: base64url.encode(keyring.identity.publicKey),
      expires_at: expiresAt,
      signature: signed(memberText(did, expiresAt)),
      ...(mark !== undefined && { run: { mark, signature: signed(runText(did, mark, expiresAt)) } }),
    };
  }

  /**
   * `POST /v1/pair`. The same laptop may ask again with the same token: its first answer may have been lost.
   * @throws MeshError `token_invalid`, `token_used`, `token_expired`, `token_revoked`, `input_invalid`
   */
  async pair(request: PairRequest): Promise<PairResponse> {
    const { ports, system, keyring, lanes } = this.#core;
    const key = base64url.decode(request.public_key);
    const age = Math.abs(ports.clock.now() - Date.parse(request.proof_timestamp));
    const proof = utf8.encode(pairProofText(request.token, request.did, request.proof_timestamp));
    if (
      didOf(key) !== request.did ||
      !(age <= AUTH_SKEW_MAX_MS) ||
      !verify(key, proof, base64url.decode(request.proof))
    ) {
      throw new MeshError(
        "input_invalid",
        "proof: does not show possession of the key, or the clock differs by more than five minutes.",
      );
    }
    const hash = hashOf(request.token);
    const found = [...system.streams("grant")].find(([, state]) => isHash(state.snapshot.context.tokenHash, hash));
    if (!found) throw new MeshError("token_invalid");
    const { name } = found[1].snapshot.context;
    const phase = this.#phase(name);
    const refuse = async (code: ErrorCode): Promise<never> => {
      const event = { type: "REFUSED", what: "pairing", code, grant: name, laptop: request.did, request: null };
      await system.commit([{ stream: REFUSALS, event }]).durable;
      throw new MeshError(code);
    };
    if (phase === "Revoked") await refuse("token_revoked");
    if (phase === "Expired") await refuse("token_expired");
    // One after the other: who asks again is told what is on disk by then.
    await lanes.run(grantOf(name), async () => {
      const { accepted, durable } = system.commit([
        { stream: grantOf(name), event: { type: "BOUND", did: request.did, name: request.display_name ?? name } },
      ]);
      await durable;
      if (!accepted[0] && system.state(grantOf(name))?.snapshot.context.did !== request.did) await refuse("token_used");
    });
    const { relay_url, registry_url } = this.#urls();
    const grant = this.view(name);
    const signed = utf8.encode(pairedProofText(request.did, relay_url, registry_url, request.proof_timestamp));
    return {
      cluster: this.#cluster,
      relay_url,
      registry_url,
      controller_did: keyring.identity.did,
      controller_key: base64url.encode(keyring.identity.publicKey),
      signature: base64url.encode(sign(keyring.identity, signed)),
      grant: {
        name: grant.name,
        slots: grant.slots,
        capabilities: [...grant.capabilities],
        token_budget: grant.token_budget,
        expires_at: grant.expires_at,
      },
      vouches: true,
    };
  }
}

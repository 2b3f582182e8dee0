/**
 * The controller of a deployed kars cluster. It is a Rust program of a cluster and could not be run here: this stand-in was read
 * from its source (August 2026) and not recorded. It connects to the relay by its DID, writes frames without a version, and speaks
 * and understands plaintext alone. Where the source does not say what happens (the life of a pod), a test does.
 */
import { hash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { WebSocket } from "ws";
import { z } from "zod";
import type { Clock } from "../../src/actors/ports.ts";
import { realClock } from "../../src/actors/ports.ts";
import { amidOf, base64, base64url, type Identity, identityFromSeed, sign, utf8 } from "../../src/crypto/index.ts";
import { atTheEnd } from "../ending.ts";
import { Happenings } from "./happenings.ts";
import type { Places } from "./servers.ts";

export type Words = Readonly<{ [field: string]: unknown; type: string }>;

/** A KarsPairing: what an operator made, and who was bound to it. */
export interface Pairing {
  phase: "PendingPairing" | "Active" | "Expired" | "Revoked";
  readonly capabilities: readonly string[];
  readonly slotsMax: number;
  readonly expiresAt: string;
  /** Counted up with each sandbox, and down when that is deleted. */
  slotsUsed: number;
  /** The `from` of the frame that bound it, whatever the field's name says: a DID. */
  boundAmid: string | null;
  boundPubkeyEd25519: string | null;
}

export interface Build {
  /** `payload` alone, as in the source that this follows, or with `ciphertext` and `plaintext` beside it. Both read `payload`. */
  readonly writes?: "payload" | "payload and ciphertext";
  /** What its tokens name it by. */
  readonly tokens?: "did" | "amid";
}

const HEARTBEAT_MS = 30_000;

// What its parser takes: these fields, of these types; anything else may be there. A frame that it cannot parse is ignored and
// not acked, and words that it cannot parse are ignored and acked.
const Message = z.looseObject({
  type: z.literal("message"),
  to: z.string(),
  from: z.string(),
  id: z.string(),
  payload: z.string(),
});
const Federation = z.discriminatedUnion("type", [
  z.looseObject({
    type: z.literal("pair_request"),
    secret: z.string(),
    pubkey_ed25519: z.string(),
    display_name: z.string().nullish(),
    capabilities_requested: z.array(z.string()).nullish(),
  }),
  z.looseObject({
    type: z.literal("offload_request"),
    request_id: z.string(),
    timestamp: z.string(),
    task: z.string().optional(),
    files: z.array(z.string()).optional(),
    file_count: z.int().min(0).optional(),
    total_bytes: z.int().min(0).optional(),
    preferences: z
      .looseObject({
        model: z.string().nullish(),
        max_tokens: z.int().nullish(),
        timeout_minutes: z.int().min(0).nullish(),
      })
      .nullish(),
  }),
  z.looseObject({
    type: z.literal("offload_cleanup"),
    request_id: z.string(),
    reason: z.string().nullish(),
    timestamp: z.string().nullish(),
  }),
]);

const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    // Nothing that its parser takes.
    return undefined;
  }
};

export class Controller {
  readonly identity: Identity;
  readonly servers: Places;
  /** By the SHA-256 of their tokens' secrets. */
  readonly pairings = new Map<string, Pairing>();
  /** What laptops said to it that it understood, in order. */
  readonly heard = new Happenings<Words & { readonly from: string; readonly frame: string }>();
  /** What becomes of a sandbox that was created. */
  spawns: (request: Words, laptop: string) => void = () => undefined;
  /** Whether the cluster's API answers it. */
  breaks = false;
  /** Whether it answers at all; one that does not has not handled the frame, and does not ack it. */
  answers: (words: Words) => boolean = () => true;
  readonly #build: Required<Build>;
  readonly #clock: Clock;
  #socket: WebSocket | undefined;
  /** The sandboxes that stand, by the ids of their requests, with the laptop that each belongs to. */
  readonly #sandboxes = new Map<string, string>();

  constructor(servers: Places, build: Build = {}, seed: Uint8Array = randomBytes(32), clock: Clock = realClock) {
    this.identity = identityFromSeed(new Uint8Array(seed));
    this.servers = servers;
    this.#clock = clock;
    this.#build = { writes: "payload", tokens: "amid", ...build };
  }

  get amid(): string {
    return amidOf(this.identity.publicKey);
  }

  /** Registers and connects; what waited at the relay comes then. Resolves when the relay has read the connect. */
  async open(): Promise<this> {
    await this.#register();
    const socket = new WebSocket(`${this.servers.relayUrl}/ws`);
    this.#socket = socket;
    atTheEnd(() => socket.terminate());
    socket.on("message", (data) => this.#received(jsonOf(String(data))));
    await once(socket, "open");
    const timestamp = this.#iso();
    socket.send(
      JSON.stringify({
        type: "connect",
        from: this.identity.did,
        public_key: base64.encode(this.identity.publicKey),
        timestamp,
        signature: base64.encode(sign(this.identity, utf8.encode(timestamp))),
      }),
    );
    const beat = (): (() => void) =>
      this.#clock.at(this.#clock.now() + HEARTBEAT_MS, () => {
        if (socket.readyState !== socket.OPEN) return;
        socket.send(JSON.stringify({ type: "heartbeat" }));
        disarm = beat();
      });
    let disarm = beat();
    socket.on("close", () => disarm());
    // A relay says nothing to a good connect. It answers a ping behind it.
    const read = once(socket, "pong");
    socket.ping();
    await read;
    return this;
  }

  async close(): Promise<void> {
    const ended = this.#socket && once(this.#socket, "close");
    this.#socket?.close();
    await ended;
  }

  #iso(): string {
    return new Date(this.#clock.now()).toISOString();
  }

  async #register(): Promise<void> {
    const public_key = base64url.encode(this.identity.publicKey);
    const proof_timestamp = this.#iso();
    const body = {
      public_key,
      proof: base64url.encode(sign(this.identity, utf8.encode(public_key + proof_timestamp))),
      proof_timestamp,
      capabilities: ["offload", "pairing"],
      metadata: { display_name: "kars-controller", amid: this.amid },
    };
    const { status } = await fetch(`${this.servers.registryUrl}/v1/agents`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    if (status >= 300 && status !== 409) throw new Error(`the registry refuses the controller: ${status}`);
  }

  /** `pair generate`: a token. */
  issue(pairing: Partial<Pairing> = {}, body: object = {}): string {
    const secret = randomBytes(24).toString("base64url");
    this.pairings.set(hash("sha256", secret, "hex"), {
      phase: "PendingPairing",
      capabilities: ["offload"],
      slotsMax: 2,
      expiresAt: new Date(this.#clock.now() + 30 * 86_400_000).toISOString(),
      slotsUsed: 0,
      boundAmid: null,
      boundPubkeyEd25519: null,
      ...pairing,
    });
    const token = {
      controller_amid: this.#build.tokens === "did" ? this.identity.did : this.amid,
      relay_url: this.servers.relayUrl,
      registry_url: this.servers.registryUrl,
      secret,
      ...body,
    };
    return `azcp_1_${Buffer.from(JSON.stringify(token)).toString("base64url")}`;
  }

  /** Says something to a laptop, as this build writes it; gives the id of the frame. */
  say(to: string, words: object): string {
    const payload = Buffer.from(JSON.stringify(words)).toString("base64");
    const id = `ctrl-${randomBytes(16).toString("hex")}`;
    const more = this.#build.writes === "payload" ? {} : { ciphertext: payload, plaintext: true };
    this.#socket?.send(JSON.stringify({ type: "message", to, from: this.identity.did, id, payload, ...more }));
    return id;
  }

  #received(json: unknown): void {
    const frame = Message.safeParse(json).data;
    if (!frame) return;
    const { data: words } = Federation.safeParse(jsonOf(Buffer.from(frame.payload, "base64").toString("utf8")));
    if (words) {
      this.heard.add({ ...words, from: frame.from, frame: frame.id });
      if (!this.answers(words)) return;
      if (words.type === "pair_request") this.#pair(frame.from, words);
      if (words.type === "offload_request") this.#offload(frame.from, words);
      if (words.type === "offload_cleanup") this.#cleanUp(frame.from, words.request_id);
    }
    this.#socket?.send(JSON.stringify({ type: "ack", id: frame.id }));
  }

  /** A clean-up is not answered; only the laptop that asked for a sandbox can end it. */
  #cleanUp(from: string, request: string): void {
    if (this.#sandboxes.get(request) !== from) return;
    this.#sandboxes.delete(request);
    const pairing = this.#pairingOf(from);
    if (pairing) pairing.slotsUsed = Math.max(0, pairing.slotsUsed - 1);
  }

  #pairingOf(laptop: string): Pairing | undefined {
    return [...this.pairings.values()].find(({ boundAmid }) => boundAmid === laptop);
  }

  #isExpired({ expiresAt }: Pairing): boolean {
    return this.#clock.now() >= Date.parse(expiresAt);
  }

  #pairRefusal(pairing: Pairing | undefined): string | undefined {
    if (this.breaks) return "Internal error — could not verify token";
    if (!pairing) return "Invalid pairing token";
    if (pairing.phase !== "PendingPairing") return `Pairing is ${pairing.phase} — token already consumed or expired`;
    return this.#isExpired(pairing) ? "Pairing token has expired" : undefined;
  }

  #pair(from: string, { secret, pubkey_ed25519 }: { readonly secret: string; readonly pubkey_ed25519: string }): void {
    const pairing = this.pairings.get(hash("sha256", secret, "hex"));
    const error = this.#pairRefusal(pairing);
    if (!pairing || error !== undefined) {
      this.say(from, { type: "pair_response", success: false, error });
      return;
    }
    pairing.phase = "Active";
    pairing.boundAmid = from;
    pairing.boundPubkeyEd25519 = pubkey_ed25519;
    this.say(from, {
      type: "pair_response",
      success: true,
      cluster_name: "prod/kars 1",
      controller_amid: this.amid,
      capabilities_granted: pairing.capabilities,
      slots: pairing.slotsMax,
      token_budget: 100_000,
      expires_at: pairing.expiresAt,
    });
  }

  #offloadRefusal(from: string, pairing: Pairing | undefined): string | undefined {
    if (this.breaks) return "Internal error — could not list pairings: the API does not answer";
    if (!pairing) return `No pairing found for AMID ${from}. Pair first with mesh_pair.`;
    const { phase, slotsUsed, slotsMax, capabilities } = pairing;
    if (phase !== "Active") return `Pairing is '${phase}' — must be Active`;
    if (this.#isExpired(pairing)) return "Pairing has expired";
    if (slotsUsed >= slotsMax) return `No available slots (${slotsUsed}/${slotsMax} used)`;
    return capabilities.includes("offload") ? undefined : "Pairing does not include 'offload' capability";
  }

  #offload(from: string, request: Words & { readonly request_id: string }): void {
    const { request_id } = request;
    const status = (phase: string, message: string) =>
      this.say(from, { type: "offload_status", request_id, phase, message });
    status("validating", "Validating pairing and budget");
    const pairing = this.#pairingOf(from);
    const error = this.#offloadRefusal(from, pairing);
    if (!pairing || error !== undefined) {
      this.say(from, { type: "offload_error", request_id, error, phase: "validating" });
      return;
    }
    status("spawning", "Creating offload sandbox");
    if (this.#sandboxes.has(request_id)) {
      // The same request once more: the name of its sandbox is taken.
      const error = `Failed to create sandbox: "${nameOfSandbox(request_id)}" already exists: AlreadyExists`;
      this.say(from, { type: "offload_error", request_id, error, phase: "spawning" });
      return;
    }
    pairing.slotsUsed++;
    this.#sandboxes.set(request_id, from);
    status("scheduled", `Sandbox '${nameOfSandbox(request_id)}' created, waiting for it to start...`);
    this.spawns(request, from);
  }

  /** The pod of a sandbox runs: its name is all that is said of it. */
  ready(laptop: string, request_id: unknown, sandbox_name = nameOfSandbox(String(request_id))): void {
    const message = `Sandbox '${sandbox_name}' is running — send files and task directly via mesh`;
    this.say(laptop, { type: "offload_status", request_id, phase: "ready", message, sandbox_name });
  }

  /** The pod of a sandbox failed, or was not there after five minutes. */
  fails(laptop: string, request_id: unknown, error: string): void {
    this.say(laptop, { type: "offload_error", request_id, error, phase: "spawning" });
  }
}

const nameOfSandbox = (request: string): string => `offload-${request.slice(0, 8)}`;

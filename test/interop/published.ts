/** The published client, `@microsoft/agent-governance-sdk`, as a peer. Installed beside the project by `run.mjs`; nothing of ours is in it. */
import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { onTestFinished } from "vitest";
import { z } from "zod";
import { base64, base64url, type Identity, identityFromSeed, sign, utf8 } from "../../src/crypto/index.ts";
import type { Places as Servers } from "../reference/servers.ts";
import { type PeerKind, type PlainPeer, Received } from "../scenarios/peers.ts";

/** What of the client is used here, as its type definitions have it. */
interface PublishedClient {
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  establishSessionWithPeer(did: string): Promise<unknown>;
  getSession(did: string): unknown;
  send(did: string, payload: unknown): Promise<void>;
  closeSession(did: string): boolean;
  addPlaintextPeer(did: string): void;
  removePlaintextPeer(did: string): void;
  onMessage(handler: (from: string, payload: unknown) => void): void;
  onError(handler: (kind: string, from: string, detail: string) => void): void;
  onDisconnect(handler: (reason: string, code?: number) => void): void;
}
interface Published {
  readonly X3DHKeyManager: new (secret: Uint8Array, key: Uint8Array) => object;
  readonly MeshClient: new (options: object) => PublishedClient;
}
const cache = new URL("../../.cache/interop/", import.meta.url);
const sdk: Published = createRequire(cache)("@microsoft/agent-governance-sdk");

const Said = z.object({ content: z.string() });

export interface PeerOptions extends Servers {
  readonly oneTimePrekeys?: number;
  /** Whether it registers and connects with a proof, by the hooks that the client offers. It does not by itself. */
  readonly proves?: boolean;
}

/** The hooks of the client by which it proves that it holds its key. */
function proof(identity: Identity) {
  return {
    wsFactory: (url: string) => {
      const socket = new WebSocket(url);
      const send = socket.send.bind(socket);
      socket.send = (text) => {
        const frame = JSON.parse(String(text));
        if (frame.type !== "connect") return send(text);
        const timestamp = new Date().toISOString();
        const signature = base64.encode(sign(identity, utf8.encode(timestamp)));
        return send(JSON.stringify({ ...frame, public_key: base64.encode(identity.publicKey), timestamp, signature }));
      };
      return socket;
    },
    registryClientOptions: {
      authSigner: { did: identity.did, sign: (text: Uint8Array) => sign(identity, text) },
      fetchImpl: (url: string, request: RequestInit) => {
        if (request.method !== "POST" || !url.endsWith("/v1/agents")) return fetch(url, request);
        const { capabilities, metadata } = JSON.parse(String(request.body));
        const public_key = base64url.encode(identity.publicKey);
        const proof_timestamp = new Date().toISOString();
        const body = { public_key, proof_timestamp, capabilities, metadata };
        const signature = base64url.encode(sign(identity, utf8.encode(public_key + proof_timestamp)));
        return fetch(url, { ...request, body: JSON.stringify({ ...body, proof: signature }) });
      },
    },
  };
}

/** A client on the mesh, what it received and what went wrong. */
export class Peer {
  readonly #options: PeerOptions;
  readonly #identity = identityFromSeed(randomBytes(32));
  client: PublishedClient;
  readonly received = new Received();
  readonly errors = new Received();

  constructor(options: PeerOptions) {
    this.#options = options;
    this.client = this.#begin();
  }

  get did(): string {
    return this.#identity.did;
  }

  #begin(): PublishedClient {
    const { relayUrl, registryUrl, oneTimePrekeys = 5, proves } = this.#options;
    const identity = this.#identity;
    const client = new sdk.MeshClient({
      relayUrl,
      registryUrl,
      keyManager: new sdk.X3DHKeyManager(identity.seed, identity.publicKey),
      agentDid: identity.did,
      displayName: `published-${identity.did.slice(-8)}`,
      oneTimePrekeyCount: oneTimePrekeys,
      autoReconnect: false,
      ...(proves && proof(identity)),
    });
    client.onMessage((_, payload) => this.received.add(Said.parse(payload).content));
    client.onError((kind, _, detail) => this.errors.add(`${kind}: ${detail}`));
    return client;
  }

  /** Another process of the same identity: sessions and keys of the one before are gone. */
  async restart(): Promise<void> {
    await this.client.disconnect();
    this.client = this.#begin();
    await this.client.connect();
  }

  async say(to: string, ...contents: readonly string[]): Promise<void> {
    await this.client.establishSessionWithPeer(to);
    for (const content of contents) await this.client.send(to, { type: "message", content });
  }
}

/** A client that is connected, registered and has published its prekeys. */
export async function openPeer(options: PeerOptions): Promise<Peer> {
  const peer = new Peer(options);
  onTestFinished(() => peer.client.disconnect());
  await peer.client.connect();
  return peer;
}

/**
 * The published client as a peer of the scenarios.
 * @param proves whether it registers and connects with a proof. Then it looks like a client of today, and its first message shows that
 * it speaks an older tongue
 */
export const publishedKind = (proves: boolean): PeerKind => ({
  name: "the published client",
  readsOurOpening: !proves,
  letsGo: true,
  async open({ relayUrl, registryUrl }): Promise<PlainPeer> {
    const peer = await openPeer({ relayUrl, registryUrl, proves });
    return {
      did: peer.did,
      received: peer.received.all,
      until: (isSo) => peer.received.until(isSo),
      say: (to, ...texts) => peer.say(to, ...texts),
      restart: () => peer.restart(),
      away: { leave: () => peer.client.disconnect(), comeBack: () => peer.client.connect() },
    };
  },
});

/** Whether these servers take the client as it is, or want proofs. */
export async function wantsProof({ registryUrl }: Servers): Promise<boolean> {
  const { did, dhPublic } = identityFromSeed(randomBytes(32));
  const response = await fetch(`${registryUrl}/v1/agents`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ did, public_key: base64url.encode(dhPublic), capabilities: [], metadata: {} }),
  });
  await response.arrayBuffer();
  return !response.ok;
}

import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { WebSocket } from "ws";
import { type Identity, identityFromSeed } from "../src/crypto/index.ts";
import { call, openLaptop, type Servers } from "./laptop.ts";

// Two clients of one mesh, ours and the peers': what a row of the delivery is measured on.

/** One that speaks and one that hears. */
export interface Pair {
  say(content: string): Promise<unknown>;
  /** From now on this is told what the receiving application gets, in the order in which it gets it. */
  hears(listener: (content: string) => void): void;
  close(): Promise<void>;
}

/**
 * Two laptops of ours. `say` ends when the message is durable at the sender; the receiver's application asks by the operation
 * `await`, as a tool does, which gives whole messages once they are durable and marks them as read.
 */
export async function oursPair(servers: Servers, directory: string): Promise<Pair> {
  const alice = await openLaptop(servers, join(directory, "alice"), "alice");
  const bob = await openLaptop(servers, join(directory, "bob"), "bob");
  const [from, to] = [alice.core.keyring.identity.did, bob.core.keyring.identity.did];
  let isOpen = true;
  let listener: (content: string) => void = () => undefined;
  const listening = (async () => {
    while (isOpen) {
      const { messages } = await call(bob, "await", { from: [from], timeout_ms: 1_000 });
      for (const { body } of messages) listener(body);
    }
  })();
  return {
    say: (message) => call(alice, "send", { to, message }),
    hears(told) {
      listener = told;
    },
    async close() {
      isOpen = false;
      await listening;
      await alice.close();
      await bob.close();
    },
  };
}

// @microsoft/agent-governance-sdk 4.0.0, as far as it is used here.
interface SdkClient {
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  establishSessionWithPeer(did: string): Promise<unknown>;
  send(did: string, payload: unknown): Promise<void>;
  onMessage(handler: (from: string, payload: { readonly content: string }) => void): void;
  onError(handler: (kind: string, peer: string, detail: string) => void): void;
}
export interface Sdk {
  readonly X3DHKeyManager: new (secret: Uint8Array, publicKey: Uint8Array) => object;
  readonly MeshClient: new (options: object) => SdkClient;
}

/** Two clients of the SDK, as they are when nothing is set. `failed` is told what they say of errors. */
export async function sdkPair(
  sdk: Sdk,
  { relayUrl, registryUrl }: Servers,
  failed: (kind: string, detail: string) => void = () => undefined,
): Promise<Pair> {
  const client = ({ seed, publicKey, did }: Identity) =>
    new sdk.MeshClient({
      relayUrl,
      registryUrl,
      keyManager: new sdk.X3DHKeyManager(seed, publicKey),
      agentDid: did,
      displayName: did.slice(-8),
    });
  const [mine, theirs] = [identityFromSeed(randomBytes(32)), identityFromSeed(randomBytes(32))];
  const [alice, bob] = [client(mine), client(theirs)];
  for (const each of [alice, bob]) each.onError((kind, _, detail) => failed(kind, detail));
  await alice.connect();
  await bob.connect();
  await alice.establishSessionWithPeer(theirs.did);
  let listener: (content: string) => void = () => undefined;
  bob.onMessage((_, { content }) => listener(content));
  return {
    say: (content) => alice.send(theirs.did, { type: "message", content }),
    hears(told) {
      listener = told;
    },
    async close() {
      await alice.disconnect();
      await bob.disconnect();
    },
  };
}

/** A client of the relay that proves nothing, and sends frames as they are. */
export async function bareClient({ relayUrl }: Servers) {
  const socket = new WebSocket(`${relayUrl}/ws`, { perMessageDeflate: false });
  await once(socket, "open");
  const { did } = identityFromSeed(randomBytes(32));
  const send = (frame: object) => socket.send(JSON.stringify({ v: 1, from: did, ...frame }));
  send({ type: "connect" });
  return {
    did,
    socket,
    send,
    async close() {
      socket.close();
      await once(socket, "close");
    },
  };
}

/** What remains when nothing is encrypted and nothing is kept: frames as the SDK's, which carry the message as it is. */
export async function framesPair(servers: Servers): Promise<Pair> {
  const [alice, bob] = [await bareClient(servers), await bareClient(servers)];
  const dh = randomBytes(32).toString("base64");
  let n = 0;
  let listener: (content: string) => void = () => undefined;
  bob.socket.on("message", (data) => {
    const { id, ciphertext } = JSON.parse(data.toString());
    bob.send({ type: "ack", id });
    listener(JSON.parse(Buffer.from(ciphertext, "base64").toString()).content);
  });
  return {
    async say(content) {
      const header = { dh, pn: 0, n: n++ };
      const ciphertext = Buffer.from(JSON.stringify({ type: "message", content })).toString("base64");
      const ts = new Date().toISOString();
      alice.send({ type: "message", to: bob.did, id: randomUUID(), ts, header, ciphertext });
    },
    hears(told) {
      listener = told;
    },
    async close() {
      await alice.close();
      await bob.close();
    },
  };
}

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { WebSocket } from "ws";
import { z } from "zod";
import { base64, base64url, type Identity, identityFromSeed, sign, utf8 } from "../../src/crypto/index.ts";
import { HEARTBEAT_MS, HTTP_TIMEOUT_MS, LINK_BACKOFF_MIN_MS, LINK_OPEN_TIMEOUT_MS } from "../../src/limits.ts";
import { AUTH_SCHEME } from "../../src/wire/registry.ts";

// A client that does what the protocol asks of one and nothing more: raw sockets, proofs, frames as they are. What a load is made of.

/** A certificate authority to trust besides the system's, as PEM. */
export interface Trust {
  readonly ca?: string | undefined;
}

/** What is looked at of a relay's frame. */
const Heard = z.looseObject({
  type: z.string(),
  id: z.string().optional(),
  from: z.string().optional(),
  code: z.string().optional(),
  pending: z.number().optional(),
});
export type Heard = z.infer<typeof Heard>;

export const freshIdentity = (): Identity => identityFromSeed(randomBytes(32));

export interface Client {
  readonly did: string;
  /** How many frames waited when it was let in. */
  readonly pending: number;
  send(text: string): void;
  /** From now on this is told of every frame; those before were for nobody. */
  hears(listener: (frame: Heard) => void): void;
  /** Resolves with the close code when the socket has ended. */
  readonly ended: Promise<number>;
  close(): Promise<void>;
  /** Ends without a word. */
  cut(): Promise<void>;
}

/**
 * Connects to a relay with a proof; resolves when it was let in.
 * @param relayUrl `ws://…` or `wss://…`, without `/ws`
 * @param listener told of every frame from the first on
 */
export async function connect(
  relayUrl: string,
  identity: Identity,
  options: Trust & { readonly listener?: (frame: Heard) => void } = {},
): Promise<Client> {
  const { did } = identity;
  const socket = new WebSocket(`${relayUrl}/ws`, {
    perMessageDeflate: false,
    handshakeTimeout: LINK_OPEN_TIMEOUT_MS,
    ...(options.ca !== undefined && { ca: options.ca }),
  });
  const ended = new Promise<number>((resolve) => socket.once("close", resolve));
  // Every error is followed by the close.
  socket.on("error", () => undefined);
  let listener = options.listener ?? (() => undefined);
  const admitted = new Promise<number>((resolve, reject) => {
    socket.on("message", (data) => {
      const frame = Heard.parse(JSON.parse(data.toString()));
      if (frame.type === "connected") resolve(frame.pending ?? 0);
      else listener(frame);
    });
    void ended.then((code) => reject(new Error(`${relayUrl} let nobody in: closed with ${code}.`)));
  });
  socket.once("open", () => {
    const timestamp = new Date().toISOString();
    const signature = base64.encode(sign(identity, utf8.encode(timestamp)));
    const proof = { public_key: base64.encode(identity.publicKey), timestamp, signature };
    socket.send(JSON.stringify({ v: 1, type: "connect", from: did, ...proof, extensions: ["accepted"] }));
  });
  const pending = await admitted;
  const beat = setInterval(() => socket.send(JSON.stringify({ v: 1, type: "heartbeat", from: did })), HEARTBEAT_MS);
  void ended.then(() => clearInterval(beat));
  return {
    did,
    pending,
    send: (text) => socket.send(text),
    hears(told) {
      listener = told;
    },
    ended,
    async close() {
      socket.close();
      await ended;
    },
    async cut() {
      socket.terminate();
      await ended;
    },
  };
}

/** Connects to the first of some relays that lets it in, trying them in turn until the deadline, in epoch milliseconds. */
export async function comeBack(relayUrls: readonly string[], identity: Identity, deadline: number): Promise<Client> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await connect(relayUrls[attempt % relayUrls.length] ?? "", identity);
    } catch (error) {
      if (Date.now() > deadline) throw error;
      const wait = LINK_BACKOFF_MIN_MS * (1 + Math.random());
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}

/** Does something for all, so many at once, and gives what came of each. */
export async function inParallel<T, R>(
  all: readonly T[],
  atOnce: number,
  work: (each: T, index: number) => Promise<R>,
) {
  const results: R[] = [];
  let next = 0;
  const worker = async () => {
    for (let index = next++; index < all.length; index = next++) {
      const each = all[index];
      if (each !== undefined) results[index] = await work(each, index);
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, all.length) }, worker));
  return results;
}

// The registry

async function ask(
  method: string,
  url: string,
  { ca }: Trust,
  headers: Record<string, string>,
  body = "",
): Promise<number> {
  const request = (url.startsWith("https:") ? httpsRequest : httpRequest)(url, {
    method,
    headers: { "content-length": Buffer.byteLength(body), ...headers },
    timeout: HTTP_TIMEOUT_MS,
    ...(ca !== undefined && { ca }),
  });
  request.on("timeout", () => request.destroy(new Error(`${url} did not answer.`)));
  request.end(body);
  const [response] = await once(request, "response");
  response.resume();
  await once(response, "end");
  return Number(response.statusCode);
}

/** Registers an agent with a proof. @throws Error when the registry does not take it */
export async function register(registryUrl: string, identity: Identity, trust: Trust = {}): Promise<void> {
  const public_key = base64url.encode(identity.publicKey);
  const proof_timestamp = new Date().toISOString();
  const proof = base64url.encode(sign(identity, utf8.encode(public_key + proof_timestamp)));
  const body = JSON.stringify({ public_key, proof, proof_timestamp, capabilities: [], metadata: {} });
  const status = await ask("POST", `${registryUrl}/v1/agents`, trust, { "content-type": "application/json" }, body);
  if (status >= 300) throw new Error(`The registry answered a registration with ${status}.`);
}

/** Takes an agent out of the registry again. @throws Error when the registry does not do it */
export async function unregister(registryUrl: string, identity: Identity, trust: Trust = {}): Promise<void> {
  const time = new Date().toISOString();
  const signature = base64url.encode(sign(identity, utf8.encode(time)));
  const authorization = `${AUTH_SCHEME} ${identity.did} ${time} ${signature}`;
  const url = `${registryUrl}/v1/agents/${encodeURIComponent(identity.did)}`;
  const status = await ask("DELETE", url, trust, { authorization });
  if (status >= 300) throw new Error(`The registry answered a removal with ${status}.`);
}

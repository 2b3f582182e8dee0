/** A ratchet state as JSON, for the store to seal: byte strings as base64url, numbers as they are. Secret throughout. */
import { base64url } from "../bytes.ts";
import { CryptoError } from "../errors.ts";
import { KEY_BYTES } from "../suite.ts";
import type { Chain } from "./chain-key.ts";
import type { RatchetState } from "./double-ratchet.ts";
import { COUNTER_MAX } from "./header.ts";

/** A chain as JSON. */
export interface ChainJson {
  readonly key: string;
  readonly n: number;
}

/** `RatchetState` as JSON. */
export interface RatchetJson {
  readonly rootKey: string;
  readonly self: { readonly secret: string; readonly public: string };
  readonly peer: string | null;
  readonly sending: ChainJson | null;
  readonly receiving: ChainJson | null;
  readonly previousCount: number;
}

/** The JSON of a state; `parseRatchet` gives the state again. */
export function serializeRatchet(state: RatchetState): RatchetJson {
  return {
    rootKey: base64url.encode(state.rootKey),
    self: { secret: base64url.encode(state.self.secret), public: base64url.encode(state.self.public) },
    peer: state.peer === null ? null : base64url.encode(state.peer),
    sending: serializeChain(state.sending),
    receiving: serializeChain(state.receiving),
    previousCount: state.previousCount,
  };
}

/**
 * The state of a JSON value. Members that it does not know are ignored.
 *
 * @throws CryptoError `encoding` unless every part has its shape, size and range. That `self.public` belongs to
 *   `self.secret` is taken on trust: the store seals the whole
 */
export function parseRatchet(json: unknown): RatchetState {
  const state = members(json, "state");
  const self = members(state.self, "self");
  const peer = state.peer === null ? null : parseKey(state.peer, "peer");
  const sending = parseChain(state.sending, "sending");
  const receiving = parseChain(state.receiving, "receiving");
  // Nobody sends without a peer's key, or has one and cannot send, or has received without one.
  if ((peer === null) !== (sending === null)) throw damaged("sending");
  if (peer === null && receiving !== null) throw damaged("receiving");
  return {
    rootKey: parseKey(state.rootKey, "rootKey"),
    self: { secret: parseKey(self.secret, "self.secret"), public: parseKey(self.public, "self.public") },
    peer,
    sending,
    receiving,
    previousCount: parseCount(state.previousCount, "previousCount", COUNTER_MAX),
  };
}

function serializeChain(chain: Chain | null): ChainJson | null {
  return chain === null ? null : { key: base64url.encode(chain.key), n: chain.n };
}

function parseChain(value: unknown, name: string): Chain | null {
  if (value === null) return null;
  const chain = members(value, name);
  // One above the greatest message number: a chain that has received its very last message stands there.
  return { key: parseKey(chain.key, `${name}.key`), n: parseCount(chain.n, `${name}.n`, COUNTER_MAX + 1) };
}

function members(value: unknown, name: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null) throw damaged(name);
  return { ...value };
}

function parseKey(value: unknown, name: string): Uint8Array {
  if (typeof value !== "string") throw damaged(name);
  const key = base64url.decode(value);
  if (key.length !== KEY_BYTES) throw damaged(name);
  return key;
}

function parseCount(value: unknown, name: string, max: number): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > max) throw damaged(name);
  return value;
}

function damaged(name: string): CryptoError {
  return new CryptoError("encoding", `not a ratchet state: ${name}`);
}

import { randomBytes } from "node:crypto";
import { usePrimitives } from "../crypto/index.ts";
import { type Disk, realDisk } from "../store/disk.ts";
import type { Random } from "../store/seal.ts";
import type { FrameText } from "../wire/frame-text.ts";
import { realClock } from "./clock.ts";

// Everything impure that the actors use comes through here, so that a simulated world can stand in its place.

/** KARS_MESH_CRYPTO=noble does without the native primitives; this is the one place where it is read. */
if (process.env.KARS_MESH_CRYPTO === "noble") usePrimitives("noble");

export interface Clock {
  /** Epoch milliseconds. */
  now(): number;
  /**
   * Calls back at that time or later, never at once. A clock that is set back meanwhile may call back while `now` is before
   * that time. Returns what takes it back.
   */
  at(time: number, callback: () => void): () => void;
}

/** One WebSocket as the link needs it. */
export interface Socket {
  /** A long text is the socket's from here on. */
  send(text: FrameText): void;
  /** Asks the other side for a sign of life (RFC 6455 section 5.5.2): `answered`. */
  ping(): void;
  /** Bytes accepted by `send` that have not left yet. */
  readonly buffered: number;
  close(): void;
}
export interface SocketEvents {
  opened(): void;
  /** Some of what was `buffered` has left. */
  sent?(): void;
  /** A long text is there during the call only. */
  received(text: FrameText): void;
  answered(): void;
  closed(code: number, reason: string): void;
}

export interface Network {
  dial(url: string, events: SocketEvents): Socket;
  /** As the global fetch. */
  fetch(url: string, init?: RequestInit): Promise<Response>;
}

export interface Ports {
  readonly clock: Clock;
  readonly random: Random;
  readonly disk: Disk;
  readonly network: Network;
}

export { realClock };

/** Runs a task again and again until it is called off. */
export function repeat(clock: Clock, duration: number, task: () => void): () => void {
  const again = () => {
    disarm = clock.at(clock.now() + duration, again);
    task();
  };
  let disarm = clock.at(clock.now() + duration, again);
  return () => disarm();
}

export const realRandom: Random = (length) => new Uint8Array(randomBytes(length));

export const realPorts = (network: Network): Ports => ({
  clock: realClock,
  random: realRandom,
  disk: realDisk,
  network,
});

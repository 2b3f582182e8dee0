/**
 * The reference relay (Python, Agent Governance Toolkit) as it was recorded, and for what the recordings do not show as it was
 * watched running: it says what that relay says, byte for byte. `recordings.test.ts` holds it to the recordings. Nothing of ours
 * runs in it but the check of a signature.
 */
import { type WebSocket, WebSocketServer } from "ws";
import type { Clock } from "../../src/actors/ports.ts";
import { realClock } from "../../src/actors/ports.ts";
import { didOf, utf8, verify } from "../../src/crypto/index.ts";
import { Happenings } from "./happenings.ts";
import { pythonJson } from "./python-json.ts";

export interface Frame {
  readonly type: string;
  readonly id?: string;
  readonly from?: string;
  readonly to?: string;
  readonly [field: string]: unknown;
}

const FIRST_FRAME_MS = 10_000;
/** A connection that sends nothing for so long is closed. */
const IDLE_MS = 90_000;
/** A connection that sent no heartbeat for so long is given nothing more, whatever else it sends. */
const STALE_MS = 90_000;
const KEPT_MS = 72 * 3_600_000;
const SKEW_MS = 5 * 60_000;
const FRAME_SIZE_MAX = 16 * 1024 * 1024;

const ROUTED: ReadonlySet<unknown> = new Set(["message", "knock", "knock_accept", "knock_reject"]);

interface Connection {
  readonly did: string;
  readonly socket: WebSocket;
  beatAt: number;
}
interface Stored {
  readonly to: string;
  readonly frame: Frame;
  readonly at: number;
}

/** The type of a frame as Python writes it into a sentence. */
const named = (type: unknown): string => {
  if (typeof type === "string") return type;
  if (type === undefined || type === null) return "None";
  return typeof type === "boolean" ? (type ? "True" : "False") : pythonJson(type);
};

/** Base64 as Python reads it: what is not of the alphabet is passed over; undefined when the padding is wrong. */
function lenientBase64(value: string): Uint8Array | undefined {
  const digits = value.replaceAll(/[^A-Za-z0-9+/]/g, "");
  const padding = /=*$/.exec(value)?.[0].length ?? 0;
  if (digits.length % 4 === 1 || (digits.length + padding) % 4 !== 0) return undefined;
  return new Uint8Array(Buffer.from(digits, "base64"));
}

const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})?$/;

/** Why a connect does not prove that its sender holds the key of its DID; in the relay's order of checks. */
function proofRefusal({ from, public_key, timestamp, signature }: Frame, now: number): string | undefined {
  const given = [from, public_key, timestamp, signature];
  if (!given.every((field) => typeof field === "string"))
    return "connect frame missing did/public_key/timestamp/signature";
  const time = String(timestamp);
  const key = lenientBase64(String(public_key));
  if (!key) return "invalid public_key encoding";
  if (key.length !== 32) return "public_key must be 32 bytes";
  if (didOf(key) !== from) return "DID does not match public_key (sha256 mismatch)";
  const [isTime, , zone] = TIME.exec(time) ?? [];
  if (isTime === undefined || Number.isNaN(Date.parse(time))) return "invalid timestamp format";
  if (zone === undefined) return "timestamp must include timezone offset";
  if (Math.abs(now - Date.parse(time)) > SKEW_MS) return "timestamp outside replay window";
  const proof = lenientBase64(String(signature));
  if (proof?.length !== 64) return "signature verification failed";
  return verify(key, utf8.encode(time), proof) ? undefined : "invalid signature";
}

const ENDED = Symbol("the relay's code fails on this frame and ends the connection with 1000");

export interface RelayOptions {
  readonly clock?: Clock;
  /** When it is set, a connect that shows another token is closed with 4003. */
  readonly token?: string;
}

export class ReferenceRelay {
  readonly #clock: Clock;
  readonly #token: string | undefined;
  readonly #sockets: WebSocketServer;
  readonly #connections = new Map<string, Connection>();
  /** Mail by the ids of its frames: while one is here, another one of its id is dropped, whoever sent it. */
  #stored = new Map<string, Stored>();
  /** Frames that were routed or stored, as they left here. */
  readonly passed = new Happenings<Frame>();
  /** Ids of frames that were acked, with who did. */
  readonly acked = new Happenings<{ readonly by: string; readonly id: string }>();
  /** The DIDs that were let in, in order. */
  readonly connected = new Happenings<string>();
  /** The DIDs whose connections have ended, in order. */
  readonly left = new Happenings<string>();
  /** What is lost on its way to a live recipient. */
  loses: (frame: Frame) => boolean = () => false;

  /** @param sockets of the path /ws */
  private constructor(sockets: WebSocketServer, { clock = realClock, token }: RelayOptions) {
    this.#sockets = sockets;
    this.#clock = clock;
    this.#token = token;
    sockets.on("connection", (socket) => this.#accept(socket));
  }

  /** @param port of this machine; 0 picks a free one. @returns when it listens, with the port */
  static async listen(options: RelayOptions = {}, port = 0): Promise<{ relay: ReferenceRelay; port: number }> {
    const sockets = new WebSocketServer({ host: "127.0.0.1", port, path: "/ws", maxPayload: FRAME_SIZE_MAX });
    await new Promise<void>((resolve, reject) => sockets.once("listening", resolve).once("error", reject));
    const address = sockets.address();
    if (typeof address !== "object" || !address) throw new Error("the relay has no port");
    return { relay: new ReferenceRelay(sockets, options), port: address.port };
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets.clients) socket.terminate();
    await new Promise((resolve) => this.#sockets.close(resolve));
  }

  /** Its process ends and another one begins: every connection breaks, and all mail is gone. */
  restart(): void {
    this.#stored = new Map();
    this.#connections.clear();
    for (const socket of this.#sockets.clients) socket.terminate();
  }

  /** The connection of an agent breaks without a word. */
  cut(did: string): void {
    const connection = this.#connections.get(did);
    this.#connections.delete(did);
    connection?.socket.terminate();
  }

  isOnline(did: string): boolean {
    return this.#connections.has(did);
  }

  /** Ids of the mail that waits for an agent, in order. */
  waiting(did: string): string[] {
    return [...this.#stored].filter(([, { to }]) => to === did).map(([id]) => id);
  }

  #accept(socket: WebSocket): void {
    let did: string | undefined;
    let disarm: () => void = () => undefined;
    const wait = (milliseconds: number, code: number) => {
      disarm();
      disarm = this.#clock.at(this.#clock.now() + milliseconds, () => this.#end(socket, code));
    };
    wait(FIRST_FRAME_MS, 1000);
    socket.on("error", () => undefined); // The close that follows is what counts.
    socket.on("close", () => {
      disarm();
      if (did === undefined) return;
      if (this.#connections.get(did)?.socket === socket) this.#connections.delete(did);
      this.left.add(did);
    });
    socket.on("message", (data, isBinary) => {
      if (socket.readyState !== socket.OPEN) return;
      const frame = isBinary ? ENDED : frameOf(String(data));
      if (frame === ENDED) {
        this.#end(socket, 1000);
        return;
      }
      if (did === undefined) did = this.#connect(socket, frame);
      else if (this.#handle(did, socket, frame) === ENDED) this.#end(socket, 1000);
      if (did !== undefined) wait(IDLE_MS, 4004);
    });
  }

  /** Closes a connection, which has no place any more from then on. */
  #end(socket: WebSocket, code: number, reason = ""): void {
    for (const [did, connection] of this.#connections) if (connection.socket === socket) this.#connections.delete(did);
    socket.close(code, reason);
  }

  /** A connection's first frame. @returns the DID that is let in */
  #connect(socket: WebSocket, frame: Frame): string | undefined {
    const refuse = (code: number, detail: string) => {
      socket.send(pythonJson({ type: "error", detail }));
      this.#end(socket, code);
      return undefined;
    };
    if (frame.type !== "connect") return refuse(4001, "First frame must be 'connect'");
    if (!frame.from) return refuse(4002, "Missing 'from' field");
    const refusal = proofRefusal(frame, this.#clock.now());
    if (refusal !== undefined) return refuse(4005, `DID proof failed: ${refusal}`);
    if (this.#token !== undefined && frame.token !== this.#token) return refuse(4003, "Authentication failed");
    const did = frame.from;
    const existing = this.#connections.get(did);
    if (existing) this.#end(existing.socket, 4006, "session_replaced");
    this.#connections.set(did, { did, socket, beatAt: this.#clock.now() });
    this.connected.add(did);
    const oldest = this.#clock.now() - KEPT_MS;
    for (const { to, at, frame: stored } of this.#stored.values())
      if (to === did && at > oldest) socket.send(pythonJson(stored));
    return did;
  }

  #handle(did: string, socket: WebSocket, frame: Frame): typeof ENDED | undefined {
    const { type, id } = frame;
    if (ROUTED.has(type)) return this.#route(did, frame);
    if (type === "ack") {
      // The recipient alone can take its mail away.
      if (typeof id !== "string") return undefined;
      if (this.#stored.get(id)?.to === did) this.#stored.delete(id);
      this.acked.add({ by: did, id });
    } else if (type === "heartbeat") {
      const connection = this.#connections.get(did);
      if (connection) connection.beatAt = this.#clock.now();
    } else if (type === "disconnect") {
      const connection = this.#connections.get(did);
      if (connection) this.#end(connection.socket, 1000);
    } else socket.send(pythonJson({ type: "error", detail: `Unknown frame type: ${named(type)}` }));
    return undefined;
  }

  /** A frame in another's name, or one without `to` or `id`, is dropped without a word. */
  #route(did: string, frame: Frame): typeof ENDED | undefined {
    if ((frame.from ?? did) !== did) return undefined;
    const { to, id } = frame;
    if (!to || !id) return undefined;
    // Its tables can be asked for texts alone: for a connection, and, where there is none, for stored mail.
    if (typeof to === "object" || (typeof id === "object" && !this.#liveConnection(to))) return ENDED;
    // What had no sender has one at its end; where there was a null it is in its place.
    this.deliver({ ...frame, from: did });
    return undefined;
  }

  #liveConnection(did: string): Connection | undefined {
    const connection = this.#connections.get(did);
    if (!connection || this.#clock.now() - connection.beatAt > STALE_MS) return undefined;
    return connection.socket.readyState === connection.socket.OPEN ? connection : undefined;
  }

  /** Gives a frame to its recipient as if it had come from its sender: to a live connection, which stores nothing, or to its mail. */
  deliver(frame: Frame): void {
    this.passed.add(frame);
    const { to = "", id = "" } = frame;
    const connection = this.#liveConnection(to);
    if (connection) {
      if (!this.loses(frame)) connection.socket.send(pythonJson(frame));
      return;
    }
    if (!this.#stored.has(id)) this.#stored.set(id, { to, frame, at: this.#clock.now() });
  }
}

function frameOf(text: string): Frame | typeof ENDED {
  try {
    const json: unknown = JSON.parse(text);
    return typeof json === "object" && json !== null && !Array.isArray(json) ? (json as Frame) : ENDED;
  } catch {
    // Text that is no JSON ends the connection, too.
    return ENDED;
  }
}

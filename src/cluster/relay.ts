import { timingSafeEqual } from "node:crypto";
import { z } from "zod";
import { sha256, utf8 } from "../crypto/index.ts";
import { asMeshError } from "../errors.ts";
import { skim } from "../json.ts";
import { CONNECT_WAIT_MS, FRAME_SIZE_MAX, RELAY_CLOSE_WAIT_MS, RELAY_IDLE_MS } from "../limits.ts";
import { safeParse } from "../parse.ts";
import { Ack, CLOSE, Connect, Envelope, EXTENSIONS, UnprovenConnect } from "../wire/frame.ts";
import type { FrameText } from "../wire/frame-text.ts";
import { Connection, type RelaySocket } from "./connection.ts";
import { firstIssue } from "./issue.ts";
import { connectRefusal } from "./proof.ts";
import type { Mailboxes, Place, Presence } from "./state.ts";

// The relay: takes frames from agents that proved who they are, and gives them to the agents they are for. It knows a
// frame's envelope and is blind to the rest.
//
// Every routed frame goes to the recipient's mailbox first and to its socket from there, and leaves the mailbox when the
// recipient acks it. The reference relay stores only for those who are away, and loses what it sent to a recipient that
// dies before handling it.

/** Frames that only a relay sends, and those that only begin a connection: passed on, they would speak in the relay's name. */
const UNROUTED = new Set(["connect", "connected", "accepted", "error"]);

/** What every frame has, before its type says more. */
const Head = z.looseObject({ v: z.literal(1), type: z.string(), from: z.unknown().optional() });

export interface RelayOptions {
  readonly mailboxes: Mailboxes;
  readonly presence: Presence;
  readonly now: () => number;
  /** Calls back after a while, unless it is taken back before. */
  readonly after: (milliseconds: number, task: () => void) => () => void;
  /** When set, a connect without this token is closed with 4003. */
  readonly token?: string | undefined;
  /** Whether one who proves nothing may connect as this DID. Absent: nobody may, it is closed with 4005. */
  readonly admitsUnproven?: ((did: string) => Promise<boolean>) | undefined;
  /** Told when an agent connects, beats and leaves. */
  readonly onSign?: (did: string) => void;
  readonly log?: ((line: string) => void) | undefined;
}

/** What the relay is told of a socket that it took. */
export interface SocketEnd {
  /** A message; undefined for one that is not text. */
  received(text: FrameText | undefined): void;
  /** What went wrong; `closed` follows. */
  failed(reason: string): void;
  closed(): void;
}

export interface Relay {
  /** Takes a freshly opened socket of `/ws`, whose messages are bounded by FRAME_SIZE_MAX. */
  accept(socket: RelaySocket): SocketEnd;
  /** The DIDs that are connected. */
  connections(): string[];
  isConnected(did: string): boolean;
  /** Closes what is idle; to be called every few seconds. */
  sweep(): void;
  /** Closes every connection; resolves when all sockets have ended. */
  close(): Promise<void>;
}

/** What a frame says, but for the long strings in it. */
function readJson(text: FrameText): unknown {
  if (typeof text !== "string") return skim(text);
  try {
    return JSON.parse(text);
  } catch {
    // No JSON is like any other frame that cannot be read: undefined fails every schema.
    return undefined;
  }
}

/** Whom a connect lets in. */
interface Admission extends Pick<z.infer<typeof Connect>, "from" | "token" | "extensions"> {
  /** When the proof was signed; undefined of one who proves nothing. */
  readonly provenAt?: number;
}
interface Refusal {
  readonly code: number;
  readonly message: string;
}
const CONNECT_EXPECTED: Refusal = { code: CLOSE.connectExpected, message: "The first frame must be connect." };
const UNPROVEN: Refusal = { code: CLOSE.possessionUnproved, message: "The DID was registered with a proof." };
const REPLACED: Refusal = { code: CLOSE.replaced, message: "Another connection of this DID took over." };
const TOKEN_REFUSED: Refusal = { code: CLOSE.tokenRefused, message: "The token is not valid." };
/** Sent before the one that stands, by a process that is gone or by who recorded it. */
const OUTDATED: Refusal = { code: CLOSE.outdated, message: "A newer connection of this DID stands." };
const IDLE: Refusal = { code: CLOSE.idle, message: "No heartbeat for 90 s." };

const sameText = (a: string, b: string) => timingSafeEqual(sha256(utf8.encode(a)), sha256(utf8.encode(b)));

/** The frame with its sender written in; the rest keeps every byte that it had. */
function stamped(text: FrameText, from: string): FrameText {
  const stamp = `{"from":${JSON.stringify(from)},`;
  if (typeof text === "string") return text.replace("{", stamp);
  const begin = text.indexOf("{");
  return Buffer.concat([text.subarray(0, begin), Buffer.from(stamp), text.subarray(begin + 1)]);
}

export function createRelay(options: RelayOptions): Relay {
  const { mailboxes, presence, now, after, token, admitsUnproven, onSign, log } = options;
  const all = new Set<Connection>();
  const online = new Map<string, Connection>();
  let isClosing = false;

  /** Why a first frame is refused, with the close code, or whom it lets in. In the reference's order of checks. */
  function verified(frame: unknown): Admission | Refusal {
    const head = safeParse(Head, frame);
    if (!head.success || head.data.type !== "connect") return CONNECT_EXPECTED;
    const { from } = head.data;
    if (typeof from !== "string" || from === "")
      return { code: CLOSE.fromMissing, message: "The connect has no from." };
    let admission: Admission | undefined = admitsUnproven && safeParse(UnprovenConnect, frame).data;
    if (!admission) {
      const parsed = safeParse(Connect, frame);
      const refusal = parsed.success ? connectRefusal(parsed.data, now()) : firstIssue(parsed.error);
      if (!parsed.success || refusal !== undefined) {
        return { code: CLOSE.possessionUnproved, message: `Proof of possession failed: ${refusal}.` };
      }
      admission = { ...parsed.data, provenAt: Date.parse(parsed.data.timestamp) };
    }
    if (token !== undefined && !sameText(admission.token ?? "", token)) return TOKEN_REFUSED;
    return admission;
  }

  /** Takes the place of whoever is connected as the DID, wherever that is. */
  async function enter(connection: Connection, { from: did, provenAt }: Admission): Promise<Place | Refusal> {
    if (provenAt === undefined && !(await admitsUnproven?.(did))) return UNPROVEN;
    const place = await presence.enter(did, {
      provenAt,
      ended: (why) => {
        const { code, message } = why === "replaced" ? REPLACED : UNPROVEN;
        connection.close(code, message);
      },
    });
    if (place === "outdated") return OUTDATED;
    return place === "unproven" ? UNPROVEN : place;
  }

  function refuse(connection: Connection, { code, message }: Refusal): void {
    connection.refuse("connect_refused", message);
    connection.close(code, message);
  }

  /** Lets a connection in. Never rejects. */
  async function connect(connection: Connection, frame: unknown): Promise<void> {
    const admission = verified(frame);
    if ("code" in admission) {
      refuse(connection, admission);
      return;
    }
    const { from: did, extensions: announced = [], provenAt } = admission;
    connection.hold();
    try {
      const place = await enter(connection, admission);
      if ("code" in place) {
        refuse(connection, place);
        return;
      }
      void connection.ended.then(place.leave);
      const feed = await mailboxes.open(did, () => connection.peer?.delivery.pump());
      void connection.ended.then(feed.close);
      // It may have gone, or given way to another, meanwhile.
      if (!connection.isOpen) return;
      connection.aliveAt = now();
      const extensions = EXTENSIONS.filter((extension) => announced.includes(extension));
      const peer = connection.letIn({ did, provenAt, extensions, feed });
      online.set(did, connection);
      onSign?.(did);
      log?.(`relay: ${did} connected${provenAt === undefined ? " without a proof" : ""}`);
      if (extensions.length > 0) connection.reply({ type: "connected", extensions, pending: feed.pending });
      peer.delivery.pump();
      for (const early of connection.release()) receive(connection, early);
    } catch (error) {
      const { code, message } = asMeshError(error);
      log?.(`relay: ${did} could not be let in: ${message}`);
      connection.refuse(code, "The relay cannot take you in now. Try again later.");
      connection.close(CLOSE.tryLater, "Try again later.");
    }
  }

  /** A frame of a connection that was let in. What cannot be read, or names another sender, is dropped without a word. */
  function handle(connection: Connection, did: string, text: FrameText): void {
    const frame = readJson(text);
    const head = safeParse(Head, frame);
    if (!head.success || (head.data.from !== undefined && head.data.from !== did)) return;
    switch (head.data.type) {
      case "ack": {
        const ack = safeParse(Ack, frame);
        if (ack.success) connection.peer?.feed.ack(ack.data.id, ack.data.sender);
        return;
      }
      case "heartbeat":
        connection.aliveAt = now();
        onSign?.(did);
        return;
      case "disconnect":
        connection.close(1000, "Goodbye.");
        return;
      case "fetch_pending":
        // Mail is pushed at connect; the reference relay does not know this frame either.
        connection.refuse("frame_unknown", "Unknown frame type: fetch_pending");
        return;
      default:
        if (!UNROUTED.has(head.data.type)) {
          const envelope = safeParse(Envelope, frame);
          if (envelope.success) void route(connection, did, envelope.data, text);
        }
    }
  }

  /** Stores, then forwards and says so. Never rejects. */
  async function route(
    connection: Connection,
    did: string,
    { from, to, id }: Envelope,
    text: FrameText,
  ): Promise<void> {
    const frame = from === undefined ? stamped(text, did) : text;
    const size = Buffer.byteLength(frame);
    if (size > FRAME_SIZE_MAX) {
      // Stamping made it longer than what its recipient's socket takes: delivered, it would end every connection of his.
      connection.refuse("frame_too_large", "The frame is larger than 16 MiB.", id);
      return;
    }
    const offersAgain = connection.peer?.extensions.includes("accepted") === true;
    const turn = connection.refusals.turnOf(to, id, now());
    if (typeof turn === "object") {
      connection.refuse(turn.code, turn.message, id);
      return;
    }
    const refuseNow = (code: string, message: string) => {
      if (offersAgain) connection.refusals.refused(to, id, turn, { code, message }, now());
      connection.refuse(code, message, id);
    };
    const arrived = connection.underway(size);
    try {
      const outcome = await mailboxes.put(to, did, id, frame);
      if (outcome === "full") refuseNow("mailbox_full", "The mailbox is full. Try again later.");
      else if (offersAgain) connection.reply({ type: "accepted", id });
    } catch (error) {
      const { code, message } = asMeshError(error);
      log?.(`relay: a frame could not be stored: ${message}`);
      refuseNow(code, "The relay could not store the frame. Try again later.");
    } finally {
      arrived();
    }
  }

  function receive(connection: Connection, text: FrameText): void {
    // A closing socket still gives what it had read before.
    if (!connection.isOpen) return;
    if (connection.held(text)) return;
    if (connection.peer) handle(connection, connection.peer.did, text);
    else void connect(connection, readJson(text));
  }

  function forget(connection: Connection): void {
    all.delete(connection);
    connection.hasEnded();
    const did = connection.peer?.did;
    if (did === undefined || online.get(did) !== connection) return;
    online.delete(did);
    onSign?.(did);
    log?.(`relay: ${did} left`);
  }

  return {
    accept(socket) {
      const connection = new Connection(socket, now());
      if (isClosing) socket.terminate();
      else all.add(connection);
      return {
        received: (text = "") => receive(connection, text),
        failed: (reason) => log?.(`relay: ${connection.peer?.did ?? "a socket"}: ${reason}`),
        closed: () => forget(connection),
      };
    },
    connections: () => [...online.keys()].filter((did) => online.get(did)?.isOpen),
    isConnected: (did) => online.get(did)?.isOpen === true,
    sweep() {
      const time = now();
      for (const connection of all) {
        const silentMs = time - connection.aliveAt;
        const { code, message } = connection.peer ? IDLE : CONNECT_EXPECTED;
        if (silentMs > (connection.peer ? RELAY_IDLE_MS : CONNECT_WAIT_MS)) connection.close(code, message);
      }
    },
    async close() {
      isClosing = true;
      const ended = [...all].map((connection) => connection.ended);
      for (const connection of all) connection.close(1001, "The relay is shutting down.");
      const patient = after(RELAY_CLOSE_WAIT_MS, () => {
        for (const { socket } of all) socket.terminate();
      });
      await Promise.all(ended);
      patient();
    },
  };
}

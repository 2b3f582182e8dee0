import { asMeshError } from "../errors.ts";
import { CONNECT_WAIT_MS, FRAME_SIZE_MAX, RELAY_CLOSE_WAIT_MS, RELAY_IDLE_MS } from "../limits.ts";
import { safeParse } from "../parse.ts";
import { Ack, CLOSE, Envelope, EXTENSIONS } from "../wire/frame.ts";
import type { FrameText } from "../wire/frame-text.ts";
import type { Caller } from "./address.ts";
import { type Admission, admission, CONNECT_EXPECTED, DRAINING, Head, type Refusal } from "./admission.ts";
import type { Settlement } from "./confirmations.ts";
import { Connection, type RelaySocket, type SocketEnd } from "./connection.ts";
import { type Counts, openCounts } from "./counts.ts";
import { type EnteringOptions, entering } from "./entering.ts";
import { CUT, IDLE, NOT_NOW } from "./farewells.ts";
import { readConnect, readJson, stamped } from "./frame-json.ts";
import { handOver } from "./handover.ts";
import type { Log } from "./log.ts";
import { type Meter, openMeter, refusalText } from "./rates.ts";
import { openReplays } from "./replays.ts";
import type { Mail, Mailboxes } from "./state.ts";
import { Waiting } from "./waiting.ts";

// The relay: takes frames from agents that proved who they are, and gives them to the agents they are for. It knows a
// frame's envelope and is blind to the rest.
//
// Every routed frame goes to the recipient's mailbox first and to its socket from there, and leaves the mailbox when the
// recipient acks it; that of a plain client when it has arrived (confirmations.ts). The reference relay stores only for those
// who are away, and loses what it sent to a recipient that dies before handling it.

/** Frames that only a relay sends, and those that only begin a connection: passed on, they would speak in the relay's name. */
const UNROUTED = new Set(["connect", "connected", "accepted", "error"]);

export interface RelayOptions extends EnteringOptions {
  readonly mailboxes: Mailboxes;
  readonly now: () => number;
  /** Calls back after a while, unless it is taken back before. */
  readonly after: (milliseconds: number, task: () => void) => () => void;
  /** When set, a connect without this token is closed with 4003. */
  readonly token?: string | undefined;
  /** Told when an agent connects, beats and leaves. */
  readonly onSign?: (did: string) => void;
  /** Told when the store took a frame, or why it did not. */
  readonly onStored?: ((failure: string | undefined) => void) | undefined;
  readonly meter?: Meter | undefined;
  readonly counts?: Counts | undefined;
  readonly log?: Log | undefined;
}

export interface Relay {
  /** Takes a freshly opened socket of `/ws`, whose messages are bounded by FRAME_SIZE_MAX. */
  accept(socket: RelaySocket, caller?: Caller): SocketEnd;
  /** The DIDs that are connected. */
  connections(): string[];
  isConnected(did: string): boolean;
  /** Closes what is idle; to be called every few seconds. */
  sweep(): void;
  /** Lets nobody in any more, and hands every connection over to other relays, a few at a time; resolves when all have ended. */
  drain(): Promise<void>;
  /** Closes every connection with 1013: it cannot serve them now. */
  turnOut(): void;
  /** Closes every connection; resolves when all sockets have ended. */
  close(): Promise<void>;
}

export function createRelay(options: RelayOptions): Relay {
  const { mailboxes, presence, now, after, token, admitsUnproven, onSign, onStored, log } = options;
  const { meter = openMeter({ now }), counts = openCounts() } = options;
  const [framesIn, framesOut] = [counts.frames.row(["in"]), counts.frames.row(["out"])];
  const [bytesIn, bytesOut] = [counts.bytes.row(["in"]), counts.bytes.row(["out"])];
  const all = new Set<Connection>();
  const online = new Map<string, Connection>();
  const enter = entering({ presence, admitsUnproven, replays: openReplays(now) });
  let isClosing = false;
  let isDraining = false;

  function refuse(connection: Connection, { code, reason, message }: Refusal): void {
    counts.refusedConnects.add([reason]);
    connection.refuse("connect_refused", message);
    connection.close(code, message);
  }

  const waiting = new Waiting({ now, refuse });

  /** Whether an agent connects more often than it may; then it has been told so. */
  function isTooOften(connection: Connection, { from: did, provenAt }: Admission): boolean {
    const limit = "connects_per_agent";
    // In the name of one that proves nothing anyone connects: that must not count for its holder.
    const waitMs = meter.take(limit, provenAt === undefined ? `unproven ${did}` : did, connection.caller);
    if (waitMs === 0) return false;
    const text = refusalText(limit, waitMs);
    counts.refusedConnects.add([limit]);
    connection.refuse("limit_reached", text, { limit, retry_after_ms: waitMs });
    connection.close(CLOSE.tryLater, text);
    return true;
  }

  /** Lets a connection in. Never rejects. */
  async function connect(connection: Connection, frame: unknown): Promise<void> {
    const admitsSome = admitsUnproven !== undefined;
    const found = isDraining ? DRAINING : admission(frame, { now: now(), token, admitsUnproven: admitsSome });
    if ("code" in found) {
      refuse(connection, found);
      return;
    }
    if (isTooOften(connection, found)) return;
    const { from: did, extensions: announced = [], provenAt } = found;
    connection.hold();
    try {
      const place = await enter(connection, found);
      if ("code" in place) {
        refuse(connection, place);
        return;
      }
      void connection.ended.then(() => place.leave());
      const isPlain = announced.length === 0;
      const feed = await mailboxes.open(did, () => connection.peer?.delivery.pump(), { givesOnce: isPlain });
      void connection.ended.then(() => feed.close());
      // It may have gone, or given way to another, meanwhile.
      if (!connection.isOpen) return;
      const since = now();
      connection.aliveAt = since;
      const onHanded = ({ at, text }: Mail) => {
        framesOut();
        bytesOut(text.length);
        counts.mailSeconds.observe(Math.max(0, now() - at) / 1000, [at < since ? "kept" : "live"]);
      };
      const onSettled = (count: number, by: Settlement) => {
        counts.settled.add([by], count);
        if (by === "doubt") log?.("in_doubt", { did, count });
      };
      const extensions = EXTENSIONS.filter((extension) => announced.includes(extension));
      const onFailed = (error: unknown) => {
        const { code, message } = asMeshError(error);
        log?.("not_given", { did, code, detail: message });
        connection.close(NOT_NOW.code, NOT_NOW.message);
      };
      const peer = connection.letIn({ did, provenAt, extensions, isPlain, feed, onHanded, onSettled, onFailed });
      if (feed.doubted > 0) onSettled(feed.doubted, "doubt");
      online.set(did, connection);
      onSign?.(did);
      log?.("connected", { did, proven: provenAt !== undefined, address: connection.caller?.address });
      if (extensions.length > 0) connection.reply({ type: "connected", extensions, pending: feed.pending });
      peer.delivery.pump();
      for (const early of connection.release()) receive(connection, early);
    } catch (error) {
      const { code, message } = asMeshError(error);
      log?.("not_let_in", { did, code, detail: message });
      counts.refusedConnects.add([code]);
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
        const { feed, confirmations } = connection.peer ?? {};
        if (!ack.success) return;
        if (confirmations) confirmations.acked(ack.data.id, ack.data.sender);
        else feed?.ack(ack.data.id, ack.data.sender);
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
      connection.refuse("frame_too_large", "The frame is larger than 16 MiB.", { id });
      return;
    }
    const offersAgain = connection.peer?.extensions.includes("accepted") === true;
    const turn = connection.refusals.turnOf(to, id, now());
    if (typeof turn === "object") {
      counts.puts.add([turn.code]);
      connection.refuse(turn.code, turn.message, { id });
      return;
    }
    const refuseNow = (code: string, message: string) => {
      if (offersAgain) connection.refusals.refused(to, id, turn, { code, message }, now());
      connection.refuse(code, message, { id });
    };
    const arrived = connection.underway(size);
    const since = now();
    try {
      const outcome = await mailboxes.put(to, did, id, frame);
      counts.puts.add([outcome]);
      if (outcome === "stored") onStored?.(undefined);
      if (outcome === "full") refuseNow("mailbox_full", "The mailbox is full. Try again later.");
      else if (offersAgain) connection.reply({ type: "accepted", id });
    } catch (error) {
      const { code, message } = asMeshError(error);
      counts.puts.add([code]);
      onStored?.(code);
      log?.("not_stored", { did, code, detail: message });
      refuseNow(code, "The relay could not store the frame. Try again later.");
    } finally {
      counts.putSeconds.observe(Math.max(0, now() - since) / 1000);
      arrived();
    }
  }

  /** Counts what was read of a connection; one that sent more than it may is read on later. */
  function charge(connection: Connection, bytes: number): void {
    const { peer, caller } = connection;
    if (!peer) return;
    const waitMs = Math.max(
      meter.spend("frames_per_agent", peer.did, 1, caller),
      meter.spend("bytes_per_agent", peer.did, bytes, caller),
    );
    if (waitMs > 0) connection.rest(waitMs);
  }

  function receive(connection: Connection, text: FrameText): void {
    // A closing socket still gives what it had read before.
    waiting.left(connection);
    if (!connection.isTakenFrom) return;
    framesIn();
    bytesIn(text.length);
    charge(connection, text.length);
    connection.peer?.confirmations?.heard();
    if (connection.held(text)) return;
    if (connection.peer) handle(connection, connection.peer.did, text);
    else void connect(connection, readConnect(text));
  }

  function forget(connection: Connection, code: number): void {
    all.delete(connection);
    waiting.left(connection);
    connection.hasEnded(code);
    const did = connection.peer?.did;
    if (did === undefined || online.get(did) !== connection) return;
    online.delete(did);
    onSign?.(did);
    log?.("left", { did });
  }

  /** One that reads nothing is told so in vain, and then ended. */
  function cut(connection: Connection): void {
    log?.("reader_cut", { did: connection.peer?.did, count: connection.socket.bufferedAmount });
    connection.close(CUT.code, CUT.message, RELAY_CLOSE_WAIT_MS);
  }

  async function drain(): Promise<void> {
    isDraining = true;
    const begun = now();
    log?.("draining", { count: all.size });
    await handOver([...all], after);
    log?.("drained", { ms: now() - begun });
  }
  let drained: Promise<void> | undefined;

  counts.metrics.gauge({ name: "kars_connections", help: "Agents that are connected." }, () => online.size);
  counts.metrics.gauge({ name: "kars_sockets", help: "WebSockets that are open." }, () => all.size);

  return {
    accept(socket, caller) {
      const onEnding = (code: number) => counts.closes.add([String(code)]);
      const connection = new Connection({ socket, caller, now, after, onEnding });
      if (isClosing) socket.terminate();
      else all.add(connection);
      waiting.entered(connection);
      if (isDraining) refuse(connection, DRAINING);
      return {
        came: (bytes) => waiting.came(connection, bytes),
        received: (text = "") => receive(connection, text),
        pinged: (bytes) => charge(connection, bytes),
        ponged: (payload) => {
          if (!connection.peer?.confirmations?.ponged(payload)) charge(connection, payload.length);
        },
        failed: (detail) => log?.("socket_failed", { did: connection.peer?.did, detail }),
        closed: (code) => forget(connection, code),
      };
    },
    connections: () => [...online.keys()].filter((did) => online.get(did)?.isOpen),
    isConnected: (did) => online.get(did)?.isOpen === true,
    sweep() {
      const time = now();
      for (const connection of all) {
        if (connection.isOpen && connection.peer?.delivery.isStalled) cut(connection);
        const silentMs = time - connection.aliveAt;
        const { code, message } = connection.peer ? IDLE : CONNECT_EXPECTED;
        if (silentMs > (connection.peer ? RELAY_IDLE_MS : CONNECT_WAIT_MS)) connection.close(code, message);
      }
    },
    turnOut() {
      for (const connection of all) connection.close(NOT_NOW.code, NOT_NOW.message);
    },
    drain() {
      drained ??= drain();
      return drained;
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

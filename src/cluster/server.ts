import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import { FRAME_SIZE_MAX, SERVER_CLOSE_WAIT_MS } from "../limits.ts";
import { type Disk, realDisk } from "../store/disk.ts";
import { frameText } from "../wire/frame-text.ts";
import type { PairRequest, PairResponse } from "../wire/pair.ts";
import { requester } from "./address.ts";
import type { RelaySocket } from "./connection.ts";
import { countProcess } from "./counts.ts";
import { type Certificate, type Door, Occupancy, openDoor, TOO_MANY_OPEN, turnAway } from "./door.ts";
import { openEmbeddedState } from "./embedded/state.ts";
import { serve } from "./http.ts";
import { type Log, textLog } from "./log.ts";
import { isOfPage, OF_PAGE } from "./origin.ts";
import { type Rates, refusalText } from "./rates.ts";
import type { Vouch } from "./registry.ts";
import { openServices, type ServerRole } from "./services.ts";
import type { ClusterState } from "./state.ts";

// One port for all of a cluster that an agent talks to: relay, registry and pairing.

export interface ServerOptions {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  /** What it remembers, closed with it; unless given, it lies in a directory. */
  readonly state?: ClusterState;
  /** Mail lies in its folder `mail`, the registry's records in `registry`. */
  readonly directory: string;
  readonly disk?: Disk;
  readonly now?: () => number;
  /** Runs a task again and again until it is called off. */
  readonly every?: (milliseconds: number, task: () => void) => () => void;
  /** Both unless it says less. */
  readonly roles?: readonly ServerRole[] | undefined;
  /** Answers `POST /v1/pair`; a MeshError becomes the refusal. */
  readonly pair: (request: PairRequest) => Promise<PairResponse>;
  /** The controller's word for an agent that the cluster let in; undefined for any other. */
  readonly vouch?: Vouch | undefined;
  /** When set, the relay takes only connects that carry it. */
  readonly token?: string;
  /** Takes agents that do not prove that they hold their key, as `@microsoft/agent-governance-sdk` 4.0.0 does not. */
  readonly allowUnproven?: boolean | undefined;
  /** Told when an agent connects to the relay, beats and leaves. */
  readonly onSign?: ((did: string) => void) | undefined;
  /** In place of the rates of limits.ts, for everyone alike. */
  readonly rates?: Partial<Rates> | undefined;
  /** Sockets of one address at once. */
  readonly connectionsPerAddress?: number | undefined;
  /** How long one HTTP request, or a TLS handshake, may take to come. */
  readonly requestTimeoutMs?: number | undefined;
  /** Who asks is whom the last entry of X-Forwarded-For names: only behind a proxy that writes it. */
  readonly trustProxy?: boolean | undefined;
  /** Shows `/metrics` to everyone; otherwise only to this machine. */
  readonly metricsToAll?: boolean | undefined;
  /** Clients come by https and wss. */
  readonly tls?: Certificate | undefined;
  /** Lines for people; `onEvent` instead is told what they are made of. */
  readonly log?: (line: string) => void;
  readonly onEvent?: Log | undefined;
}

export interface ClusterServer {
  /** `http://host:port`, or `https://` */
  readonly url: string;
  /** `ws://host:port`, or `wss://`; clients append `/ws`. */
  readonly relayUrl: string;
  readonly port: number;
  /** The same without TLS, reached from this machine alone: a certificate need not name what lies here. */
  readonly inside: { readonly url: string; readonly relayUrl: string };
  readonly relay: {
    /** The DIDs that are connected. */
    connections(): string[];
    isConnected(did: string): boolean;
  };
  /** Takes an agent out of the registry that cannot do it any more. */
  forget(did: string): Promise<void>;
  /** Takes another certificate. @throws what OpenSSL says when it is none: then the one before stays */
  renew(certificate: Certificate): void;
  /**
   * Before `close`, so that nobody loses anything: takes nobody in any more and says so at `/ready`, then hands every connection
   * over to where its client finds the relay next. Resolves when all have ended.
   * @param before what is still to be done with the connections that there are
   */
  drain(before?: () => Promise<void>): Promise<void>;
  /** Ends every socket, makes durable what was taken, and lets go of the directory. */
  close(): Promise<void>;
}

function everyInterval(milliseconds: number, task: () => void): () => void {
  const timer = setInterval(task, milliseconds);
  timer.unref();
  return () => clearInterval(timer);
}

/** A WebSocket as the relay knows it: all that it sends is text, also what it has as bytes. */
const asText = (socket: WebSocket): RelaySocket => ({
  OPEN: socket.OPEN,
  get readyState() {
    return socket.readyState;
  },
  get bufferedAmount() {
    return socket.bufferedAmount;
  },
  get isPaused() {
    return socket.isPaused;
  },
  pause: () => socket.pause(),
  resume: () => socket.resume(),
  send: (text, flushed) => socket.send(text, { binary: false }, flushed),
  ping: (payload) => socket.ping(payload),
  close: (code, reason) => socket.close(code, reason),
  terminate: () => socket.terminate(),
});

function afterTimeout(milliseconds: number, task: () => void): () => void {
  const timer = setTimeout(task, milliseconds);
  return () => clearTimeout(timer);
}

/**
 * Opens the cluster's records and starts its server.
 * @throws MeshError `store_damaged` when the records cannot be read, and what the system says when the port is taken
 */
export async function startServer(options: ServerOptions): Promise<ClusterServer> {
  const { host, port, directory, disk = realDisk, now = Date.now, every = everyInterval, pair, token } = options;
  const { allowUnproven, vouch, onSign, rates, metricsToAll, trustProxy = false, connectionsPerAddress } = options;
  const { roles = ["relay", "registry"] } = options;
  const log = options.onEvent ?? textLog(options.log ?? (() => undefined));
  const stateLog = (detail: string) => log("state", { detail });
  const state = options.state ?? (await openEmbeddedState({ disk, directory, now, allowUnproven, log: stateLog }));
  const around = { now, every, after: afterTimeout, log };
  const services = openServices({
    ...around,
    state,
    roles,
    pair,
    vouch,
    token,
    allowUnproven,
    onSign,
    rates,
    metricsToAll,
  });
  const { relay, meter, counts } = services;
  const uncount = countProcess(counts.metrics);
  const answer = serve(services.answer, trustProxy);
  const underway = new Set<Promise<void>>();
  const onRequest = (request: IncomingMessage, response: ServerResponse) => {
    const answered = answer(request, response).finally(() => underway.delete(answered));
    underway.add(answered);
  };
  const onRefused = (reason: string) => counts.refusedConnects.add([reason]);
  const occupancy = new Occupancy(connectionsPerAddress);
  const sockets = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: FRAME_SIZE_MAX,
  });
  const take = (opened: WebSocket, request: IncomingMessage, socket: Duplex) => {
    const end = relay.accept(asText(opened), requester(request, trustProxy));
    // After the WebSocket's own listener, so that a frame that these bytes complete is known to have come.
    const count = ({ length }: Buffer) => {
      if (!end.came(length)) socket.off("data", count);
    };
    socket.on("data", count);
    opened.on("message", (data, isBinary) =>
      end.received(isBinary || !Buffer.isBuffer(data) ? undefined : frameText(data)),
    );
    opened.on("ping", (data) => end.pinged(data.length));
    opened.on("pong", (data) => end.ponged(data.toString()));
    opened.on("close", (code) => end.closed(code));
    // Every error of a socket (a frame too large, a lost line) is followed by its close, which says all there is to say.
    opened.on("error", (error) => end.failed(error.message));
  };
  const onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    // A socket that breaks before it is a WebSocket has nobody to tell.
    socket.on("error", (error) => log("upgrade_failed", { detail: error.message }));
    if (isOfPage(request.headers)) {
      onRefused("of_page");
      turnAway(socket, "403 Forbidden", { error: OF_PAGE });
      return;
    }
    if (request.url?.split("?", 1)[0] !== "/ws" || !roles.includes("relay")) {
      turnAway(socket, "404 Not Found", { error: { code: "not_found", message: "Not Found" } });
      return;
    }
    if (services.isDraining) {
      onRefused("draining");
      const error = { code: "closed", message: "The relay is restarting. Come again at once." };
      turnAway(socket, "503 Service Unavailable", { error }, { "retry-after": "1" });
      return;
    }
    const caller = requester(request, trustProxy);
    const limit = "connects_per_address";
    const waitMs = meter.take(limit, caller.address, caller);
    if (waitMs > 0) {
      onRefused(limit);
      const error = { code: "limit_reached", message: refusalText(limit, waitMs) };
      const headers = { "retry-after": String(Math.ceil(waitMs / 1000)) };
      turnAway(socket, "429 Too Many Requests", { error, limit, retry_after_ms: waitMs }, headers);
      return;
    }
    // Behind a proxy all sockets come from it: there the WebSockets are counted, by whom they are for.
    if (trustProxy) {
      if (!occupancy.entered(caller.address)) {
        onRefused(TOO_MANY_OPEN.limit);
        turnAway(socket, "429 Too Many Requests", TOO_MANY_OPEN);
        return;
      }
      socket.once("close", () => occupancy.left(caller.address));
    }
    sockets.handleUpgrade(request, socket, head, (opened) => take(opened, request, socket));
  };

  const { tls: certificate, requestTimeoutMs } = options;
  const entry = { requestTimeoutMs, onRequest, onUpgrade, onRefused };
  const perSocket = trustProxy ? Number.POSITIVE_INFINITY : connectionsPerAddress;
  const doors: Door[] = [];
  const opening = async () => {
    const outer = await openDoor({ ...entry, host, port, certificate, connectionsPerAddress: perSocket });
    doors.push(outer);
    if (!certificate) return { outer, inner: outer };
    const inner = await openDoor({ ...entry, host: "127.0.0.1", port: 0, connectionsPerAddress: perSocket });
    doors.push(inner);
    return { outer, inner };
  };
  async function close(): Promise<void> {
    const ended = Promise.all(doors.map((door) => door.close()));
    const endAll = () => {
      for (const door of doors) door.endAll();
    };
    await relay.close();
    const patient = afterTimeout(SERVER_CLOSE_WAIT_MS, endAll);
    await Promise.all(underway);
    patient();
    endAll();
    await ended;
    uncount();
    await services.close();
  }
  const { outer, inner } = await opening().catch(async (error) => {
    await close();
    throw error;
  });
  let closing: Promise<void> | undefined;

  const scheme = certificate ? "s" : "";
  return {
    url: `http${scheme}://${outer.authority}`,
    relayUrl: `ws${scheme}://${outer.authority}`,
    port: outer.port,
    inside: { url: `http://${inner.authority}`, relayUrl: `ws://${inner.authority}` },
    relay: { connections: relay.connections, isConnected: relay.isConnected },
    forget: services.forget,
    renew: outer.renew,
    drain: services.drain,
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

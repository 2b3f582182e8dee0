import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import { CLUSTER_CONNECTIONS_MAX, FRAME_SIZE_MAX, HTTP_TIMEOUT_MS, SERVER_CLOSE_WAIT_MS } from "../limits.ts";
import { type Disk, realDisk } from "../store/disk.ts";
import { frameText } from "../wire/frame-text.ts";
import type { PairRequest, PairResponse } from "../wire/pair.ts";
import type { RelaySocket } from "./connection.ts";
import { openEmbeddedState } from "./embedded/state.ts";
import { serve } from "./http.ts";
import type { Vouch } from "./registry.ts";
import { openServices } from "./services.ts";
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
  readonly log?: (line: string) => void;
}

export interface ClusterServer {
  /** `http://host:port` */
  readonly url: string;
  /** `ws://host:port`; clients append `/ws`. */
  readonly relayUrl: string;
  readonly port: number;
  readonly relay: {
    /** The DIDs that are connected. */
    connections(): string[];
    isConnected(did: string): boolean;
  };
  /** Takes an agent out of the registry that cannot do it any more. */
  forget(did: string): Promise<void>;
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
  close: (code, reason) => socket.close(code, reason),
  terminate: () => socket.terminate(),
});

function afterTimeout(milliseconds: number, task: () => void): () => void {
  const timer = setTimeout(task, milliseconds);
  return () => clearTimeout(timer);
}

function listen(server: Server, host: string, port: number): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      const address = server.address();
      if (typeof address === "object" && address) resolve(address);
      else reject(new Error("The server has no port."));
    });
  });
}

/** The host that a client on this machine connects to. */
function hostOf({ address, family }: AddressInfo): string {
  if (address === "0.0.0.0" || address === "::") return "127.0.0.1";
  return family === "IPv6" ? `[${address}]` : address;
}

/**
 * Opens the cluster's records and starts its server.
 * @throws MeshError `store_damaged` when the records cannot be read, and what the system says when the port is taken
 */
export async function startServer(options: ServerOptions): Promise<ClusterServer> {
  const { host, port, directory, disk = realDisk, now = Date.now, every = everyInterval, pair, token } = options;
  const { allowUnproven, vouch, onSign } = options;
  const log = options.log ?? (() => undefined);
  const state = options.state ?? (await openEmbeddedState({ disk, directory, now, allowUnproven, log }));
  const services = openServices({
    state,
    now,
    every,
    after: afterTimeout,
    pair,
    vouch,
    token,
    allowUnproven,
    onSign,
    log,
  });
  const { relay } = services;
  const answer = serve(services.answer);
  const underway = new Set<Promise<void>>();
  const server = createServer(
    { requestTimeout: HTTP_TIMEOUT_MS, headersTimeout: HTTP_TIMEOUT_MS },
    (request, response) => {
      const answered = answer(request, response).finally(() => underway.delete(answered));
      underway.add(answered);
    },
  );
  server.maxConnections = CLUSTER_CONNECTIONS_MAX;
  const sockets = new WebSocketServer({ noServer: true, clientTracking: false, maxPayload: FRAME_SIZE_MAX });
  const take = (opened: WebSocket) => {
    const end = relay.accept(asText(opened));
    opened.on("message", (data, isBinary) =>
      end.received(isBinary || !Buffer.isBuffer(data) ? undefined : frameText(data)),
    );
    opened.on("close", () => end.closed());
    // Every error of a socket (a frame too large, a lost line) is followed by its close, which says all there is to say.
    opened.on("error", (error) => end.failed(error.message));
  };
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    // A socket that breaks before it is a WebSocket has nobody to tell.
    socket.on("error", (error) => log(`upgrade: ${error.message}`));
    if (request.url?.split("?", 1)[0] === "/ws") sockets.handleUpgrade(request, socket, head, (opened) => take(opened));
    else socket.end("HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
  });

  const address = await listen(server, host, port).catch(async (error) => {
    await services.close();
    throw error;
  });
  async function close(): Promise<void> {
    const ended = new Promise<void>((resolve) => server.close(() => resolve()));
    await relay.close();
    const patient = afterTimeout(SERVER_CLOSE_WAIT_MS, () => server.closeAllConnections());
    await Promise.all(underway);
    patient();
    server.closeAllConnections();
    await ended;
    await services.close();
  }
  let closing: Promise<void> | undefined;

  const authority = `${hostOf(address)}:${address.port}`;
  return {
    url: `http://${authority}`,
    relayUrl: `ws://${authority}`,
    port: address.port,
    relay: { connections: relay.connections, isConnected: relay.isConnected },
    forget: services.forget,
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { createServer } from "../http.ts";
import { CLUSTER_CONNECTIONS_MAX, HTTP_TIMEOUT_MS } from "../limits.ts";
import { callerOf } from "./address.ts";
import { ADDRESS_CONNECTIONS_MAX, READER_WAIT_MS, SLOW_REQUESTS_EVERY_MS } from "./limits.ts";

// Where a server is entered: one port, plain or with TLS, with bounds on who comes in and on how long they take.

/** A certificate with its chain, and its private key, both PEM. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

export interface DoorOptions {
  readonly host: string;
  readonly port: number;
  readonly certificate?: Certificate | undefined;
  /** How long one request may take to come. */
  readonly requestTimeoutMs?: number | undefined;
  /** Sockets of one address at once. Without end where all come by one proxy: then it is for who knows them apart to count. */
  readonly connectionsPerAddress?: number | undefined;
  readonly onRequest: (request: IncomingMessage, response: ServerResponse) => void;
  readonly onUpgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  /** Told why a socket was not taken. */
  readonly onRefused: (reason: string) => void;
}

export interface Door {
  /** `host:port` as a client on this machine reaches it. */
  readonly authority: string;
  readonly port: number;
  /** Takes another certificate for those who come from now on. @throws what OpenSSL says when it is none */
  renew(certificate: Certificate): void;
  /** Takes nobody any more; resolves when all connections have ended. */
  close(): Promise<void>;
  endAll(): void;
}

/** Answers a socket that is not taken, and ends it whether its other side does or not. */
export function turnAway(socket: Duplex, status: string, body: object, headers: Readonly<Record<string, string>> = {}) {
  const text = JSON.stringify(body);
  const lines = { ...headers, connection: "close", "content-type": "application/json", "content-length": text.length };
  const head = Object.entries(lines).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.once("finish", () => socket.destroy());
  socket.end(`HTTP/1.1 ${status}\r\n${head.join("")}\r\n${text}`);
}

/** Counts what each address has open, and says when it is too much. */
export class Occupancy {
  readonly #counts = new Map<string, number>();
  readonly #max: number;
  constructor(max: number = ADDRESS_CONNECTIONS_MAX) {
    this.#max = max;
  }
  /** Whether one more has room; then it is counted until `left`. */
  entered(address: string): boolean {
    const count = this.#counts.get(address) ?? 0;
    if (count >= this.#max) return false;
    this.#counts.set(address, count + 1);
    return true;
  }
  left(address: string): void {
    const count = (this.#counts.get(address) ?? 0) - 1;
    if (count > 0) this.#counts.set(address, count);
    else this.#counts.delete(address);
  }
}

export const TOO_MANY_OPEN = {
  error: { code: "limit_reached", message: "connections_per_address: too many are open. Close some." },
  limit: "connections_per_address",
} as const;

/** The host that a client on this machine connects to. */
function hostOf({ address, family }: AddressInfo): string {
  if (address === "0.0.0.0" || address === "::") return "127.0.0.1";
  return family === "IPv6" ? `[${address}]` : address;
}

function listen(server: Server | TlsServer, host: string, port: number): Promise<AddressInfo> {
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

/** Opens a port. @throws what the system says when it is taken, or OpenSSL when the certificate is none */
export async function openDoor(options: DoorOptions): Promise<Door> {
  const { certificate, requestTimeoutMs = HTTP_TIMEOUT_MS, connectionsPerAddress, onRefused } = options;
  const bounds = {
    requestTimeout: requestTimeoutMs,
    headersTimeout: requestTimeoutMs,
    connectionsCheckingInterval: Math.min(requestTimeoutMs, SLOW_REQUESTS_EVERY_MS),
  };
  const tlsServer = certificate
    ? createTlsServer({ ...bounds, ...certificate, handshakeTimeout: requestTimeoutMs })
    : undefined;
  const server = tlsServer ?? createServer(bounds);
  server.on("request", options.onRequest);
  server.on("upgrade", options.onUpgrade);
  // An answer that nobody takes is not kept for ever.
  server.setTimeout(READER_WAIT_MS);
  server.maxConnections = CLUSTER_CONNECTIONS_MAX;
  server.on("drop", () => onRefused("connections"));
  const occupancy = new Occupancy(connectionsPerAddress);
  server.prependListener("connection", (socket: Socket) => {
    const { address } = callerOf(socket.remoteAddress ?? "");
    if (occupancy.entered(address)) {
      socket.once("close", () => occupancy.left(address));
      return;
    }
    onRefused(TOO_MANY_OPEN.limit);
    // Before a handshake there is no way to say anything.
    if (tlsServer) socket.destroy();
    else turnAway(socket, "429 Too Many Requests", TOO_MANY_OPEN);
  });
  const address = await listen(server, options.host, options.port);
  return {
    authority: `${hostOf(address)}:${address.port}`,
    port: address.port,
    renew: (renewed) => tlsServer?.setSecureContext({ cert: renewed.cert, key: renewed.key }),
    close: () => new Promise((resolve) => server.close(() => resolve())),
    endAll: () => server.closeAllConnections(),
  };
}

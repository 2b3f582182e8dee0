/** A small HTTP proxy, which knows only CONNECT and leads every name to 127.0.0.1. */
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { connect, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { onTestFinished } from "vitest";
import { certificate } from "./certificate.ts";

/** Where a server of a test listens, until the test ends; and when all its connections have ended. */
export async function listen(server: Server): Promise<{ readonly port: number; readonly idle: () => Promise<void> }> {
  const open = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    open.add(socket);
    socket.on("error", () => undefined); // The close that follows is what the tests look at.
    socket.on("close", () => open.delete(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(async () => {
    for (const socket of open) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("a port is expected");
  return {
    port: address.port,
    async idle() {
      for (const socket of open) await new Promise((resolve) => socket.once("close", resolve));
    },
  };
}

export interface TestProxy {
  /** `http://127.0.0.1:port`, or https. */
  readonly url: string;
  /** What was asked for, as host:port, in its order. */
  readonly asked: readonly string[];
  /** The next CONNECT has come. */
  next(): Promise<unknown>;
  /** All its connections have ended. */
  idle(): Promise<void>;
}

/** Leads to 127.0.0.1, whatever the host is called. */
export function lead({ url = "" }: IncomingMessage, client: Duplex): void {
  const server = connect(Number(url.split(":").at(-1)), "127.0.0.1", () => {
    client.write("HTTP/1.1 200 Connection established\r\n\r\n");
    client.pipe(server).pipe(client);
  });
  server.on("error", () => client.destroy());
  server.on("close", () => client.destroy());
  client.on("error", () => server.destroy());
  client.on("close", () => server.destroy());
}

/**
 * @param options `credentials` it insists on, as user:password; `secure`: it is spoken to by TLS; `answer`: what it does instead
 * of leading somewhere
 */
export async function startProxy(
  options: {
    readonly credentials?: string;
    readonly secure?: boolean;
    readonly answer?: (client: Duplex) => void;
  } = {},
): Promise<TestProxy> {
  const { credentials, secure = false, answer } = options;
  const server = secure ? createTlsServer(certificate) : createServer();
  const expected = credentials === undefined ? undefined : `Basic ${Buffer.from(credentials).toString("base64")}`;
  const asked: string[] = [];
  server.on("connect", (request: IncomingMessage, client: Duplex) => {
    asked.push(request.url ?? "");
    if (answer) {
      client.resume().on("end", () => client.end());
      answer(client);
    } else if (request.headers["proxy-authorization"] === expected) lead(request, client);
    else client.end("HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n");
  });
  const { port, idle } = await listen(server);
  return { url: `http${secure ? "s" : ""}://127.0.0.1:${port}`, asked, next: () => once(server, "connect"), idle };
}

/** A port on which nobody listens. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("a port is expected");
  return address.port;
}

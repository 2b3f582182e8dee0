import type { IncomingMessage } from "node:http";
import type { Socket as Connection } from "node:net";
import { Readable } from "node:stream";
import type { SecureContext } from "node:tls";
import { WebSocket } from "ws";
import { request } from "../http.ts";
import { FRAME_SIZE_MAX, LINK_OPEN_TIMEOUT_MS } from "../limits.ts";
import { release } from "../memory.ts";
import { CLOSE } from "../wire/frame.ts";
import { frameText } from "../wire/frame-text.ts";
import { type Authorities, authoritiesOf, distrustOf, distrustText, LAPTOP_REMEDY, trusting } from "./authorities.ts";
import type { Network, Socket, SocketEvents } from "./ports.ts";
import { type Environment, isSecure, type NamedProxy, proxyFor, realEnvironment } from "./proxy.ts";
import { openSecure, openTunnel } from "./tunnel.ts";

// The real network: WebSockets by `ws`, HTTP by the platform's fetch, both through a proxy where the environment names one.

/** A server that answers so, in place of a WebSocket, is restarting, or overloaded: as if it had closed one with 1013. */
const UNAVAILABLE = "Unexpected server response: 503";

/** @param connection to the server, if there is one already */
function open(url: string, events: SocketEvents, secureContext?: SecureContext, connection?: Connection): Socket {
  const socket = new WebSocket(url, {
    maxPayload: FRAME_SIZE_MAX,
    handshakeTimeout: LINK_OPEN_TIMEOUT_MS,
    perMessageDeflate: false,
    ...(secureContext && { secureContext }),
    // It watches for the timeout of a connection that it is given, and does not set it.
    ...(connection && { createConnection: () => connection.setTimeout(LINK_OPEN_TIMEOUT_MS) }),
  });
  let problem = "";
  socket.on("open", () => events.opened());
  socket.on("message", (data, isBinary) => {
    if (isBinary || !Buffer.isBuffer(data)) return;
    const text = frameText(data);
    events.received(text);
    release(text);
  });
  socket.on("pong", () => events.answered());
  // A socket that fails reports it here and then closes; the close is what counts.
  socket.on("error", (error) => {
    const distrust = distrustOf(error);
    problem = distrust ? `it shows ${distrustText(distrust, LAPTOP_REMEDY)}` : error.message;
  });
  socket.on("close", (code, reason) =>
    events.closed(problem === UNAVAILABLE ? CLOSE.tryLater : code, reason.toString() || problem),
  );
  return {
    send: (text) => {
      if (socket.readyState === WebSocket.OPEN)
        socket.send(text, { binary: false }, () => {
          release(text);
          events.sent?.();
        });
    },
    ping: () => {
      if (socket.readyState === WebSocket.OPEN) socket.ping();
    },
    get buffered() {
      return socket.bufferedAmount;
    },
    close: () => {
      if (socket.readyState === WebSocket.CONNECTING) socket.terminate();
      else socket.close(1000);
    },
  };
}

function openThrough(
  proxy: NamedProxy,
  url: string,
  events: SocketEvents,
  secureContext: SecureContext | undefined,
): Socket {
  const given = new AbortController();
  let socket: Socket | undefined;
  openTunnel(proxy, url, given.signal, undefined, secureContext)
    .then((connection) => {
      try {
        socket = open(url, events, secureContext, connection);
      } catch (error) {
        connection.destroy();
        throw error;
      }
      if (given.signal.aborted) socket.close();
    })
    .catch((error: Error) => events.closed(1006, error.message));
  return {
    send: (text) => socket?.send(text),
    ping: () => socket?.ping(),
    get buffered() {
      return socket?.buffered ?? 0;
    },
    close: () => {
      given.abort();
      socket?.close();
    },
  };
}

/**
 * As the global fetch, which not every supported Node can send through a proxy, and which trusts what the process trusts; each
 * request has a connection of its own.
 */
async function fetchOver(
  connect: (signal: AbortSignal) => Promise<Connection>,
  address: string,
  init: RequestInit = {},
): Promise<Response> {
  const url = new URL(address);
  const signal = init.signal ?? new AbortController().signal;
  const asked = new Request(url, init);
  const body = Buffer.from(await asked.arrayBuffer());
  const connection = await connect(signal);
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    request({
      method: asked.method,
      path: url.pathname + url.search,
      headers: { ...Object.fromEntries(asked.headers), host: url.host },
      createConnection: () => connection,
      signal,
    })
      .on("response", resolve)
      .on("error", reject)
      .end(body);
  });
  const status = answer.statusCode ?? 0;
  try {
    if (status >= 300 && status < 400 && asked.redirect !== "manual")
      throw new TypeError("A redirect is not followed.");
    const headers = Object.entries(answer.headersDistinct).flatMap(([name, values = []]) =>
      values.map((value): [string, string] => [name, value]),
    );
    const empty = status === 204 || status === 304;
    if (empty) answer.resume();
    return new Response(empty ? null : Readable.toWeb(answer), { status, headers });
  } catch (error) {
    answer.destroy();
    throw error;
  }
}

/**
 * @param environment read anew for each connection
 * @param authorities to trust beside those of the system
 */
export function networkOf(environment: () => Environment, authorities: Authorities = () => ""): Network {
  const contextOf = (url: string) => (isSecure(new URL(url)) ? trusting(authorities()) : undefined);
  return {
    dial(url, events) {
      const proxy = proxyFor(url, environment());
      const context = contextOf(url);
      return proxy ? openThrough(proxy, url, events, context) : open(url, events, context);
    },
    fetch(url, init) {
      const proxy = proxyFor(url, environment());
      const context = contextOf(url);
      if (proxy) return fetchOver((signal) => openTunnel(proxy, url, signal, undefined, context), url, init);
      return context ? fetchOver((signal) => openSecure(url, context, signal), url, init) : fetch(url, init);
    },
  };
}

/** The network of a home, with the authorities that it trusts. */
export const networkAt = (home: string): Network => networkOf(realEnvironment, authoritiesOf(home));

export const realNetwork: Network = networkOf(realEnvironment);

import { once } from "node:events";
import { connect, isIP, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls, type SecureContext } from "node:tls";
import { request, STATUS_CODES } from "../http.ts";
import { TUNNEL_TIMEOUT_MS } from "../limits.ts";
import {
  hostOf,
  isSecure,
  type NamedProxy,
  POLICY_ADVICE,
  type ProxyAddress,
  ProxyError,
  parseProxy,
  portOf,
} from "./proxy.ts";

// A connection through an HTTP proxy, by CONNECT (RFC 9110, 9.3.6), whether the destination speaks TLS or not: proxies pass
// WebSockets on in no other way.

/** TLS to a host, whose certificate is checked against its name or address. */
const tls = (host: string, options: ConnectionOptions) =>
  connectTls({ ...options, host, servername: isIP(host) === 0 ? host : "", ALPNProtocols: ["http/1.1"] });

/** What can be done about an answer of a proxy. */
const advice = (status: number, variable: string) =>
  status === 407 ? `; check the credentials in ${variable}` : status === 403 ? `; ${POLICY_ADVICE}` : "";

/** Asks a proxy to connect to `authority` (host:port). */
function ask(proxy: ProxyAddress, authority: string, variable: string, signal: AbortSignal): Promise<Socket> {
  const { host, port, secure, authorization } = proxy;
  return new Promise((resolve, reject) => {
    const socket = secure ? tls(host, { port }) : connect({ host, port });
    request({
      method: "CONNECT",
      path: authority,
      headers: { host: authority, ...(authorization !== undefined && { "proxy-authorization": authorization }) },
      createConnection: () => socket,
      signal,
    })
      .on("connect", ({ statusCode = 0 }, _, head) => {
        if (statusCode >= 200 && statusCode < 300) {
          if (head.length > 0) socket.unshift(head);
          resolve(socket);
          return;
        }
        socket.destroy();
        const answer = `it answers ${statusCode} ${STATUS_CODES[statusCode] ?? ""}`.trimEnd();
        reject(new Error(answer + advice(statusCode, variable)));
      })
      .on("error", reject)
      .end();
  });
}

/** Begins TLS with the destination. */
async function secured(
  socket: Socket,
  host: string,
  signal: AbortSignal,
  secureContext: SecureContext | undefined,
): Promise<Socket> {
  const inner = tls(host, { socket, ...(secureContext && { secureContext }) });
  try {
    await once(inner, "secureConnect", { signal });
  } catch (error) {
    inner.destroy();
    throw error;
  }
  return inner;
}

/**
 * A connection to the server of an https URL, where it is trusted by a context of its own.
 * @throws what the system says, or the signal's reason
 */
export async function openSecure(address: string, secureContext: SecureContext, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted();
  const url = new URL(address);
  const socket = tls(hostOf(url), { port: portOf(url), secureContext });
  try {
    await once(socket, "secureConnect", { signal });
  } catch (error) {
    socket.destroy();
    throw error;
  }
  return socket;
}

/** What went wrong; where several addresses were tried, the error of them all says nothing but its code. */
const reasonOf = (error: unknown): string =>
  error instanceof Error ? error.message || ("code" in error ? String(error.code) : error.name) : String(error);

/**
 * A socket on which the server of an http, https, ws or wss URL is spoken to; for https and wss, TLS is established.
 * @param signal takes the attempt back; the socket that was returned is no longer affected
 * @throws ProxyError, or the signal's reason
 */
export async function openTunnel(
  named: NamedProxy,
  address: string,
  signal: AbortSignal,
  timeoutMs = TUNNEL_TIMEOUT_MS,
  secureContext?: SecureContext,
): Promise<Socket> {
  signal.throwIfAborted();
  const proxy = parseProxy(named);
  const url = new URL(address);
  const late = AbortSignal.timeout(timeoutMs);
  const ended = AbortSignal.any([signal, late]);
  const authority = `${url.hostname}:${portOf(url)}`;
  let through = `proxy ${proxy.name}`;
  try {
    const socket = await ask(proxy, authority, named.variable, ended);
    if (!isSecure(url)) return socket;
    through = `${authority} behind ${through}`;
    return await secured(socket, hostOf(url), ended, secureContext);
  } catch (cause) {
    signal.throwIfAborted();
    throw new ProxyError(`${through}: ${late.aborted ? `no answer in ${timeoutMs / 1000} s` : reasonOf(cause)}`, {
      cause,
    });
  }
}

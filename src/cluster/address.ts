import type { IncomingMessage } from "node:http";
import { isIP, type Socket } from "node:net";

// Whom a request or a socket comes from, as far as the network says.

export interface Caller {
  /** What it is counted by: an IPv4 address, or the /64 of an IPv6 address, all of which one host may have. */
  readonly address: string;
  /** It is this machine itself, with no proxy between. */
  readonly isLocal: boolean;
}

const LOOPBACK = /^(?:127\.|::1$)/;

/** The groups of an IPv6 address that name its network. */
function networkOf(address: string): string {
  const [left = "", right] = address.split("%", 1)[0]?.toLowerCase().split("::") ?? [];
  const head = left === "" ? [] : left.split(":");
  const tail = right === undefined || right === "" ? [] : right.split(":");
  const zeros = right === undefined ? [] : Array<string>(Math.max(0, 8 - head.length - tail.length)).fill("0");
  return [...head, ...zeros, ...tail]
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ""))
    .join(":");
}

/** @param address as the system or a proxy writes it */
export function callerOf(address: string): Caller {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, "");
  const isLocal = LOOPBACK.test(plain);
  return { address: isLocal || isIP(plain) !== 6 ? plain : `${networkOf(plain)}::/64`, isLocal };
}

const last = (header: string | string[] | undefined) =>
  (Array.isArray(header) ? header.at(-1) : header)?.split(",").at(-1)?.trim() ?? "";

/**
 * Who asks. Behind a proxy that is trusted it is whom the proxy names last in X-Forwarded-For; what stands before that anyone
 * may have written. Behind any other, it is the proxy, and not this machine, wherever the proxy runs.
 */
export function requester(
  request: Pick<IncomingMessage, "headers"> & { readonly socket: Pick<Socket, "remoteAddress"> },
  trustProxy: boolean,
): Caller {
  const { headers, socket } = request;
  const forwarded = last(headers["x-forwarded-for"]);
  if (trustProxy && isIP(forwarded) !== 0) return callerOf(forwarded);
  const caller = callerOf(socket.remoteAddress ?? "");
  const isForwarded = headers["x-forwarded-for"] !== undefined || headers.forwarded !== undefined;
  return isForwarded ? { ...caller, isLocal: false } : caller;
}

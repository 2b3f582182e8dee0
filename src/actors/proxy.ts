import { BlockList, isIP } from "node:net";

// Which HTTP proxy the environment names for an address, by the conventions of curl.

export type Environment = Readonly<Record<string, string | undefined>>;

/** Read here, away from what sends: scanners of plugins take both in one place for theft. */
export const realEnvironment = (): Environment => process.env;

/** What a variable of the environment says, as it says it. It may hold a password: it is never shown. */
export interface NamedProxy {
  readonly variable: string;
  readonly value: string;
}

export interface ProxyAddress {
  /** How it is shown: without credentials. */
  readonly name: string;
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
  /** The `Proxy-Authorization` (RFC 7617), where there are credentials. */
  readonly authorization: string | undefined;
}

/** A proxy is misnamed, cannot be reached, refuses, or does not lead to the destination. */
export class ProxyError extends Error {
  override readonly name = "ProxyError";
}

/** What to do when a proxy lets through only what its policy names. */
export const POLICY_ADVICE = "its policy must let this through first, in NemoClaw as nemoclaw/README.md says";

/** A host as sockets take it: an IPv6 address without brackets. */
export const hostOf = ({ hostname }: URL): string => hostname.replace(/^\[|\]$/g, "");

export const isSecure = ({ protocol }: URL): boolean => protocol === "https:" || protocol === "wss:";

export const portOf = (url: URL): number => Number(url.port) || (isSecure(url) ? 443 : 80);

const familyOf = (address: string) => (isIP(address) === 6 ? "ipv6" : "ipv4");

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

const isLoopback = (host: string) =>
  isIP(host) === 0 ? host === "localhost" || host.endsWith(".localhost") : loopback.check(host, familyOf(host));

/** Whether an address lies in a network: `192.0.2.1`, `10.0.0.0/8`, `fd00::/8`. */
function liesIn(network: string, address: string): boolean {
  const [base = "", length] = network.split("/");
  const bits = isIP(base) === 6 ? 128 : 32;
  const prefix = length ?? String(bits);
  if (isIP(base) === 0 || !/^\d+$/.test(prefix) || Number(prefix) > bits) return false;
  const list = new BlockList();
  list.addSubnet(base, Number(prefix), familyOf(base));
  return list.check(address, familyOf(address));
}

/** Whether an entry of NO_PROXY means a host: `*`, a domain with all below it, an address or a network; with or without a port. */
function means(entry: string, host: string, port: number): boolean {
  if (entry === "*") return true;
  const [, bracketed, plain, only] = /^(?:\[(.+)\]|(.+?))(?::(\d+))?$/.exec(entry) ?? [];
  const bare = isIP(entry) === 6;
  if (!bare && only !== undefined && Number(only) !== port) return false;
  const name = bare ? entry : (bracketed ?? plain ?? "");
  if (isIP(host) !== 0) return liesIn(name, host);
  const domain = name.replace(/^\*?\./, "");
  return host === domain || host.endsWith(`.${domain}`);
}

/**
 * The proxy for an http, https, ws or wss URL: HTTPS_PROXY for https and wss, HTTP_PROXY for http and ws, else ALL_PROXY; none
 * for what NO_PROXY means. In lower case they come first, and an empty one counts as not set.
 */
export function proxyFor(address: string, environment: Environment): NamedProxy | undefined {
  const url = new URL(address);
  const host = hostOf(url).replace(/\.$/, "");
  // As in Go: a proxy elsewhere cannot reach this machine's loopback, and a local cluster must work in any shell.
  if (isLoopback(host)) return undefined;
  const except = (environment.no_proxy || environment.NO_PROXY || "").toLowerCase();
  if (except.split(/[\s,]+/).some((entry) => means(entry, host, portOf(url)))) return undefined;
  for (const name of [isSecure(url) ? "https_proxy" : "http_proxy", "all_proxy"]) {
    for (const variable of [name, name.toUpperCase()]) {
      const value = environment[variable];
      if (value) return { variable, value };
    }
  }
  return undefined;
}

/** @throws ProxyError for what is no address of an HTTP proxy */
export function parseProxy({ variable, value }: NamedProxy): ProxyAddress {
  const misnamed = (why: string, options?: ErrorOptions) =>
    new ProxyError(`${variable} ${why}; http://host:port is expected`, options);
  const url = URL.parse(value.includes("://") ? value : `http://${value}`);
  // More than an origin is most likely a password with a `/`, `?` or `#` in it, of which a part now looks like a port.
  if (!url?.hostname || !/^\/?$/.test(url.pathname + url.search + url.hash))
    throw misnamed("does not hold the address of a proxy");
  if (url.protocol !== "http:" && url.protocol !== "https:") throw misnamed(`names a ${url.protocol} proxy`);
  let credentials: string;
  try {
    credentials = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  } catch (cause) {
    throw misnamed("holds credentials that are not percent-encoded", { cause });
  }
  return {
    name: `${url.protocol}//${url.host}`,
    secure: isSecure(url),
    host: hostOf(url),
    port: portOf(url),
    authorization: credentials === ":" ? undefined : `Basic ${Buffer.from(credentials).toString("base64")}`,
  };
}

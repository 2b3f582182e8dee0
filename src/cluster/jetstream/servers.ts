// Where NATS is, as people write it: nats://host:4222, or tls:// for TLS; several with commas between them; a user and a
// password, or a token, before an @.

export interface NatsServers {
  /** Without what is before the @: these may be shown. */
  readonly addresses: readonly string[];
  readonly user?: string;
  readonly password?: string;
  readonly token?: string;
}

/** What would be right. It repeats nothing of what was given, which may hold a password. */
export const NATS_SERVERS_FORM =
  "Give nats://host:4222 or tls://host:4222, several with commas between them; a user or token goes before an @, and is the same for all.";

/** Undefined when it is not understood, or when several users are named: one connection is one of them. */
export function natsServers(text: string): NatsServers | undefined {
  const addresses: string[] = [];
  let known: string | undefined;
  for (const part of text.split(",")) {
    const [, scheme, login, host] = /^((?:nats|tls):\/\/)(?:([^\s/]+)@)?([^\s/@]+)\/?$/.exec(part.trim()) ?? [];
    if (scheme === undefined || host === undefined || URL.parse(`http://${host}`)?.pathname !== "/") return undefined;
    if (login !== undefined && known !== undefined && login !== known) return undefined;
    known = login ?? known;
    addresses.push(scheme + host);
  }
  if (known === undefined) return { addresses };
  const colon = known.indexOf(":");
  try {
    if (colon === -1) return { addresses, token: decodeURIComponent(known) };
    return {
      addresses,
      user: decodeURIComponent(known.slice(0, colon)),
      password: decodeURIComponent(known.slice(colon + 1)),
    };
  } catch {
    // A % that begins nothing.
    return undefined;
  }
}

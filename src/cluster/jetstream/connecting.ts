import { access, constants, readFile } from "node:fs/promises";
import { connect, credsAuthenticator, type NatsConnection } from "@nats-io/transport-node";
import { MeshError } from "../../errors.ts";
import { CONNECT_WAIT_MS, PING_EVERY_MS } from "./limits.ts";
import { NATS_SERVERS_FORM, natsServers } from "./servers.ts";

// How NATS is reached, and what is said when it is not: what to look at, and never a password.

export interface NatsAccess {
  /** `nats://host:port`, several with commas; see `natsServers`. */
  readonly servers: string;
  /** A file of NATS credentials (`.creds`). */
  readonly credentials?: string | undefined;
  /** A file of the certificate authority that NATS is checked against, and of a certificate and key of ours. */
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

const detailOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

async function fileOf<T>(option: string, path: string, read: (path: string) => Promise<T>): Promise<T> {
  try {
    return await read(path);
  } catch (cause) {
    throw new MeshError("input_invalid", `${option} cannot be used: ${detailOf(cause)}.`, { cause });
  }
}

const credentialsOf = (path: string) =>
  fileOf("--nats-creds", path, async () => {
    const authenticator = credsAuthenticator(await readFile(path));
    // What is no credentials fails here, and not at the first word of NATS.
    authenticator("");
    return authenticator;
  });

/** Why NATS could not be reached, and what may help. */
function reasonOf(error: unknown, isTls: boolean, access: NatsAccess): string {
  const detail = detailOf(error);
  if (/authorization violation|authentication/i.test(detail))
    return `${detail}: it wants credentials, or others: --nats-creds, or a user or token in --nats`;
  if (/certificate|self.signed/i.test(detail) && access.ca === undefined)
    // What Node itself advises comes after a semicolon, and is not for here.
    return `${detail.split(";")[0]}: name its authority with --nats-ca`;
  if (isTls && access.cert === undefined && /timeout|alert|reset/i.test(detail))
    return `${detail}: it may want a certificate: --nats-cert and --nats-key`;
  return detail;
}

/** @throws MeshError `input_invalid` when an option or a file cannot be used, `nats_unavailable` */
export async function connectNats(options: NatsAccess, name: string): Promise<NatsConnection> {
  const { credentials, ca, cert, key } = options;
  const servers = natsServers(options.servers);
  if (!servers) throw new MeshError("input_invalid", NATS_SERVERS_FORM);
  const { addresses, user, password, token } = servers;
  const authenticator = credentials === undefined ? undefined : await credentialsOf(credentials);
  const files = { "--nats-ca": ca, "--nats-cert": cert, "--nats-key": key };
  for (const [option, path] of Object.entries(files))
    if (path !== undefined) await fileOf(option, path, (each) => access(each, constants.R_OK));
  const isTls = ca !== undefined || cert !== undefined || addresses.some((address) => address.startsWith("tls://"));
  return await connect({
    servers: [...addresses],
    name,
    timeout: CONNECT_WAIT_MS,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 250,
    reconnectJitter: 250,
    pingInterval: PING_EVERY_MS,
    maxPingOut: 1,
    // Else each question begins by writing down where it was asked, which takes a fifth of all time.
    noAsyncTraces: true,
    ...(authenticator && { authenticator }),
    ...(user !== undefined && { user }),
    ...(password !== undefined && { pass: password }),
    ...(token !== undefined && { token }),
    ...(isTls && {
      tls: {
        ...(ca !== undefined && { caFile: ca }),
        ...(cert !== undefined && { certFile: cert }),
        ...(key !== undefined && { keyFile: key }),
      },
    }),
  }).catch((cause: unknown) => {
    throw new MeshError("nats_unavailable", `${addresses.join(",")}: ${reasonOf(cause, isTls, options)}.`, { cause });
  });
}

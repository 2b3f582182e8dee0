/** A sandbox's way out: a proxy that lets through what a preset names and refuses everything else, and a cluster behind it. */
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { onTestFinished } from "vitest";
import { realNetwork } from "../../src/actors/network.ts";
import { type Clock, type Ports, realClock, realPorts } from "../../src/actors/ports.ts";
import { openHousehold } from "../../src/cluster/household.ts";
import { processBackend } from "../../src/cluster/sandbox-process.ts";
import { type ServerOptions, startServer } from "../../src/cluster/server.ts";
import { MeshError } from "../../src/errors.ts";
import { lead, listen } from "../actors/proxies.ts";
import { temporaryDirectory } from "../store/disks.ts";
import { TextMessages } from "./frames.ts";
import { type Endpoint, endpointFor, ruleFor } from "./preset.ts";

export interface EnforcingProxy {
  readonly url: string;
  /** The environment of a sandbox: everything goes through the proxy but what stays in it. */
  readonly environment: Readonly<Record<string, string>>;
  /** What was asked for and let through, as `host:port METHOD pattern of the rule`; `host:port` where nobody looks into it. */
  readonly passed: Set<string>;
  /** What was asked for and refused. */
  readonly refused: Set<string>;
  /** What a server says in place of the one behind the proxy, to a request that a rule lets through. */
  answers: (method: string, path: string) => StoodIn | undefined;
  /** The longest text message that was sent by a WebSocket, in bytes. */
  readonly longest: () => number;
}

/** An answer in place of a server's own. */
export interface StoodIn {
  readonly status: number;
  readonly body: object;
}

/** What it let a connection through to. */
interface Tunnel {
  readonly authority: string;
  readonly port: number;
  readonly endpoints: readonly Endpoint[];
}

/**
 * Leads every host of the policy to this machine: by CONNECT alone, and it looks at each request within, as OpenShell's does.
 * @param policy read anew for each connection
 */
export async function startEnforcing(policy: { endpoints: readonly Endpoint[] }): Promise<EnforcingProxy> {
  const passed = new Set<string>();
  const refused = new Set<string>();
  const tunnels = new WeakMap<Duplex, Tunnel>();
  const lengths: number[] = [];

  /** The tunnel that a request came by, if a rule lets it through there. */
  function judge({ socket, method = "", url = "" }: IncomingMessage): Tunnel | undefined {
    const tunnel = tunnels.get(socket);
    const [path = ""] = url.split("?", 1);
    const rule = tunnel && ruleFor(endpointFor(tunnel.endpoints, path), method, path);
    if (tunnel && rule) passed.add(`${tunnel.authority} ${rule}`);
    else refused.add(`${tunnel?.authority} ${method} ${path}`);
    return rule === undefined ? undefined : tunnel;
  }
  const denial = JSON.stringify({ error: "policy_denied", detail: "not in the policy" });

  const within = createServer((asked: IncomingMessage, answer: ServerResponse) => {
    const tunnel = judge(asked);
    if (!tunnel) {
      asked.resume();
      answer.writeHead(403, { "content-type": "application/json" }).end(denial);
      return;
    }
    const { method, url: path, headers } = asked;
    const said = proxy.answers(method ?? "", path ?? "");
    if (said) {
      asked.resume();
      answer.writeHead(said.status, { "content-type": "application/json" }).end(JSON.stringify(said.body));
      return;
    }
    const passedOn = request({ host: "127.0.0.1", port: tunnel.port, method, path, headers }, (response) => {
      answer.writeHead(response.statusCode ?? 502, response.headers);
      response.pipe(answer);
    });
    passedOn.on("error", () => answer.destroy());
    asked.pipe(passedOn);
  });
  within.on("upgrade", (asked: IncomingMessage, client: Duplex, head: Buffer) => {
    const tunnel = judge(asked);
    if (!tunnel) {
      client.end(`HTTP/1.1 403 Forbidden\r\ncontent-length: ${denial.length}\r\nconnection: close\r\n\r\n${denial}`);
      return;
    }
    const [path = ""] = (asked.url ?? "").split("?", 1);
    const text = ruleFor(endpointFor(tunnel.endpoints, path), "WEBSOCKET_TEXT", path);
    const messages = new TextMessages((length) => {
      lengths.push(length);
      if (text) passed.add(`${tunnel.authority} ${text}`);
      else client.destroy();
    });
    const server = connect(tunnel.port, "127.0.0.1", () => {
      const lines = asked.rawHeaders.flatMap((name, i, all) => (i % 2 === 0 ? [`${name}: ${all[i + 1]}`] : []));
      server.write(`${[`GET ${asked.url} HTTP/1.1`, ...lines].join("\r\n")}\r\n\r\n`);
      server.write(head);
      messages.read(head);
      client.on("data", (chunk: Buffer) => messages.read(chunk));
      client.pipe(server).pipe(client);
    });
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const)
      one.on("error", () => other.destroy()).on("close", () => other.destroy());
  });

  const outside = createServer((asked: IncomingMessage, answer: ServerResponse) => {
    refused.add(`${asked.method} ${asked.url}`);
    answer.writeHead(403).end();
  });
  outside.on("connect", (asked: IncomingMessage, client: Duplex) => {
    const { url: authority = "" } = asked;
    const endpoints = policy.endpoints.filter(({ host, port }) => authority === `${host}:${port}`);
    const [first] = endpoints;
    if (!first) {
      refused.add(authority);
      client.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
      return;
    }
    if ("access" in first) {
      passed.add(authority);
      lead(asked, client);
      return;
    }
    tunnels.set(client, { authority, port: first.port, endpoints });
    client.write("HTTP/1.1 200 Connection established\r\n\r\n");
    within.emit("connection", client);
  });
  const { port } = await listen(outside);
  const url = `http://127.0.0.1:${port}`;
  const except = "localhost,127.0.0.1,::1";
  const proxy: EnforcingProxy = {
    url,
    answers: () => undefined,
    environment: {
      ...{ HTTP_PROXY: url, HTTPS_PROXY: url, http_proxy: url, https_proxy: url },
      ...{ NO_PROXY: except, no_proxy: except },
    },
    passed,
    refused,
    longest: () => Math.max(0, ...lengths),
  };
  return proxy;
}

export interface NamedCluster {
  readonly relay: string;
  readonly registry: string;
  readonly pairUrl: string;
  /** A token to pair with it. */
  token(name: string): Promise<string>;
}

/**
 * A local cluster that calls itself by names which no resolver knows. Its own sandboxes reach it directly.
 * @param names of relay, registry and controller, without a port
 * @param clock that it goes by
 */
export async function openNamedCluster(
  names: readonly [relay: string, registry: string, controller: string],
  clock: Clock = realClock,
  options: Pick<ServerOptions, "every"> = {},
): Promise<NamedCluster> {
  const directory = await temporaryDirectory();
  const ports: Ports = { ...realPorts(realNetwork), clock };
  const opening = Promise.withResolvers<Awaited<ReturnType<typeof openHousehold>>>();
  const server = await startServer({
    host: "127.0.0.1",
    port: 0,
    directory: join(directory, "server"),
    now: () => clock.now(),
    pair: async (asked) => (await opening.promise).household.grants.pair(asked),
    vouch: (did) => household.vouch(did),
    ...options,
  });
  const [relay, registry, controller] = names.map((name) => `${name}:${server.port}`);
  const pairUrl = `http://${controller}/v1/pair`;
  const processes = processBackend();
  const opened = await openHousehold({
    directory,
    ports,
    backend: {
      ...processes,
      spawn: (config, hooks) =>
        processes.spawn({ ...config, relay_url: server.relayUrl, registry_url: server.url }, hooks),
    },
    cluster: "testbed",
    runner: null,
    urls: () => ({ relay_url: `ws://${relay}`, registry_url: `http://${registry}`, pair_url: pairUrl }),
    online: () => server.relay.connections(),
    onNote: () => undefined,
  });
  const { node, household, sandboxes } = opened;
  onTestFinished(async () => {
    await sandboxes.close();
    await node.close();
    await server.close();
  });
  node.start();
  await node.membership.join({
    controller: null,
    cluster: "testbed",
    relayUrl: server.relayUrl,
    registryUrl: server.url,
    name: "testbed-controller",
    capabilities: ["controller"],
  });
  opening.resolve(opened);
  return {
    relay: `ws://${relay}`,
    registry: `http://${registry}`,
    pairUrl,
    async token(name) {
      const grant = { name, slots: 2, capabilities: ["offload"], expiresMs: 3_600_000, tokenBudget: null };
      const { token } = await household.grants.issue(grant);
      if (!token) throw new MeshError("token_invalid");
      return token;
    },
  };
}

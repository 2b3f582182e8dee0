import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { createServer as createTlsServer, getCACertificates, setDefaultCACertificates } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "../../src/actors/inbox.ts";
import { networkOf } from "../../src/actors/network.ts";
import type { MeshNode } from "../../src/actors/node.ts";
import { type Network, realClock, realPorts } from "../../src/actors/ports.ts";
import { type Environment, POLICY_ADVICE, proxyFor } from "../../src/actors/proxy.ts";
import { pair } from "../../src/actors/registry.ts";
import { openTunnel } from "../../src/actors/tunnel.ts";
import { agent } from "../cluster/world.ts";
import { certificate } from "./certificate.ts";
import { freePort, listen, startProxy } from "./proxies.ts";
import { call, openNode, openWorld, type World } from "./world.ts";

// `relay.test` and its like are names that no resolver knows: whoever reaches them has come through the proxy.

const PATIENCE = { timeoutMs: 20_000, signal: new AbortController().signal, concerns: () => true };
const never = new AbortController().signal;
const didOf = ({ core }: MeshNode) => core.keyring.identity.did;

const trusted = getCACertificates();
beforeAll(() => setDefaultCACertificates([...trusted, certificate.cert]));
afterAll(() => setDefaultCACertificates(trusted));

const PROXY = "http://proxy.test:3128";

describe("which proxy the environment names", () => {
  const named = (url: string, environment: Environment) => proxyFor(url, environment)?.value;

  it.each<[string, Environment, string | undefined]>([
    ["https://a.test", {}, undefined],
    ["https://a.test", { HTTPS_PROXY: "s", HTTP_PROXY: "p" }, "s"],
    ["wss://a.test", { HTTPS_PROXY: "s", HTTP_PROXY: "p" }, "s"],
    ["http://a.test", { HTTPS_PROXY: "s", HTTP_PROXY: "p" }, "p"],
    ["ws://a.test", { HTTPS_PROXY: "s", HTTP_PROXY: "p" }, "p"],
    ["wss://a.test", { HTTPS_PROXY: "upper", https_proxy: "lower" }, "lower"],
    ["wss://a.test", { HTTPS_PROXY: "upper", https_proxy: "" }, "upper"],
    ["wss://a.test", { ALL_PROXY: "a" }, "a"],
    ["wss://a.test", { ALL_PROXY: "upper", all_proxy: "lower" }, "lower"],
    ["wss://a.test", { all_proxy: "a", HTTPS_PROXY: "s" }, "s"],
    ["wss://a.test", { HTTP_PROXY: "p" }, undefined],
    ["wss://a.test", { HTTPS_PROXY: "s", NO_PROXY: "*", no_proxy: "b.test" }, "s"],
    ["wss://a.test", { HTTPS_PROXY: "s", NO_PROXY: "*", no_proxy: "" }, undefined],
  ])("%s in %j: %s", (url, environment, expected) => {
    expect(named(url, environment)).toBe(expected);
  });

  it.each([
    ["*", "wss://relay.test", false],
    ["relay.test", "wss://relay.test", false],
    ["relay.test", "wss://eu.relay.test", false],
    ["relay.test", "wss://otherrelay.test", true],
    ["relay.test", "wss://relay.test.org", true],
    [".relay.test", "wss://eu.relay.test", false],
    [".relay.test", "wss://otherrelay.test", true],
    ["*.relay.test", "wss://a.b.relay.test", false],
    ["RELAY.test", "wss://Relay.TEST.", false],
    ["a.test, b.test  relay.test", "wss://relay.test", false],
    ["a.test,,", "wss://relay.test", true],
    ["relay.test:443", "wss://relay.test", false],
    ["relay.test:80", "http://relay.test", false],
    ["relay.test:80", "wss://relay.test", true],
    ["relay.test:8083", "ws://relay.test:8083", false],
    [".test:8083", "ws://relay.test:8084", true],
    ["192.0.2.1", "ws://192.0.2.1:8083", false],
    ["192.0.2.1", "ws://192.0.2.11", true],
    ["192.0.2.1:80", "ws://192.0.2.1:8083", true],
    ["10.0.0.0/8", "ws://10.20.30.40", false],
    ["10.0.0.0/8", "ws://11.0.0.1", true],
    ["10.0.0.0/33", "ws://10.0.0.1", true],
    ["10.0.0.0/", "ws://10.0.0.1", true],
    ["2001:db8::1", "ws://[2001:db8::1]:8083", false],
    ["[2001:db8::1]", "ws://[2001:db8:0::1]", false],
    ["[2001:db8::1]:80", "ws://[2001:db8::1]", false],
    ["[2001:db8::1]:80", "wss://[2001:db8::1]", true],
    ["2001:db8::/32", "wss://[2001:db8:1::1]", false],
    ["2001:db8::/32", "ws://10.0.0.1", true],
    [".", "wss://relay.test", true],
    ["]:[", "wss://relay.test", true],
  ])("NO_PROXY %j: %s through the proxy: %s", (except, url, proxied) => {
    expect(named(url, { ALL_PROXY: PROXY, NO_PROXY: except })).toBe(proxied ? PROXY : undefined);
  });

  it.each(["localhost", "cluster.localhost", "127.0.0.1", "127.8.9.10", "[::1]", "[::ffff:127.0.0.1]"])(
    "never for this machine itself: %s",
    (host) => {
      for (const scheme of ["ws", "wss", "http", "https"])
        expect(named(`${scheme}://${host}:8083/`, { ALL_PROXY: PROXY })).toBeUndefined();
    },
  );
});

const registryUrl = ({ server }: World) => `http://registry.test:${server.port}`;

/** Opens a node that reaches the world's relay and registry under names, so through whatever the environment names. */
async function openNamed(world: World, name: string, environment: () => Environment, notes: string[] = []) {
  const ports = realPorts(networkOf(environment));
  const node = await openNode({ home: world.home(name), ports, onNote: (text) => notes.push(text) });
  node.start();
  if (node.membership.current) return node;
  await node.membership.join({
    controller: null,
    cluster: "test",
    relayUrl: `ws://relay.test:${world.server.port}`,
    registryUrl: registryUrl(world),
    name,
    capabilities: ["chat"],
  });
  return node;
}

async function exchange(alice: MeshNode, bob: MeshNode): Promise<void> {
  await call(alice, "send", { to: "bob", message: "through the proxy" });
  const { messages } = await call(bob, "await", { from: [didOf(alice)], timeout_ms: 10_000 });
  expect(messages).toMatchObject([{ body: "through the proxy" }]);
  await call(bob, "send", { to: didOf(alice), message: "and back" });
  expect(await call(alice, "await", { from: [didOf(bob)], timeout_ms: 10_000 })).toMatchObject({
    messages: [{ body: "and back" }],
  });
}

describe("two nodes whose relay and registry are behind a proxy", () => {
  it("exchange messages through it alone, with credentials that are percent-encoded", async () => {
    const world = await openWorld();
    const proxy = await startProxy({ credentials: "kars:p@ss:w/rd ☂" });
    const credentials = encodeURIComponent("p@ss:w/rd ☂");
    const environment = { HTTP_PROXY: proxy.url.replace("//", `//kars:${credentials}@`) };
    const [alice, bob] = [
      await openNamed(world, "alice", () => environment),
      await openNamed(world, "bob", () => environment),
    ];
    await exchange(alice, bob);
    expect(new Set(proxy.asked)).toEqual(
      new Set([`relay.test:${world.server.port}`, `registry.test:${world.server.port}`]),
    );
    await Promise.all([alice.close(), bob.close()]);
    await proxy.idle();
  });

  it("learn from the link and from what is asked that credentials are refused, and go on when they are right", async () => {
    const world = await openWorld();
    const proxy = await startProxy({ credentials: "kars:right" });
    let password = "right";
    const environment = () => ({ http_proxy: proxy.url.replace("//", `//kars:${password}@`) });
    await (await openNamed(world, "alice", environment)).close();
    password = "s3cret";
    const notes: string[] = [];
    const alice = await openNamed(world, "alice", environment, notes);
    expect(await until(alice, () => Boolean(alice.core.link.context?.closed), PATIENCE)).toBe(true);
    const { link } = await call(alice, "whoami", {});
    const reason = `proxy ${proxy.url}: it answers 407 Proxy Authentication Required; check the credentials in http_proxy`;
    expect(link.closed).toEqual({ code: 1006, reason });
    await expect(call(alice, "discover", {})).rejects.toMatchObject({
      code: "registry_unreachable",
      message: `${registryUrl(world)} does not answer: ${reason}. The registry cannot be reached. Check the network and try again.`,
    });
    expect(JSON.stringify([notes, alice.core.system.capture()])).not.toContain("s3cret");
    password = "right";
    expect(await until(alice, () => alice.core.link.online, PATIENCE)).toBe(true);
    await expect(call(alice, "discover", {})).resolves.toBeDefined();
  });

  it("a controller behind a proxy that refuses cannot be reached, and the error says why", async () => {
    const proxy = await startProxy({ answer: (client) => client.end("HTTP/1.1 403 No.\r\n\r\n") });
    const network = networkOf(() => ({ ALL_PROXY: proxy.url }));
    const asked = pair(
      { network, clock: realClock, signal: never },
      { pairUrl: "https://controller.test/v1/pair", secret: "secret", identity: agent("alice"), name: null },
    );
    await expect(asked).rejects.toMatchObject({
      code: "cluster_unreachable",
      message: expect.stringContaining(
        `does not answer: proxy ${proxy.url}: it answers 403 Forbidden; ${POLICY_ADVICE}.`,
      ),
    });
    expect(proxy.asked).toEqual(["controller.test:443"]);
  });
});

/** What a dialled socket comes to: that it opened, or why it closed. */
function dial(network: Network, url: string) {
  const result = Promise.withResolvers<string>();
  const socket = network.dial(url, {
    opened: () => result.resolve("opened"),
    received: () => undefined,
    answered: () => undefined,
    closed: (code, reason) => result.resolve(`${code} ${reason}`),
  });
  return { socket, result: result.promise };
}

/** What a relay's socket and a registry's request through that proxy fail with. */
async function failures(proxyUrl: string): Promise<[string, string]> {
  const network = networkOf(() => ({ HTTP_PROXY: proxyUrl }));
  const request = network.fetch("http://registry.test/").then(
    ({ status }) => String(status),
    (error: Error) => error.message,
  );
  return [await dial(network, "ws://relay.test/ws").result, await request];
}

const both = (message: string) => [`1006 ${message}`, message];

describe("a proxy that does not lead anywhere is named, without its credentials", () => {
  it("when nobody listens", async () => {
    const port = await freePort();
    expect(await failures(`http://kars:s3cret@127.0.0.1:${port}`)).toEqual(
      both(`proxy http://127.0.0.1:${port}: connect ECONNREFUSED 127.0.0.1:${port}`),
    );
  });

  it.each([
    ["a refusal", "HTTP/1.1 403 Forbidden\r\n\r\n", `it answers 403 Forbidden; ${POLICY_ADVICE}`],
    [
      "a destination that it does not reach",
      "HTTP/1.1 502 x\r\ncontent-length: 0\r\n\r\n",
      "it answers 502 Bad Gateway",
    ],
    ["an unknown status", "HTTP/1.1 599 x\r\n\r\n", "it answers 599"],
    ["garbage", "SSH-2.0-OpenSSH_9.9\r\n", "Parse Error: Expected HTTP/, RTSP/ or ICE/"],
    ["nothing", "", "socket hang up"],
    ["endless headers", `HTTP/1.1 200 OK\r\n${"a: b\r\n".repeat(10_000)}`, "Parse Error: Header overflow"],
  ])("when it answers with %s", async (_, answer, message) => {
    const proxy = await startProxy({ answer: (client) => client.end(answer) });
    expect(await failures(proxy.url.replace("//", "//kars:s3cret@"))).toEqual(both(`proxy ${proxy.url}: ${message}`));
    await proxy.idle();
  });

  it.each([
    ["http://", "does not hold the address of a proxy"],
    ["http://kars:s3cr#t@proxy.test:3128", "does not hold the address of a proxy"],
    ["http://kars:12/s3cret@proxy.test:3128", "does not hold the address of a proxy"],
    ["proxy.test:port", "does not hold the address of a proxy"],
    ["http://kars:100%@proxy.test", "holds credentials that are not percent-encoded"],
    ["socks5://kars:s3cret@proxy.test:1080", "names a socks5: proxy"],
  ])("when it is misnamed: %s", async (value, why) => {
    expect(await failures(value)).toEqual(both(`HTTP_PROXY ${why}; http://host:port is expected`));
  });

  it("when it does not answer in time", async () => {
    const proxy = await startProxy({ answer: () => undefined });
    const tunnel = openTunnel({ variable: "HTTP_PROXY", value: proxy.url }, "ws://relay.test/ws", never, 50);
    await expect(tunnel).rejects.toThrow(`proxy ${proxy.url}: no answer in 0.05 s`);
    await proxy.idle();
  });
});

describe("whoever gives up leaves nothing open", () => {
  it.each([false, true])("while the proxy hangs (over TLS: %s)", async (secure) => {
    const proxy = await startProxy({ secure, answer: () => undefined });
    const network = networkOf(() => ({ HTTP_PROXY: proxy.url }));
    const asked = proxy.next();
    const { socket, result } = dial(network, "ws://relay.test/ws");
    await asked;
    socket.send("goes nowhere");
    expect(socket.buffered).toBe(0);
    socket.close();
    expect(await result).toMatch(/^1006 .*abort/);
    await proxy.idle();

    const given = new AbortController();
    const again = proxy.next();
    const request = network.fetch("http://registry.test/", { signal: given.signal });
    await again;
    given.abort(new Error("given up"));
    await expect(request).rejects.toThrow("given up");
    await proxy.idle();
    await expect(network.fetch("http://registry.test/", { signal: given.signal })).rejects.toThrow("given up");
    expect(proxy.asked.length).toBe(2);
  });

  it("while the destination hangs, before and after TLS", async () => {
    const proxy = await startProxy();
    const silent = createServer();
    const { port, idle } = await listen(silent);
    const network = networkOf(() => ({ ALL_PROXY: proxy.url }));
    for (const scheme of ["ws", "wss"]) {
      const reached = once(silent, "connection");
      const { socket, result } = dial(network, `${scheme}://relay.test:${port}/ws`);
      await reached;
      socket.close();
      expect(await result).toMatch(/^1006 /);
      await proxy.idle();
      await idle();
    }
    const given = new AbortController();
    const reached = once(silent, "request");
    const request = network.fetch(`http://registry.test:${port}/`, { signal: given.signal });
    await reached;
    given.abort();
    await expect(request).rejects.toThrow(/abort/);
    await proxy.idle();
  });
});

describe("a request through a proxy", () => {
  async function serve(answer: RequestListener) {
    const server = createServer(answer);
    const proxy = await startProxy();
    const network = networkOf(() => ({ HTTP_PROXY: proxy.url }));
    const { port } = await listen(server);
    return { network, proxy, url: `http://registry.test:${port}` };
  }

  it("is the same as one without: method, headers and body there, status, headers and body back", async () => {
    const { network, proxy, url } = await serve(async (request, response) => {
      const body = (await Array.fromAsync(request)).join("");
      const { host, authorization, "content-length": length } = request.headers;
      response.writeHead(201, [
        ["x-one", "1"],
        ["x-one", "2"],
      ]);
      response.end(JSON.stringify({ method: request.method, path: request.url, host, authorization, length, body }));
    });
    const answer = await network.fetch(`${url}/v1/agents?a=b#c`, {
      method: "PUT",
      headers: { authorization: "Ed25519" },
      body: "☂",
    });
    expect([answer.status, answer.headers.get("x-one")]).toEqual([201, "1, 2"]);
    expect(await answer.json()).toEqual({
      method: "PUT",
      path: "/v1/agents?a=b",
      host: new URL(url).host,
      authorization: "Ed25519",
      length: "3",
      body: "☂",
    });
    await proxy.idle();
  });

  it("may have an answer without a body, and one that is not read to its end", async () => {
    const { network, proxy, url } = await serve(({ method }, response) => {
      if (method === "DELETE") response.writeHead(204).end();
      else response.write("x".repeat(1_000_000));
    });
    const empty = await network.fetch(url, { method: "DELETE" });
    expect([empty.status, await empty.text()]).toEqual([204, ""]);
    const endless = await network.fetch(url);
    await endless.body?.cancel();
    await proxy.idle();
  });

  it("follows no redirect", async () => {
    const { network, proxy, url } = await serve((_, response) => {
      response.writeHead(302, { location: "http://elsewhere.test/" }).end("moved");
    });
    await expect(network.fetch(url, { redirect: "error" })).rejects.toThrow(/redirect/);
    expect((await network.fetch(url, { redirect: "manual" })).status).toBe(302);
    await proxy.idle();
  });
});

describe("TLS", () => {
  /** Puts TLS before a server of this machine. */
  async function secured(port: number): Promise<number> {
    const server = createTlsServer(certificate, (outer) => {
      const inner = connect(port, "127.0.0.1");
      outer.pipe(inner).pipe(outer);
      outer.on("error", () => inner.destroy()).on("close", () => inner.destroy());
      inner.on("error", () => outer.destroy()).on("close", () => outer.destroy());
    });
    return (await listen(server)).port;
  }

  it.each([false, true])("goes to relay and registry through the tunnel (proxy over TLS: %s)", async (secure) => {
    const world = await openWorld();
    const proxy = await startProxy({ secure, credentials: "kars:right" });
    const environment = { https_proxy: proxy.url.replace("//", "//kars:right@") };
    const authority = `relay.test:${await secured(world.server.port)}`;
    const open = async (name: string) => {
      const node = await openNode({
        home: join(world.directory, name),
        ports: realPorts(networkOf(() => environment)),
      });
      node.start();
      await node.membership.join({
        controller: null,
        cluster: "test",
        relayUrl: `wss://${authority}`,
        registryUrl: `https://${authority}`,
        name,
        capabilities: ["chat"],
      });
      return node;
    };
    const [alice, bob] = [await open("alice"), await open("bob")];
    await exchange(alice, bob);
    expect(new Set(proxy.asked)).toEqual(new Set([authority]));
    await Promise.all([alice.close(), bob.close()]);
    await proxy.idle();
  });

  it("is refused where the certificate is for another name", async () => {
    const { server } = await openWorld();
    const proxy = await startProxy();
    const authority = `other.test:${await secured(server.port)}`;
    const network = networkOf(() => ({ HTTPS_PROXY: proxy.url }));
    const refused = `${authority} behind proxy ${proxy.url}: Hostname/IP does not match certificate's altnames`;
    expect(await dial(network, `wss://${authority}/ws`).result).toContain(`1006 ${refused}`);
    await expect(network.fetch(`https://${authority}/health`)).rejects.toThrow(refused);
    await proxy.idle();
  });

  it("is refused where nobody vouches for the certificate, of the destination or of the proxy", async () => {
    setDefaultCACertificates(trusted);
    try {
      const { server } = await openWorld();
      const authority = `relay.test:${await secured(server.port)}`;
      for (const secure of [false, true]) {
        const proxy = await startProxy({ secure });
        const network = networkOf(() => ({ HTTPS_PROXY: proxy.url }));
        const place = secure ? `proxy ${proxy.url}` : `${authority} behind proxy ${proxy.url}`;
        const refused = `${place}: self-signed certificate`;
        expect(await dial(network, `wss://${authority}/ws`).result).toContain(`1006 ${refused}`);
        await expect(network.fetch(`https://${authority}/health`)).rejects.toThrow(refused);
        await proxy.idle();
      }
    } finally {
      setDefaultCACertificates([...trusted, certificate.cert]);
    }
  });

  it("is for the destination alone: a proxy that is named without TLS but wants it is told so", async () => {
    const proxy = await startProxy({ secure: true });
    const network = networkOf(() => ({ HTTPS_PROXY: proxy.url.replace("https:", "http:") }));
    expect(await dial(network, "wss://relay.test/ws").result).toMatch(/^1006 proxy http:\/\/127\.0\.0\.1:\d+: \S/);
    await proxy.idle();
  });
});

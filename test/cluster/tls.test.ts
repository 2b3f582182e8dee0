import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, readFileSync } from "node:fs";
import { request as httpsRequest } from "node:https";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { afterEach, describe, expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";
import { Cluster, folder, run, tidyUp } from "../cli/harness.ts";
import { ACCEPTED, agent, Client, connectFrame, temporaryDirectory, world } from "./world.ts";

// Clients come by https and wss, with a certificate that is renewed without a restart.

/** A certificate for 127.0.0.1 that signs itself, in files of a folder. */
function certificateIn(directory: string, name: string) {
  const [cert, key] = [join(directory, `${name}.crt`), join(directory, `${name}.key`)];
  const subject = ["-subj", `/CN=${name}`, "-addext", "subjectAltName=IP:127.0.0.1"];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  execFileSync("openssl", ["req", "-x509", ...kind, ...subject, "-keyout", key, "-out", cert], { stdio: "ignore" });
  return { cert, key };
}
const read = ({ cert, key }: { cert: string; key: string }) => ({
  cert: readFileSync(cert, "utf8"),
  key: readFileSync(key, "utf8"),
});

/** Whose certificate is shown at a port. */
async function shownAt(port: number): Promise<string> {
  const socket = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false });
  await once(socket, "secureConnect");
  const { subject } = socket.getPeerCertificate();
  socket.destroy();
  return String(subject.CN);
}

async function statusOf(url: string, ca: string): Promise<number | undefined> {
  const asked = httpsRequest(url, { ca }).end();
  const [response] = await once(asked, "response");
  response.resume();
  return response.statusCode;
}

describe("a server with a certificate", () => {
  test("is reached by https and wss, and without them by nobody but this machine inside", async () => {
    const tls = read(certificateIn(await temporaryDirectory(), "first"));
    const server = await world({ tls });
    expect([server.url, server.relayUrl]).toEqual([
      `https://127.0.0.1:${server.port}`,
      `wss://127.0.0.1:${server.port}`,
    ]);
    expect(await statusOf(`${server.url}/health`, tls.cert)).toBe(200);
    const client = new Client(new WebSocket(`${server.relayUrl}/ws`, { ca: tls.cert }));
    onTestFinished(() => client.socket.terminate());
    await once(client.socket, "open");
    client.send({ ...connectFrame(agent("alice"), server.clock.iso()), ...ACCEPTED });
    expect(await client.next()).toMatchObject({ type: "connected" });
    await expect(fetch(`http://127.0.0.1:${server.port}/health`)).rejects.toThrow();
    await expect(fetch(`${server.url}/health`)).rejects.toThrow();
    expect(server.inside.url).toMatch(/^http:\/\/127\.0\.0\.1:/);
    expect((await fetch(`${server.inside.url}/health`)).status).toBe(200);
  });

  test("takes another one for those who come from then on, and keeps its own when that is none", async () => {
    const directory = await temporaryDirectory();
    const first = read(certificateIn(directory, "first"));
    const server = await world({ tls: first });
    const client = new Client(new WebSocket(`${server.relayUrl}/ws`, { ca: first.cert }));
    await once(client.socket, "open");
    server.renew(read(certificateIn(directory, "second")));
    expect(await shownAt(server.port)).toBe("second");
    expect(() => server.renew({ cert: "nothing", key: "nothing" })).toThrow();
    expect(await shownAt(server.port)).toBe("second");
    await client.read();
    await client.close();
  });

  test("ends who does not come through the handshake", async () => {
    const tls = read(certificateIn(await temporaryDirectory(), "first"));
    const server = await world({ tls, requestTimeoutMs: 300 });
    const silent = (await import("node:net")).connect(server.port, "127.0.0.1").resume();
    await once(silent, "close");
    expect(await statusOf(`${server.url}/health`, tls.cert)).toBe(200);
  });
});

describe("kars-local up", () => {
  afterEach(tidyUp);

  test("serves laptops that trust its certificate, reads it again on SIGHUP, and drains on SIGTERM", async () => {
    const directory = folder();
    const [first, second] = ["first", "second"].map((name) => certificateIn(directory, name));
    if (!first || !second) throw new Error("no certificates");
    const files = { cert: join(directory, "used.crt"), key: join(directory, "used.key") };
    const use = ({ cert, key }: typeof files) => {
      copyFileSync(cert, files.cert);
      copyFileSync(key, files.key);
    };
    use(first);
    const cluster = await Cluster.up("--tls-cert", files.cert, "--tls-key", files.key, "--log", "json");
    expect(cluster.urls.relay_url).toMatch(/^wss:/);
    const { port } = new URL(cluster.urls.registry_url);
    const home = join(directory, "home");
    const token = await cluster.token("laptop");
    const distrusting = await run("kars-mesh", ["--home", join(directory, "other"), "pair", token]);
    expect(distrusting.code).toBe(1);
    const env = { NODE_EXTRA_CA_CERTS: first.cert };
    const paired = await run("kars-mesh", ["--home", home, "pair", token, "--json"], { env });
    expect(paired, paired.stdout).toMatchObject({ code: 0 });
    use(second);
    cluster.process.signal("SIGHUP");
    await cluster.process.says(/"certificate_taken"/, "stderr");
    expect(await shownAt(Number(port))).toBe("second");
    const { code, stderr } = await cluster.process.end("SIGTERM");
    const events = stderr
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).event);
    expect(events).toEqual(expect.arrayContaining(["connected", "note", "certificate_taken", "draining", "drained"]));
    expect(code).toBe(0);
  }, 60_000);

  test.each([
    [["--tls-cert", "a.pem"], 2, /go together/],
    [["--tls-cert", "nowhere.pem", "--tls-key", "nowhere.pem"], 1, /certificate cannot be read/],
  ])("says what is wrong with %j", async (args, code, words) => {
    const ended = await run("kars-local", ["up", "--dir", folder(), "--port", "0", ...args]);
    expect(ended.code).toBe(code);
    expect(ended.stderr.replaceAll(/\s+/g, " ")).toMatch(words);
  });
});

import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { documentOf, failure, folder, Running, run, tidyUp } from "../cli/harness.ts";
import { withNats, withNatsOf } from "./server.ts";

// What an operator gets wrong with NATS, and how it says what is wrong; and how it is let in.

const PATIENCE_MS = 120_000;
/** One that asks a cluster which is not there waits for it, about as long as a controller takes to take over. */
const ANSWER_MS = 40_000;

afterAll(tidyUp);

const asking = (...args: string[]) => run("kars-local", ["status", "--dir", join(folder(), "nowhere"), ...args]);

/** A relay with these options comes up, and ends when it is asked to. What it said does not hold `secret`. */
async function letsIn(args: readonly string[], secret = "hunter22"): Promise<void> {
  const relay = new Running("kars-local", ["relay", "--dir", folder(), "--port", "0", ...args]);
  await relay.says(/"relay_url"/);
  const { code, stdout, stderr } = await relay.end("SIGTERM");
  expect(code, stderr).toBe(0);
  expect(stdout + stderr).not.toContain(secret);
}

const failed = (stderr: RegExp) => ({ code: 1, stdout: "", stderr: expect.stringMatching(stderr) });

describe("a cluster that cannot be asked", { timeout: PATIENCE_MS }, () => {
  test("NATS has no JetStream", async () => {
    const { url } = await withNatsOf();
    const begun = performance.now();
    expect(await asking("--nats", url)).toMatchObject(failed(/^It has no JetStream.*nats-server -js/));
    const relay = ["relay", "--dir", folder(), "--port", "0", "--nats", url];
    expect(await failure("kars-local", relay)).toEqual({ code: 1, error: "nats_unavailable" });
    expect(performance.now() - begun).toBeLessThan(ANSWER_MS);
  });

  test("nobody began it, or no controller of it is active; who asks begins nothing", async () => {
    const [node] = await withNats();
    const nats = ["--nats", node?.url ?? ""];
    const relay = new Running("kars-local", ["relay", "--dir", folder(), "--port", "0", ...nats, "--cluster", "begun"]);
    await relay.says(/"relay_url"/);
    const begun = performance.now();
    const [never, idle] = await Promise.all([
      asking(...nats, "--cluster", "never"),
      asking(...nats, "--cluster", "begun"),
    ]);
    expect(never).toMatchObject(failed(/^This NATS has no cluster never: .*--cluster.*kars-local controller/m));
    expect(idle).toMatchObject(failed(/^No controller of the cluster begun is active: .*kars-local controller/m));
    expect(performance.now() - begun).toBeLessThan(ANSWER_MS);

    const impatient = new Running("kars-local", ["status", "--dir", folder(), ...nats, "--cluster", "begun", "--json"]);
    await impatient.says(/^Waiting for the cluster begun\.\n/, "stderr");
    const ended = await impatient.end();
    expect([ended.code, documentOf(ended)]).toMatchObject([130, { error: { code: "aborted" } }]);
    await relay.end();
  });
});

describe("a NATS with a lock", { timeout: PATIENCE_MS }, () => {
  const account = () => withNatsOf("-js", "-sd", folder(), "--user", "kars", "--pass", "hunter22@home");

  test("opens to the user and the password in its address, which nobody repeats", async () => {
    const { port } = await account();
    await letsIn(["--nats", `nats://kars:hunter22%40home@127.0.0.1:${port}`]);
    const wrong = await asking("--nats", `nats://kars:hunter23@127.0.0.1:${port}`);
    expect(wrong).toMatchObject(failed(/^nats:\/\/127\.0\.0\.1:\d+: Authorization Violation: .*--nats-creds/));
    expect(wrong.stderr).not.toContain("hunter23");
  });

  test("opens to a token in its address", async () => {
    const { port } = await withNatsOf("-js", "-sd", folder(), "--auth", "hunter22");
    await letsIn(["--nats", `nats://hunter22@127.0.0.1:${port}`]);
    expect(await asking("--nats", `nats://127.0.0.1:${port}`)).toMatchObject(failed(/Authorization Violation/));
  });
});

describe("a NATS with TLS", { timeout: PATIENCE_MS }, () => {
  let certificates: string;
  const at = (name: string) => join(certificates, name);

  beforeAll(() => {
    certificates = folder();
    const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: certificates, stdio: "pipe" });
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    openssl("req", "-x509", ...key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority");
    writeFileSync(at("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n");
    for (const name of ["nats", "kars"]) {
      openssl("req", ...key, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=${name}`);
      const signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"];
      openssl("x509", "-req", "-in", `${name}.csr`, ...signing, "-out", `${name}.pem`);
    }
  });
  const server = (...args: string[]) =>
    withNatsOf("-js", "-sd", folder(), "--tlscert", at("nats.pem"), "--tlskey", at("nats.key"), ...args);

  test("is checked against its authority", async () => {
    const { url } = await server("--tls");
    await letsIn(["--nats", url, "--nats-ca", at("ca.pem")]);
    await letsIn(["--nats", url.replace("nats://127.0.0.1", "tls://localhost"), "--nats-ca", at("ca.pem")]);
    expect(await asking("--nats", url)).toMatchObject(failed(/certificate: name its authority with --nats-ca/));
  });

  test("asks for a certificate of ours where it is told to", async () => {
    const { url } = await server("--tlsverify", "--tlscacert", at("ca.pem"));
    const ours = ["--nats-cert", at("kars.pem"), "--nats-key", at("kars.key")];
    await letsIn(["--nats", url, "--nats-ca", at("ca.pem"), ...ours]);
    const without = await asking("--nats", url, "--nats-ca", at("ca.pem"));
    expect(without).toMatchObject(failed(/it may want a certificate: --nats-cert and --nats-key/));
  });

  test("is never taken for one when it has none", async () => {
    const [node] = await withNats();
    const plain = (node?.url ?? "").replace("nats:", "tls:");
    expect(await asking("--nats", plain)).toMatchObject(
      failed(/^tls:\/\/127\.0\.0\.1:\d+: server does not support 'tls'/),
    );
  });
});

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { Cluster, folder, Laptop, tidyUp } from "../cli/harness.ts";

// A cluster whose certificate is signed by an authority of its operator's own, which no machine trusts by itself.

const openssl = (...args: string[]) => void execFileSync("openssl", args, { stdio: "ignore" });
const KIND = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/** An authority, and a certificate for 127.0.0.1 that it signed. */
function authority() {
  const directory = folder();
  const at = (name: string) => join(directory, name);
  openssl(
    "req",
    "-x509",
    ...KIND,
    "-days",
    "2",
    "-subj",
    "/CN=authority",
    "-keyout",
    at("ca.key"),
    "-out",
    at("ca.crt"),
  );
  openssl("req", ...KIND, "-subj", "/CN=cluster", "-keyout", at("key"), "-out", at("csr"));
  writeFileSync(at("ext"), "subjectAltName=IP:127.0.0.1\n");
  const signed = ["-CA", at("ca.crt"), "-CAkey", at("ca.key"), "-CAcreateserial", "-days", "2", "-extfile", at("ext")];
  openssl("x509", "-req", "-in", at("csr"), ...signed, "-out", at("crt"));
  return { ca: at("ca.crt"), serving: ["--tls-cert", at("crt"), "--tls-key", at("key")] };
}

function script(): string {
  const path = join(folder(), "task.sh");
  writeFileSync(path, "echo done\n");
  return path;
}

describe("a private authority", () => {
  afterEach(tidyUp);

  it("is told as what it is, and taken from a file; sandboxes have it from the cluster", async () => {
    const { ca, serving } = authority();
    const cluster = await Cluster.up(...serving, "--tls-ca", ca);
    const token = await cluster.token("laptop");
    const laptop = new Laptop();
    const refused = await laptop.run("pair", token);
    expect(refused.code).toBe(1);
    const words = refused.stderr.replaceAll(/\s+/g, " ");
    expect(words).toMatch(/certificate that this machine does not trust/);
    expect(words).toMatch(/--ca/);
    expect(words).not.toMatch(/does not answer/);
    expect((await laptop.run("pair", token, "--ca", script())).code).toBe(1);
    expect((await laptop.run("pair", `${token.slice(0, -1)}`, "--ca", ca)).code).toBe(1);
    expect(existsSync(join(laptop.home, "authorities.pem"))).toBe(false);
    const paired = await laptop.run("pair", token, "--ca", ca);
    expect(paired, paired.stderr).toMatchObject({ code: 0 });
    // It is kept: later commands need no option.
    const offload = await laptop.run("offload", "run task.sh", "--file", script(), "--wait", "--json");
    expect(offload, offload.stderr).toMatchObject({ code: 0 });
    expect(JSON.parse(offload.stdout)).toMatchObject({ status: "done" });
    expect(readFileSync(join(laptop.home, "authorities.pem"), "utf8")).toContain("BEGIN CERTIFICATE");
  }, 120_000);

  it("that sandboxes do not know fails an offload at once, in words", async () => {
    const { ca, serving } = authority();
    const cluster = await Cluster.up(...serving);
    await cluster.process.says(/Tasks will fail: .*certificate/, "stderr");
    const laptop = new Laptop();
    expect(await laptop.run("pair", await cluster.token("laptop"), "--ca", ca)).toMatchObject({ code: 0 });
    const begun = Date.now();
    const offload = await laptop.run("offload", "run task.sh", "--file", script(), "--wait", "--json");
    expect(Date.now() - begun).toBeLessThan(45_000);
    expect(offload.stdout).toMatch(/certificate/);
    expect(offload.stdout).toMatch(/--tls-ca/);
    const standing = await cluster.run("sandboxes", "start", "stands");
    expect(standing.stdout).toMatch(/not up yet: .*certificate/);
  }, 240_000);
});

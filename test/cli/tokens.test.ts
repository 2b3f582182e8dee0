/** Tokens as people paste them, and access tokens that no relay takes. */
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { Cluster, documentOf, folder, Laptop, run, tidyUp } from "./harness.ts";

afterAll(tidyUp);

test("a pairing token that was broken into lines, or is read from standard input", { timeout: 120_000 }, async () => {
  const cluster = await Cluster.up();
  const broken = (await cluster.token("words")).match(/.{1,30}/g) ?? [];
  expect(await new Laptop().json("pair", ...broken, "--name", "one")).toMatchObject({ name: "one" });
  const lines = ((await cluster.token("lines")).match(/.{1,30}/g) ?? []).join("\n  ");
  expect(await new Laptop().json("pair", `${lines}\n`)).toMatchObject({ name: "lines" });
  const home = join(folder(), "home");
  const input = `${(await cluster.token("piped")).slice(0, 40)}\r\n`;
  const cut = await run("kars-mesh", ["--home", home, "pair", "-", "--json"], { input });
  expect(documentOf(cut)).toMatchObject({ error: { code: "token_mangled" } });
  const piped = await run("kars-mesh", ["--home", home, "pair", "-", "--json"], {
    input: await cluster.token("third"),
  });
  expect(documentOf(piped)).toMatchObject({ name: "third" });
});

test("an access token that no relay takes is named at the start, and by the doctor", { timeout: 60_000 }, async () => {
  const home = join(folder(), "home");
  const env = { KARS_MESH_RELAY_TOKEN: "t".repeat(20_000) };
  const started = await run("kars-mesh", ["--home", home, "run"], { env });
  expect(started).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("KARS_MESH_RELAY_TOKEN has 20000 characters"),
  });
  expect(started.stderr).toContain("Set it to the access token alone");
  const { stdout, code } = await run("kars-mesh", ["--home", home, "doctor"], { env });
  expect(code).toBe(1);
  expect(stdout).toContain("KARS_MESH_RELAY_TOKEN has 20000 characters");
});

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { z } from "zod";
import { type OpenClaw, openOpenClaw, packageFolder, temporaryFolder } from "./openclaw.ts";
import { TOOLS } from "./tools.ts";

// Every way by which the plugin comes into an OpenClaw. `plugins.load.paths` on a built directory is load.test.ts's.

const root = fileURLToPath(new URL("../..", import.meta.url));
const TRUST = ["--force", "--accept-capabilities"];
/** What the person wrote before the plugin was installed. */
const PLUGINS = { allow: ["kars-mesh"], entries: { "kars-mesh": { enabled: true, config: {} } } };

const Inspection = z.object({
  plugin: z.object({ status: z.string(), rootDir: z.string(), toolNames: z.array(z.string()) }),
  diagnostics: z.array(z.unknown()),
});
const Audit = z.object({
  findings: z.array(z.object({ checkId: z.string(), title: z.string(), detail: z.string() })),
});
const Packed = z.tuple([
  z.object({
    filename: z.string(),
    size: z.number(),
    unpackedSize: z.number(),
    files: z.array(z.object({ path: z.string() })),
  }),
]);

async function npmPack(...args: readonly string[]) {
  const { stdout } = await promisify(execFile)("npm", ["pack", "--json", "--ignore-scripts", ...args], {
    cwd: root,
    shell: process.platform === "win32",
  });
  return Packed.parse(JSON.parse(stdout))[0];
}

async function done(openclaw: OpenClaw, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await openclaw.run(args);
  assert.equal(code, 0, `${stdout}\n${stderr}`);
  return stdout;
}

/** It is loaded from there with all its tools, and one of them answers. */
async function works(openclaw: OpenClaw, folder: string) {
  const inspected = await done(openclaw, "plugins", "inspect", "kars-mesh", "--runtime", "--json");
  const { plugin, diagnostics } = Inspection.parse(JSON.parse(inspected));
  assert.equal(plugin.status, "loaded");
  assert.ok(plugin.rootDir.startsWith(folder), plugin.rootDir);
  assert.deepEqual(plugin.toolNames, TOOLS);
  assert.deepEqual(diagnostics, []);
  const gateway = await openclaw.gateway();
  const { status } = await gateway.invoke("discover", {});
  assert.equal(status, 500, gateway.log());
  assert.match(gateway.log(), /\[not_paired\]/);
  await gateway.stop();
}

/** What OpenClaw's audit says against the plugin. */
async function complaints(openclaw: OpenClaw) {
  const { findings } = Audit.parse(JSON.parse(await done(openclaw, "security", "audit", "--deep", "--json")));
  assert.notEqual(findings.length, 0);
  return findings.filter((finding) => JSON.stringify(finding).includes("kars-mesh"));
}

const unpaired = (context: TestContext, paths: readonly string[] = []) =>
  openOpenClaw(context, { plugins: { ...PLUGINS, ...(paths.length > 0 && { load: { paths } }) } });

test("the package holds what runs, and is small", async () => {
  const { files, size, unpackedSize } = await npmPack("--dry-run");
  assert.ok(size < 1_000_000 && unpackedSize < 2_000_000, `${size}, ${unpackedSize}`);
  const paths = files.map(({ path }) => path);
  const RUNS =
    /^(?:dist\/(?:[a-z-]+\/)*[a-z0-9-]+\.js|dist\/page\/(?:index\.html|style\.css|charts\.json)|(?:dist\/)?openclaw\.plugin\.json|(?:dist\/)?skills\/mesh-federation\/SKILL\.md|nemoclaw\/(?:preset\.yaml|setup\.sh|Dockerfile\.snippet|README\.md)|package\.json|README\.md|CHANGELOG\.md|LICENSE)$/;
  assert.deepEqual(
    paths.filter((path) => !RUNS.test(path) || /(?:^|\/)tests?\/|\.(?:test|spec)\./.test(path)),
    [],
  );
  for (const path of ["dist/plugin/index.js", "dist/cli/kars-mesh.js", "openclaw.plugin.json"])
    assert.ok(paths.includes(path), path);
});

describe("an OpenClaw", { concurrency: 2 }, () => {
  test("it is installed from a tarball of npm pack, and nothing is said against it", async (context) => {
    const openclaw = await unpaired(context);
    const { filename } = await npmPack("--pack-destination", openclaw.folder);
    await done(openclaw, "plugins", "install", `npm-pack:${join(openclaw.folder, filename)}`, ...TRUST);
    await works(openclaw, join(openclaw.folder, "state/npm/projects"));
    assert.doesNotMatch(await done(openclaw, "plugins", "doctor"), /kars-mesh/);
    assert.deepEqual(await complaints(openclaw), []);
  });

  test("it is linked", async (context) => {
    const openclaw = await unpaired(context);
    await done(openclaw, "plugins", "install", "--link", packageFolder, ...TRUST);
    await works(openclaw, packageFolder);
  });

  test("it is found in the folder for extensions, where the audit also reads its code", async (context) => {
    const openclaw = await unpaired(context);
    const folder = join(openclaw.folder, "state/extensions/kars-mesh");
    await mkdir(join(folder, ".."), { recursive: true });
    await cp(packageFolder, folder, { recursive: true });
    await works(openclaw, folder);
    const [policy, code, ...others] = await complaints(openclaw);
    assert.deepEqual(others, []);
    // Of any plugin there, as long as no profile of tools is chosen.
    assert.equal(policy?.checkId, "plugins.tools_reachable_permissive_policy");
    // The package brings kars-local, which asks an operator's policy and runs what sandboxes are given, the demo, which runs laptops,
    // and the inspector, which opens a browser. The plugin loads none of them unless `openclaw mesh` is asked for it.
    assert.equal(code?.checkId, "plugins.code_safety");
    assert.deepEqual(code?.detail.match(/\[[a-z-]+\]|dist\/[a-z/-]+\.js/g)?.sort(), [
      ...Array.from({ length: 4 }, () => "[dangerous-exec]"),
      "dist/cli/browser.js",
      "dist/cli/demo.js",
      "dist/cluster/policy.js",
      "dist/cluster/runner/execute.js",
    ]);
  });

  test("it is loaded from ~/.openclaw-data/extensions when plugins.load.paths says so", async (context) => {
    const home = await temporaryFolder(context);
    const extensions = join(home, ".openclaw-data/extensions");
    await mkdir(extensions, { recursive: true });
    await cp(packageFolder, join(extensions, "kars-mesh"), { recursive: true });
    await works(await unpaired(context, [extensions]), extensions);
  });
});

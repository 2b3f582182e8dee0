import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it, onTestFinished, vi } from "vitest";
import { z } from "zod";
import { readConfig } from "../../src/plugin/config.ts";
import * as entry from "../../src/plugin/index.ts";
import { TOOLS } from "../openclaw/tools.ts";
import { openPlugin, temporaryFolder } from "./world.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const Manifest = z.object({
  id: z.string(),
  name: z.string(),
  description: z.string(),
  version: z.string(),
  contracts: z.object({ tools: z.array(z.string()) }),
  toolMetadata: z.record(
    z.string(),
    z.object({ sideEffecting: z.boolean().optional(), replaySafe: z.boolean().optional() }),
  ),
  cliCommands: z.array(z.object({ name: z.string(), description: z.string(), hasSubcommands: z.boolean() })),
  commandAliases: z.array(z.object({ name: z.string(), kind: z.string(), cliCommand: z.string() })),
  configSchema: z.object({ properties: z.record(z.string(), z.unknown()) }),
  uiHints: z.record(z.string(), z.unknown()),
});
const readJson = (name: string): unknown => JSON.parse(readFileSync(join(root, name), "utf8"));
const manifest = Manifest.parse(readJson("openclaw.plugin.json"));

it("registers the eight tools that the manifest declares, and one service", async () => {
  const plugin = openPlugin({ home: await temporaryFolder() });
  expect(plugin.names).toEqual(TOOLS);
  expect(manifest.contracts.tools).toEqual(plugin.names);
  expect(Object.keys(manifest.toolMetadata)).toEqual(plugin.names);
  expect(plugin.service.id).toBe("kars-mesh");
  expect(entry.activate).toBe(entry.register);
  expect(entry.default).toMatchObject({ id: manifest.id, name: manifest.name, description: manifest.description });
  expect(Object.keys(manifest.uiHints)).toEqual(Object.keys(manifest.configSchema.properties));
  expect(manifest.version).toBe(z.object({ version: z.string() }).parse(readJson("package.json")).version);
});

it("registers /mesh for the owner, the command line that the manifest declares, and methods that only read", () => {
  const plugin = openPlugin();
  expect(plugin.command).toMatchObject({
    name: "mesh",
    acceptsArgs: true,
    requireAuth: true,
    requiredScopes: ["operator.write"],
  });
  expect(plugin.cli.descriptors).toEqual(
    manifest.cliCommands.map((command) => ({ ...command, machineOutput: expect.any(Function) })),
  );
  expect(manifest.commandAliases).toEqual([{ name: "mesh", kind: "runtime-slash", cliCommand: "mesh" }]);
  expect(Object.fromEntries(plugin.methods)).toEqual({
    "mesh.status": "operator.read",
    "mesh.inbox": "operator.read",
    "mesh.offloads": "operator.read",
  });
});

it("describes each tool in plain JSON Schema by the fields' own names", () => {
  const plugin = openPlugin();
  for (const name of plugin.names) {
    const tool = plugin.tool(name);
    expect(tool.description.length).toBeLessThan(400);
    expect(tool.description).toMatch(/^Use /);
    expect(tool.parameters).toMatchObject({ type: "object", additionalProperties: true });
    expect(tool.parameters).toEqual(JSON.parse(JSON.stringify(tool.parameters)));
    for (const property of Object.values(
      z.record(z.string(), z.object({ description: z.string() })).parse(tool.parameters.properties),
    ))
      expect(property.description).not.toBe("");
  }
  const { properties, required } = plugin.tool("mesh_send").parameters;
  expect(Object.keys(properties ?? {})).toEqual(["to", "message"]);
  expect(required).toEqual(["to", "message"]);
  expect(plugin.tool("mesh_await").parameters.required).toEqual(["from"]);
});

it("has no effect before a tool is called: it opens nothing and keeps no process alive", async () => {
  const home = join(await temporaryFolder(), "home");
  const script = `
    const { default: plugin } = await import(${JSON.stringify(new URL("../../src/plugin/index.ts", import.meta.url).href)});
    const tools = [];
    plugin.register({
      pluginConfig: { home: ${JSON.stringify(home)} },
      logger: { info() {}, warn() {} },
      registerTool: (tool, { name }) => tools.push(name),
      registerService() {},
      registerCommand() {},
      registerCli() {},
      registerGatewayMethod() {},
    });
    const own = Object.getOwnPropertySymbols(globalThis).filter((symbol) => String(symbol).includes("kars"));
    console.log(JSON.stringify({ tools: tools.length, open: process.getActiveResourcesInfo(), own: own.length }));
  `;
  const { stdout, stderr, status } = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
    encoding: "utf8",
    timeout: 20_000,
  });
  expect(stderr).toBe("");
  expect(status).toBe(0);
  const { open, ...seen } = z
    .object({ tools: z.number(), own: z.number(), open: z.array(z.string()) })
    .parse(JSON.parse(stdout));
  expect(seen).toEqual({ tools: 8, own: 0 });
  // Standard output itself is a pipe.
  expect(open.filter((kind) => !kind.startsWith("Pipe"))).toEqual([]);
  expect(existsSync(home)).toBe(false);
});

it("reads its configuration", () => {
  expect(readConfig({ home: "~/elsewhere", name: "alice" })).toEqual({
    home: join(homedir(), "elsewhere"),
    name: "alice",
    notify: "wake",
    uploadRoots: [],
    places: {},
    limits: {},
  });
  const all = {
    acceptFrom: "verified",
    notify: "mention",
    uploadRoots: ["~/data", "/srv"],
    limits: { filesPerOffload: 3, megabytesPerFile: 100, megabytesPerOffload: 1.5, runningOffloads: 2 },
    relayUrl: "ws://127.0.0.1:1",
    registryUrl: "http://127.0.0.1:1",
  };
  const { uploadRoots, relayUrl, registryUrl, ...others } = all;
  expect(readConfig(all)).toMatchObject({
    ...others,
    uploadRoots: [join(homedir(), "data"), "/srv"],
    places: { relayUrl, registryUrl },
    maxFile: 100,
    fileSizeMax: 100_000_000,
  });
  // What the manifest names is what is read.
  expect(Object.keys({ home: "", name: "", ...all })).toEqual(Object.keys(manifest.configSchema.properties));
});

it.each([
  [{ home: "relative" }, /^\[input_invalid\] plugins\.entries\.kars-mesh\.config\.home: must be an absolute/],
  [{ name: "not a name" }, /config\.name: a name is/],
  [{ nmae: "x" }, /config: .*nmae/],
  [{ acceptFrom: "all" }, /config\.acceptFrom: /],
  [{ notify: "loudly" }, /config\.notify: /],
  [{ uploadRoots: ["/a", "b"] }, /config\.uploadRoots\.1: must be an absolute/],
  [{ limits: { filesPerOffload: 65 } }, /config\.limits\.filesPerOffload: /],
  [{ limits: { megabytesPerFile: 481 } }, /config\.limits\.megabytesPerFile: .*480/],
  [{ limits: { megabytesPerOffload: 0 } }, /config\.limits\.megabytesPerOffload: /],
  [{ limits: { runningOffloads: 0.5 } }, /config\.limits\.runningOffloads: /],
  [{ limits: { files: 1 } }, /config\.limits: .*files/],
  [{ relayUrl: "https://relay" }, /config\.relayUrl: must be a ws:\/\/ or wss:\/\/ address/],
  [{ registryUrl: "registry" }, /config\.registryUrl: must be an http:\/\/ or https:\/\/ address/],
])("names the field of the configuration that is wrong: %j", (config, message) => {
  expect(() => openPlugin(config)).toThrow(message);
});

it("takes the largest file of the configuration, else of KARS_MESH_MAX_FILE, which is megabytes", () => {
  vi.stubEnv("KARS_MESH_MAX_FILE", "50");
  onTestFinished(() => void vi.unstubAllEnvs());
  expect(readConfig({}).fileSizeMax).toBe(50_000_000);
  expect(readConfig({ limits: { megabytesPerFile: 100 } }).fileSizeMax).toBe(100_000_000);
  vi.stubEnv("KARS_MESH_MAX_FILE", "1G");
  expect(() => readConfig({})).toThrow(/KARS_MESH_MAX_FILE must be a whole number of megabytes from 1 to 480/);
});

it("takes the home of KARS_MESH_HOME, else ~/.kars/mesh", () => {
  const before = process.env.KARS_MESH_HOME;
  try {
    process.env.KARS_MESH_HOME = "/somewhere/mesh";
    expect(readConfig(undefined).home).toBe("/somewhere/mesh");
    delete process.env.KARS_MESH_HOME;
    expect(readConfig({}).home).toBe(join(homedir(), ".kars", "mesh"));
  } finally {
    if (before !== undefined) process.env.KARS_MESH_HOME = before;
  }
});

it("says not_paired before there is a pairing, and leaves nothing behind", async () => {
  const home = join(await temporaryFolder(), "home");
  const plugin = openPlugin({ home });
  await plugin.service.start();
  for (const [name, params] of [
    ["discover", {}],
    ["mesh_inbox", {}],
    ["mesh_await", { from: "bob" }],
    ["mesh_send", { to: "bob", message: "hi" }],
    ["cloud_offload", { task: "t" }],
    ["offload_status", {}],
    ["offload_cancel", { offload_id: "x" }],
  ] as const)
    await expect(plugin.call(name, params)).rejects.toThrow(/^\[not_paired\] .*kars-mesh pair/);
  expect(existsSync(home)).toBe(false);
  await plugin.service.stop();
});

it("says what is wrong with an input or a token, by code", async () => {
  const plugin = openPlugin({ home: await temporaryFolder() });
  await expect(plugin.call("mesh_send", { to: "bob" })).rejects.toThrow(/^\[input_invalid\] message: is required/);
  await expect(plugin.call("mesh_pair", { token: "hello" })).rejects.toThrow(/^\[token_mangled\] /);
  await expect(plugin.call("discover", {})).rejects.toThrow(/^\[not_paired\] /);
  await plugin.service.stop();
});

import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { temporaryDirectory } from "../store/disks.ts";
import { type Ended, readPreset, setup } from "./preset.ts";

// setup.sh as people use it: each call is a process.

const RELAY = "wss://relay.example.org";
const REGISTRY = "https://registry.example.org";
const CLUSTER = ["--relay", RELAY, "--registry", REGISTRY];

const rest = (host: string, base: string, ...more: readonly string[]) => ({
  host,
  port: 443,
  protocol: "rest",
  enforcement: "enforce",
  rules: [
    ["POST", `${base}/v1/agents`],
    ["GET", `${base}/v1/agents/*`],
    ["DELETE", `${base}/v1/agents/*`],
    ["GET", `${base}/v1/agents/*/prekeys`],
    ["PUT", `${base}/v1/agents/*/prekeys`],
    ["GET", `${base}/v1/agents/*/prekeys/count`],
    ["POST", `${base}/v1/agents/*/heartbeat`],
    ["GET", `${base}/v1/agents/*/presence`],
    ["GET", `${base}/v1/discover`],
    ["GET", `${base}/health`],
    ...more.map((path) => ["POST", path]),
  ].map(([method, path]) => ({ allow: { method, path } })),
});
const websocket = (path: string) => ({
  protocol: "websocket",
  enforcement: "enforce",
  rules: ["GET", "WEBSOCKET_TEXT"].map((method) => ({ allow: { method, path } })),
});

async function rendered(args: readonly string[], env?: Record<string, string>) {
  const ended = await setup(args, env);
  expect(ended).toMatchObject({ code: 0, stderr: "" });
  return readPreset(ended.stdout);
}

describe("setup.sh prints", () => {
  it("exactly the relay's socket, the registry's requests and pairing, for openclaw and node alone", async () => {
    expect(await rendered(CLUSTER)).toEqual({
      name: "kars-mesh",
      endpoints: [
        { host: "relay.example.org", port: 443, ...websocket("/ws") },
        rest("registry.example.org", "", "/v1/pair"),
      ],
      binaries: [{ path: "/usr/local/bin/openclaw" }, { path: "/usr/local/bin/node" }, { path: "/usr/bin/node" }],
    });
  });

  it("the same for addresses from the environment, and options before those", async () => {
    const env = { KARS_MESH_RELAY_URL: RELAY, KARS_MESH_REGISTRY_URL: REGISTRY, KARS_MESH_PAIR_URL: `${REGISTRY}/x` };
    const pair = ["--pair-url", `${REGISTRY}/v1/pair`];
    expect(await rendered(pair, env)).toEqual(await rendered(CLUSTER));
  });

  it("paths below which a cluster lives, and pairing that is elsewhere", async () => {
    const { endpoints } = await rendered([
      ...["--relay", "wss://Relay.Example.org/r/", "--registry", "https://registry.example.org/base/"],
      ...["--pair-url", "http://controller.example.org:8083/api/v1/pair"],
    ]);
    expect(endpoints).toEqual([
      { host: "relay.example.org", port: 443, ...websocket("/r/ws") },
      rest("registry.example.org", "/base"),
      {
        host: "controller.example.org",
        port: 8083,
        protocol: "rest",
        enforcement: "enforce",
        rules: [{ allow: { method: "POST", path: "/api/v1/pair" } }],
      },
    ]);
  });

  it("two endpoints told apart by path, where relay and registry are one server", async () => {
    const { endpoints } = await rendered([
      "--relay",
      "wss://mesh.example.org",
      "--registry",
      "https://mesh.example.org",
    ]);
    expect(endpoints).toEqual([
      { host: "mesh.example.org", port: 443, path: "/ws", ...websocket("/ws") },
      rest("mesh.example.org", "", "/v1/pair"),
    ]);
  });

  it("a plain tunnel to the relay when it is asked for", async () => {
    const { endpoints } = await rendered([...CLUSTER, "--tunnel"]);
    expect(endpoints[0]).toEqual({ host: "relay.example.org", port: 443, access: "full" });
  });

  it("the private networks that are named, at every endpoint", async () => {
    const networks = ["10.20.0.0/16", "fd00:1::/32"];
    const { endpoints } = await rendered([...CLUSTER, ...networks.flatMap((each) => ["--allowed-ip", each])]);
    expect(endpoints.map(({ allowed_ips }) => allowed_ips)).toEqual([networks, networks]);
  });

  it("a private address that is named as a host, and the networks of NemoClaw's bridge to its own machine", async () => {
    const { endpoints } = await rendered([
      ...["--relay", "ws://172.16.9.9:7780", "--registry", "http://host.openshell.internal:7780"],
      ...["--pair-url", "https://192.0.2.1/v1/pair"],
    ]);
    expect(endpoints.map(({ port, allowed_ips }) => [port, allowed_ips])).toEqual([
      [7780, ["172.16.9.9/32"]],
      [7780, ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]],
      [443, undefined],
    ]);
  });

  it("another name and other programs", async () => {
    const binaries = ["/opt/node-24/bin/node", "/opt/openclaw"];
    const args = [...CLUSTER, "--name", "mesh-2", ...binaries.flatMap((path) => ["--binary", path])];
    expect(await rendered(args)).toMatchObject({ name: "mesh-2", binaries: binaries.map((path) => ({ path })) });
  });

  it("its help", async () => {
    const { code, stdout } = await setup(["--help"]);
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^Usage: setup\.sh --relay URL --registry URL/)]);
  });
});

describe("what is wrong ends with 2, names the option and says what to do", () => {
  it.each<[readonly string[], RegExp]>([
    [[], /^setup\.sh: --relay is missing: give/],
    [["--relay", RELAY], /: --registry is missing: give/],
    [["--relay"], /: --relay wants a value: see --help/],
    [["--relay", ""], /: --relay wants a value/],
    [["--everything"], /: --everything is no option: see --help/],
    [[...CLUSTER, "relay"], /: relay is no option/],
    [["--relay", "https://relay.example.org"], /: --relay: ".*" is no such address: give one like wss:/],
    [["--relay", "wss://user:word@relay.example.org"], /: --relay: ".*" is no such address/],
    [["--relay", "wss://relay.example.org/ws?a=b"], /: --relay: ".*" is no such address/],
    [["--relay", "wss://relay.example.org:0"], /: --relay: port 0 does not exist: give one from 1 to 65535/],
    [["--relay", "wss://relay.example.org:65536"], /: --relay: port 65536 does not exist/],
    [["--relay", "wss://relay.example.org:080"], /: --relay: port 080 does not exist/],
    [
      ["--relay", "wss://relay.example.org:18446744073709551617"],
      /: --relay: port 18446744073709551617 does not exist/,
    ],
    [["--relay", "wss://*"], /: --relay: "\*" is no host: give a name/],
    [["--relay", "wss://*.example.org"], /: --relay: ".*" is no host/],
    [["--relay", "wss://relay.example.org."], /: --relay: ".*" is no host/],
    [["--relay", "wss://relay..org"], /: --relay: ".*" is no host/],
    [["--relay", "wss://relé.org"], /: --relay: ".*" is no host/],
    [["--relay", "wss://-relay.org"], /: --relay: ".*" is no host/],
    [["--relay", "wss://256.1.1.1"], /: --relay: ".*" is no host/],
    [["--relay", `wss://${"a".repeat(64)}.org`], /: --relay: ".*" is no host/],
    [["--relay", 'wss://relay"org'], /: --relay: ".*" is no host/],
    [["--relay", "wss://$(id).org"], /: --relay: ".*" is no host/],
    [["--relay", "wss://relay.org\n      - host: evil.org"], /: --relay holds a line break/],
    [["--relay", "wss://relay.org/`id`"], /: --relay: the path ".*" is not plain/],
    [["--relay", "wss://relay.org/**"], /: --relay: the path ".*" is not plain/],
    [["--relay", "wss://relay.org/a/../b"], /: --relay: the path ".*" is not plain/],
    [["--relay", "wss://[fd00::1]:80"], /: --relay: an IPv6 address cannot be named/],
    [["--relay", "ws://localhost:7780"], /: --relay: localhost is the sandbox itself, there: name this machine host\./],
    [["--relay", "ws://127.0.0.1:7780"], /: --relay: 127\.0\.0\.1 is the sandbox itself/],
    [["--relay", "ws://0.0.0.0:7780"], /: --relay: 0\.0\.0\.0 is never let through: give/],
    [["--relay", "ws://169.254.169.254"], /: --relay: 169\.254\.169\.254 is never let through/],
    [["--relay", RELAY, "--registry", "ws://registry.example.org"], /: --registry: ".*" is no such address/],
    [[...CLUSTER, "--pair-url", "controller.example.org"], /: --pair-url: ".*" is no such address/],
    [[...CLUSTER, "--pair-url", "https://controller.example.org/"], /: --pair-url: ".*" names no path: the whole/],
    [[...CLUSTER, "--allowed-ip", "10.20.0.0"], /: --allowed-ip: ".*" is no network: give/],
    [[...CLUSTER, "--allowed-ip", "10.20.0.0/33"], /: --allowed-ip: ".*" is no network/],
    [[...CLUSTER, "--allowed-ip", "10.20.0/16"], /: --allowed-ip: ".*" is no network/],
    [[...CLUSTER, "--allowed-ip", "fd00::/129"], /: --allowed-ip: ".*" is no network/],
    [[...CLUSTER, "--allowed-ip", "0.0.0.0/0"], /: --allowed-ip: .* is as good as everything/],
    [[...CLUSTER, "--allowed-ip", "::/0"], /: --allowed-ip: .* is as good as everything/],
    [[...CLUSTER, "--allowed-ip", "127.0.0.0/8"], /: --allowed-ip: .* is never let through/],
    [[...CLUSTER, "--allowed-ip", "169.254.0.0/16"], /: --allowed-ip: .* is never let through/],
    [[...CLUSTER, "--allowed-ip", "10.0.0.0/16", "--allowed-ip", "x"], /: --allowed-ip: "x" is no network/],
    [[...CLUSTER, "--binary", "node"], /: --binary: "node" is no plain absolute path: give/],
    [[...CLUSTER, "--binary", "/usr/bin/*"], /: --binary: ".*" is no plain absolute path/],
    [[...CLUSTER, "--binary", "/usr/../bin/node"], /: --binary: ".*" is no plain absolute path/],
    [[...CLUSTER, "--binary", '/bin/node" }'], /: --binary: ".*" is no plain absolute path/],
    [[...CLUSTER, "--name", "Kars_Mesh"], /: --name: "Kars_Mesh" is no name for a preset: give lower-case/],
    [[...CLUSTER, "--name", "../mesh"], /: --name: ".*" is no name/],
    [[...CLUSTER, "--apply"], /: --sandbox is missing: --apply needs to know which/],
    [[...CLUSTER, "--apply", "--sandbox", "--help"], /: --sandbox: "--help" is no name of a sandbox/],
    [
      ["--relay", "wss://mesh.example.org", "--registry", "https://mesh.example.org", "--tunnel"],
      /: --tunnel: mesh\.example\.org:443 is not the relay alone.* leave --tunnel away/,
    ],
  ])("%j", async (args, message) => {
    const { code, stdout, stderr } = await setup(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(message);
    expect(stderr.trim().split("\n")).toHaveLength(1);
  });
});

describe("setup.sh --install", () => {
  const install = (directory: string, ...more: readonly string[]) =>
    setup([...CLUSTER, "--install", "--dir", directory, ...more]);

  it("writes what it would print, once", async () => {
    const directory = join(await temporaryDirectory(), "presets");
    const first = await install(directory);
    expect(first).toMatchObject({ code: 0, stdout: "" });
    expect(first.stderr).toMatch(/kars-mesh\.yaml is written\.\n.*nemoclaw SANDBOX policy add kars-mesh\n$/);
    const { stdout } = await setup(CLUSTER);
    expect(await readFile(join(directory, "kars-mesh.yaml"), "utf8")).toBe(stdout);
    const again = await install(directory);
    expect(again).toMatchObject({ code: 0, stderr: expect.stringMatching(/kars-mesh\.yaml is unchanged\.\n/) });
    expect(await readdir(directory)).toEqual(["kars-mesh.yaml"]);
  });

  it("keeps what was there with other rules", async () => {
    const directory = await temporaryDirectory();
    await install(directory);
    const before = await readFile(join(directory, "kars-mesh.yaml"), "utf8");
    const { code, stderr } = await install(directory, "--binary", "/opt/node");
    expect([code, stderr]).toEqual([
      0,
      expect.stringMatching(/had other rules: they are kept in kars-mesh\.yaml\.bak/),
    ]);
    expect((await readdir(directory)).toSorted()).toEqual(["kars-mesh.yaml", "kars-mesh.yaml.bak"]);
    expect(await readFile(join(directory, "kars-mesh.yaml.bak"), "utf8")).toBe(before);
    const { binaries } = readPreset(await readFile(join(directory, "kars-mesh.yaml"), "utf8"));
    expect(binaries).toEqual([{ path: "/opt/node" }]);
  });

  it("leaves another's preset alone", async () => {
    const directory = await temporaryDirectory();
    await writeFile(join(directory, "slack.yaml"), "preset: {}\n");
    const { code, stderr } = await install(directory, "--name", "slack");
    expect([code, stderr]).toEqual([1, expect.stringMatching(/slack\.yaml is another preset: choose another --name/)]);
    expect(await readFile(join(directory, "slack.yaml"), "utf8")).toBe("preset: {}\n");
  });

  it("finds NemoClaw's own folder, and says so when it is not there", async () => {
    const home = await temporaryDirectory();
    const missing = await setup([...CLUSTER, "--install"], { HOME: home });
    expect(missing).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/are not in .*: name their folder with --dir/),
    });
    for (const [env, root] of [
      [{ HOME: home }, join(home, ".nemoclaw")],
      [{ NEMOCLAW_HOME: join(home, "elsewhere") }, join(home, "elsewhere")],
    ] as const) {
      const presets = join(root, "source/nemoclaw-blueprint/policies/presets");
      await mkdir(presets, { recursive: true });
      expect(await setup([...CLUSTER, "--install"], env)).toMatchObject({ code: 0 });
      expect(await readdir(presets)).toEqual(["kars-mesh.yaml"]);
    }
  });

  it("says when it cannot write", async () => {
    const file = join(await temporaryDirectory(), "file");
    await writeFile(file, "");
    expect(await install(join(file, "presets"))).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/cannot be made: name a folder of yours with --dir/),
    });
  });
});

describe("setup.sh --apply", () => {
  /** A `nemoclaw` that keeps its arguments and the file that it was given. */
  async function fakeNemoclaw(help = "nemoclaw SANDBOX policy add", status = 0) {
    const directory = await temporaryDirectory();
    await writeFile(
      join(directory, "nemoclaw"),
      `#!/bin/sh
if [ "$1" = --help ]; then echo "${help}"; exit 0; fi
printf '%s\\n' "$@" >"${directory}/arguments"
for each; do case $each in *.yaml) cp "$each" "${directory}/preset" ;; esac; done
exit ${status}
`,
    );
    await chmod(join(directory, "nemoclaw"), 0o755);
    return {
      env: { PATH: `${directory}:${process.env.PATH}`, TMPDIR: directory },
      directory,
      asked: async () => (await readFile(join(directory, "arguments"), "utf8")).trim().split("\n"),
      given: async () => readPreset(await readFile(join(directory, "preset"), "utf8")),
    };
  }
  const apply = (args: readonly string[], env: Record<string, string>): Promise<Ended> =>
    setup([...args, "--apply", "--sandbox", "my-assistant"], env);

  it("gives nemoclaw a file of its own, and leaves none behind", async () => {
    const { env, directory, asked, given } = await fakeNemoclaw();
    const ended = await apply(CLUSTER, env);
    expect(ended).toMatchObject({ code: 0, stdout: "", stderr: expect.stringMatching(/openclaw mesh doctor\n$/) });
    expect(await asked()).toEqual([
      ...["my-assistant", "policy", "add", "--from-file", expect.stringMatching(/\/kars-mesh\.yaml$/), "--yes"],
    ]);
    expect(await given()).toEqual(readPreset((await setup(CLUSTER)).stdout));
    expect((await readdir(directory)).toSorted()).toEqual(["arguments", "nemoclaw", "preset"]);
  });

  it("lets NemoClaw pin private hosts, each named once, and names networks for its bridge alone", async () => {
    const { env, asked, given } = await fakeNemoclaw();
    const args = [
      ...["--relay", "ws://10.1.2.3:7780", "--registry", "http://10.1.2.3:7780"],
      ...["--pair-url", "http://host.openshell.internal:7780/v1/pair"],
    ];
    expect(await apply(args, env)).toMatchObject({ code: 0 });
    expect((await asked()).slice(5)).toEqual(["--trusted-private-host", "10.1.2.3", "--yes"]);
    expect((await given()).endpoints.map(({ allowed_ips }) => allowed_ips?.length)).toEqual([undefined, undefined, 3]);
    expect(await apply([...CLUSTER, "--allowed-ip", "10.0.0.0/8"], env)).toMatchObject({ code: 0 });
    const trusted = ["relay", "registry"].flatMap((name) => ["--trusted-private-host", `${name}.example.org`]);
    expect((await asked()).slice(5)).toEqual([...trusted, "--yes"]);
    expect((await given()).endpoints.map(({ allowed_ips }) => allowed_ips)).toEqual([undefined, undefined]);
  });

  it("names the preset of the catalog after --install, in the older spelling where there is no other", async () => {
    const { env, asked } = await fakeNemoclaw("nemoclaw SANDBOX policy-add");
    const presets = await temporaryDirectory();
    const args = [...CLUSTER, "--allowed-ip", "10.0.0.0/8", "--install", "--dir", presets];
    expect(await apply(args, env)).toMatchObject({ code: 0 });
    expect(await asked()).toEqual(["my-assistant", "policy-add", "kars-mesh", "--yes"]);
    expect(await readdir(presets)).toEqual(["kars-mesh.yaml"]);
  });

  it("fails with nemoclaw, and says so", async () => {
    const { env } = await fakeNemoclaw(undefined, 3);
    const { code, stderr } = await apply(CLUSTER, env);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/: nemoclaw my-assistant policy add .* did not work/)]);
  });

  it("says what to do where there is no nemoclaw", async () => {
    const { code, stderr } = await apply(CLUSTER, { PATH: "/usr/bin:/bin" });
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/there is no nemoclaw here .*: run this where NemoClaw is/),
    ]);
  });
});

// Tries the plugin in releases of OpenClaw, newest to oldest, and writes what was seen to docs/compatibility.md.
//
//   node test/openclaw/compatibility.mjs [--releases V,V…] [--check]
//
// `--check` compares with the file instead of writing it; so does a run of chosen releases, with their rows. Ends with 1 when they
// differ, or when a release that package.json promises does not do what it must. Each release takes up to 1.4 GB in `.cache/`.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openMesh } from "../../src/actors/mesh.ts";
import { install, layOutPackage, NEWEST, readJson, root } from "./installation.mjs";
import { openOpenClaw, packageFolder, startCluster, temporaryFolder } from "./openclaw.ts";
import { TOOLS } from "./tools.ts";

const RELEASES = [NEWEST, "2026.8.2", "2026.6.11", "2026.4.29", "2026.3.28", "2026.2.26", "2026.1.29"];
const REPORT = join(root, "docs/compatibility.md");
const { minGatewayVersion } = readJson(join(root, "package.json")).openclaw.compat;

/** What is tried, in this order, and what the column is called. */
const CHECKS = {
  loads: "loads",
  tools: "eight tools",
  pairs: "pairs",
  discovers: "discovers",
  sends: "sends",
  receives: "receives",
  command: "`/mesh`",
  cli: "`openclaw mesh`",
  methods: "gateway methods",
  tells: "tells sessions",
  wakes: "wakes them",
};
/** Without these the plugin is of no use. */
const NEEDED = ["loads", "tools", "pairs", "discovers", "sends", "receives"];

/** A plugin that writes down what this OpenClaw gives to plugins. */
const probe = (path) => `
import { writeFileSync } from "node:fs";
export function register({ runtime: { system } = {} }) {
  const has = (of, name) => typeof of?.[name] === "function";
  const wakes = has(system, "requestHeartbeat") || has(system, "requestHeartbeatNow");
  writeFileSync(${JSON.stringify(path)}, JSON.stringify({ tells: has(system, "enqueueSystemEvent"), wakes }));
}
export const activate = register;
export default { id: "probe", name: "Probe", register };
`;

function layOutProbe(folder) {
  const seen = join(folder, "probe.json");
  const directory = join(folder, "probe");
  mkdirSync(directory);
  const files = {
    "package.json": { name: "probe", version: "1.0.0", type: "module", openclaw: { extensions: ["./index.js"] } },
    "openclaw.plugin.json": { id: "probe", activation: { onStartup: true }, configSchema: { type: "object" } },
  };
  for (const [name, json] of Object.entries(files)) writeFileSync(join(directory, name), JSON.stringify(json));
  writeFileSync(join(directory, "index.js"), probe(seen));
  return { directory, seen };
}

const firstLine = (text) => text.trim().split("\n")[0]?.slice(0, 300) ?? "";
function must(holds, reason) {
  if (!holds) throw new Error(reason);
}

/** Answers of the command line may follow notes. */
const document = (stdout) => JSON.parse(stdout.slice(stdout.search(/^\{/m)));

/** How the plugin is inspected: the option came with later releases, which load nothing without it; so did the word. */
const INSPECTIONS = [
  ["plugins", "inspect", "kars-mesh", "--runtime", "--json"],
  ["plugins", "inspect", "kars-mesh", "--json"],
  ["plugins", "info", "kars-mesh", "--json"],
];

async function inspect(openclaw) {
  let output;
  for (const words of INSPECTIONS) {
    output = await openclaw.run(words);
    if (output.code === 0) break;
  }
  must(output.code === 0, firstLine(output.stderr));
  const { plugin = {}, ...others } = document(output.stdout);
  return { ...plugin, ...others, ...(others.plugin ?? {}), id: plugin.id ?? others.id };
}

/** @returns what held, by check: true, or why not */
async function examine(scope, version) {
  const program = join(install(version), "openclaw.mjs");
  const held = {};
  const check = async (name, work) => {
    try {
      held[name] = (await work()) ?? true;
    } catch (error) {
      held[name] = firstLine(error.message);
    }
  };
  const openclaw = await openOpenClaw(scope, {}, { installation: { program, node: process.execPath } });
  const home = join(openclaw.folder, "mesh");
  const { directory, seen } = layOutProbe(openclaw.folder);
  await openclaw.configure({
    tools: {},
    plugins: {
      allow: ["kars-mesh", "probe"],
      load: { paths: [packageFolder, directory] },
      entries: { "kars-mesh": { enabled: true, config: { home, name: "alice" } }, probe: { enabled: true } },
    },
  });

  let inspected = {};
  await check("loads", async () => {
    inspected = await inspect(openclaw);
    must(inspected.status === "loaded", `it is ${inspected.status}: ${inspected.error ?? ""}`);
    const errors = (inspected.diagnostics ?? []).filter(({ level }) => level === "error");
    must(errors.length === 0, errors.map(({ message }) => message).join("; "));
  });
  await check("tools", () =>
    must(JSON.stringify(inspected.toolNames) === JSON.stringify(TOOLS), `it has ${inspected.toolNames}`),
  );
  await check("command", () => must(inspected.commands?.includes("mesh"), "it is not registered"));

  const { token } = await startCluster(scope);
  const bob = await openMesh({ home: await temporaryFolder(scope) });
  scope.after(() => bob.close());
  await bob.call("pair", { token: await token("bob-laptop"), name: "bob" });
  const gateway = await openclaw.gateway();
  const invoke = async (tool, args) => {
    const { status, body } = await gateway.invoke(tool, args);
    must(status === 200, `${status} ${JSON.stringify(body)}`);
    return body.result;
  };
  let did = "";
  await check("pairs", async () => {
    did = (await invoke("mesh_pair", { token: await token("alice-laptop") })).details.did;
  });
  await check("discovers", async () => {
    must(JSON.stringify(await invoke("discover", { name: "bob" })).includes("bob"), "bob is not found");
  });
  await check("sends", async () => {
    await invoke("mesh_send", { to: "bob", message: "to bob" });
    const { messages } = await bob.call("await", { from: [did], timeout_ms: 20_000 });
    must(messages[0]?.body === "to bob", "it did not arrive");
  });
  await check("receives", async () => {
    await bob.call("send", { to: did, message: "to alice" });
    await invoke("mesh_await", { from: "bob", timeout_seconds: 20 });
    must(JSON.stringify(await invoke("mesh_inbox", { all: true })).includes("to alice"), "it is not in the inbox");
  });
  const tellsWho = async (...words) => {
    const { code, stdout, stderr } = await openclaw.run([...words, "--json"]);
    must(code === 0 && stdout.includes("{"), firstLine(stderr || stdout));
    must(document(stdout).did === did, "it is another agent");
  };
  await check("methods", () => tellsWho("gateway", "call", "mesh.status"));
  await check("cli", () => tellsWho("mesh", "whoami"));
  await check("tells", () => must(readJson(seen).tells, "plugins cannot give a session an event"));
  await check("wakes", () =>
    must(readJson(seen).wakes, "plugins cannot ask for a turn; a session hears of news at its next one"),
  );
  await gateway.stop();
  if (NEEDED.some((name) => held[name] !== true)) console.error(gateway.log());
  return { version, built: builtOf(program), held };
}

const builtOf = (program) => readJson(join(program, "../dist/build-info.json")).builtAt.slice(0, 10);

async function inScope(work) {
  const ends = [];
  try {
    return await work({ after: (end) => ends.push(end) });
  } finally {
    for (const end of ends.reverse()) await end();
  }
}

const [node] = process.versions.node.split(".");
const rowOf = ({ version, built, held }) =>
  `| ${[version, built, node, ...Object.keys(CHECKS).map((name) => (held[name] === true ? "yes" : "no"))].join(" | ")} |`;
const reasonsOf = ({ version, held }) =>
  Object.entries(CHECKS)
    .filter(([name]) => held[name] !== true)
    .map(([name, title]) => `- ${version}, ${title}: ${held[name]}`);

function render(seen) {
  const titles = ["OpenClaw", "built", "Node", ...Object.values(CHECKS)];
  const reasons = seen.flatMap(reasonsOf);
  return `# Releases of OpenClaw

Written by \`npm run test:compatibility\`, which starts each release's own gateway on the Node named here, with the plugin as it is
packed, and a cluster and a peer on the same machine. \`package.json\` promises ${minGatewayVersion} and newer. \`/mesh\` was seen to be registered;
“tells sessions” and “wakes them” say that plugins have a way to hand a session an event, and to ask for a turn of an idle one. All
else was seen to work.

| ${titles.join(" | ")} |
|${titles.map(() => " --- |").join("")}
${seen.map(rowOf).join("\n")}
${reasons.length > 0 ? `\nWhy not:\n\n${reasons.join("\n")}\n` : ""}`;
}

const parts = (version) => version.split(/[.-]/).map(Number);
function isPromised(version) {
  const [have, least] = [parts(version), parts(minGatewayVersion)];
  const at = least.findIndex((part, index) => part !== have[index]);
  return at < 0 || have[at] > least[at];
}

const { values } = parseArgs({ options: { releases: { type: "string" }, check: { type: "boolean", default: false } } });
const chosen = values.releases?.split(",") ?? RELEASES;
layOutPackage();
for (const version of chosen) install(version);
const seen = [];
const waiting = [...chosen.entries()];
async function examineThem() {
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    const [n, version] = next;
    seen[n] = await inScope((scope) => examine(scope, version)).catch((error) => {
      const held = Object.fromEntries(Object.keys(CHECKS).map((name) => [name, firstLine(error.message)]));
      return { version, built: "", held };
    });
    console.log([rowOf(seen[n]), ...reasonsOf(seen[n])].join("\n"));
  }
}
// One starts while the other waits.
await Promise.all([examineThem(), examineThem()]);
const broken = seen.filter(({ version, held }) => isPromised(version) && NEEDED.some((name) => held[name] !== true));
for (const { version } of broken) console.error(`package.json promises ${version}, and it does not work there.`);
let isStale = false;
if (values.check || values.releases) {
  const written = readFileSync(REPORT, "utf8");
  const missing = seen.map(rowOf).filter((row) => !written.split("\n").includes(row));
  for (const row of missing) console.error(`docs/compatibility.md does not say: ${row}`);
  isStale = missing.length > 0 || (!values.releases && written !== render(seen));
} else writeFileSync(REPORT, render(seen));
process.exitCode = broken.length > 0 || isStale ? 1 : 0;

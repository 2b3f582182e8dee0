// Proves the plugin in the real OpenClaw: installs it beside the project if it is not there, builds the plugin, and runs the
// tests of this folder. Not part of `npm test`: the first run downloads 650 MB.
//
//   node test/openclaw/run.mjs [load|command|agent|push…]
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const VERSION = "2026.9.6";
const root = fileURLToPath(new URL("../..", import.meta.url));
const cache = `${root}.cache/openclaw`;
const installed = `${cache}/node_modules/openclaw/package.json`;

function run(command, args) {
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: "inherit",
    shell: command === "npm" && process.platform === "win32",
  });
  if (error) console.error(error.message);
  if (status !== 0) process.exit(status ?? 1);
}

const readJson = (path) => JSON.parse(readFileSync(path, "utf8"));

/** The package as a user has it installed: what `files` names, and its dependencies beside it. */
function layOut(target) {
  rmSync(target, { recursive: true, force: true });
  const { files, dependencies } = readJson(`${root}package.json`);
  for (const name of ["package.json", ...files])
    if (existsSync(root + name)) cpSync(root + name, `${target}/${name}`, { recursive: true });
  const wanted = new Set(Object.keys(dependencies));
  for (const name of wanted) {
    const folder = `node_modules/${name}`;
    cpSync(root + folder, `${target}/${folder}`, { recursive: true });
    for (const each of Object.keys(readJson(`${root}${folder}/package.json`).dependencies ?? {})) wanted.add(each);
  }
}

if (!existsSync(installed) || readJson(installed).version !== VERSION) {
  console.error(`Installing OpenClaw ${VERSION} into ${cache}…`);
  mkdirSync(cache, { recursive: true });
  writeFileSync(`${cache}/package.json`, JSON.stringify({ name: "openclaw-cache", private: true }));
  run("npm", ["install", "--prefix", cache, `openclaw@${VERSION}`, "--no-audit", "--no-fund", "--loglevel=error"]);
}
run(process.execPath, [`${root}scripts/build.mjs`]);
layOut(`${cache}/package`);
const SUITES = ["load", "command", "agent", "push", "peers", "runner", "restart"];
const chosen = process.argv.slice(2);
const tests = (chosen.length > 0 ? chosen : SUITES).map((name) => `${root}test/openclaw/${name}.test.ts`);
run(process.execPath, ["--test", "--test-concurrency=1", "--test-timeout=300000", ...tests]);

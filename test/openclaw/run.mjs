// Proves the plugin in the real OpenClaw: installs it beside the project if it is not there, builds the plugin, and runs the
// tests of this folder. Not part of `npm test`: the first run downloads 650 MB.
//
//   node test/openclaw/run.mjs
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
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

if (!existsSync(installed) || JSON.parse(readFileSync(installed, "utf8")).version !== VERSION) {
  console.error(`Installing OpenClaw ${VERSION} into ${cache}…`);
  mkdirSync(cache, { recursive: true });
  writeFileSync(`${cache}/package.json`, JSON.stringify({ name: "openclaw-cache", private: true }));
  run("npm", ["install", "--prefix", cache, `openclaw@${VERSION}`, "--no-audit", "--no-fund", "--loglevel=error"]);
}
run(process.execPath, [`${root}scripts/build.mjs`]);
const tests = ["load", "agent"].map((name) => `${root}test/openclaw/${name}.test.ts`);
run(process.execPath, ["--test", "--test-concurrency=1", "--test-timeout=300000", ...tests]);

// Proves that we speak with the published client: installs it beside the project if it is not there, and runs the tests of
// this folder. Not part of `npm test`, which downloads nothing.
//
//   node test/interop/run.mjs
//   AGT_LIVE_TEST=1 AGT_RELAY_URL=ws://… AGT_REGISTRY_URL=http://… node test/interop/run.mjs
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const NAME = "@microsoft/agent-governance-sdk";
const VERSION = "4.0.0";
const root = fileURLToPath(new URL("../..", import.meta.url));
const cache = `${root}.cache/interop`;
const installed = `${cache}/node_modules/${NAME}/package.json`;

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
  console.error(`Installing ${NAME} ${VERSION} into ${cache}…`);
  mkdirSync(cache, { recursive: true });
  writeFileSync(`${cache}/package.json`, JSON.stringify({ name: "interop-cache", private: true }));
  const options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
  run("npm", ["install", "--prefix", cache, `${NAME}@${VERSION}`, ...options]);
}
const config = `${root}test/interop/vitest.config.ts`;
run(process.execPath, [`${root}node_modules/vitest/vitest.mjs`, "run", "--config", config, ...process.argv.slice(2)]);

// Installs the dependencies when they are missing or were installed for another lock file, so that `npm start` and
// `npm test` work right after a clone. Runs on whatever Node the machine has; everything after it runs on the pinned one.
//
// `npm install` and not `npm ci`: a registry that lacks a tool's builds for other platforms would fail the latter.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const stamp = `${root}node_modules/.installed-for`;
const wanted = () => {
  const hash = createHash("sha256");
  for (const name of ["package.json", "package-lock.json"]) hash.update(readFileSync(root + name));
  return hash.digest("hex");
};

if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== wanted()) {
  console.error("Installing dependencies…");
  const npm = process.env.npm_execpath;
  const [command, ...args] = npm ? [process.execPath, npm] : ["npm"];
  const options = ["install", "--no-audit", "--no-fund", "--loglevel=error"];
  const { status, error } = spawnSync(command, [...args, ...options], {
    cwd: root,
    stdio: ["ignore", 2, 2],
    shell: !npm && process.platform === "win32",
  });
  if (status !== 0) {
    console.error(`npm install failed${error ? `: ${error.message}` : ""}. Run it by hand in ${root} to see why.`);
    process.exit(status ?? 1);
  }
  writeFileSync(stamp, wanted());
}

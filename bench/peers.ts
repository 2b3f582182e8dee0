import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { CACHE } from "./harness.ts";

// The packages that ours is measured against. They are no dependencies: each is installed when a row needs it.

/** Installs a package in exactly this version, once, and gives what loads it. */
export function peer(name: string, version: string, tell: (line: string) => void): NodeJS.Require {
  const directory = join(CACHE, "peers", `${name.replaceAll("/", "-")}@${version}`);
  if (!existsSync(join(directory, "node_modules", name))) {
    tell(`Installing ${name} ${version}…`);
    mkdirSync(directory, { recursive: true });
    const npm = process.env.npm_execpath;
    const [command, ...args] = npm ? [process.execPath, npm] : ["npm"];
    const options = ["install", "--prefix", directory, "--no-audit", "--no-fund", "--loglevel=error"];
    const { status } = spawnSync(command, [...args, ...options, `${name}@${version}`], {
      stdio: ["ignore", 2, 2],
      shell: !npm && process.platform === "win32",
    });
    if (status !== 0) throw new Error(`${name} ${version} could not be installed.`);
  }
  return createRequire(join(directory, "index.js"));
}

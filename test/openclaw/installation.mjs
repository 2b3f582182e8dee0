// OpenClaw beside the project, and the plugin's package as a user has it.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { setup as build } from "../build.ts";

export const NEWEST = "2026.9.6";
export const root = fileURLToPath(new URL("../..", import.meta.url));

export const readJson = (path) => JSON.parse(readFileSync(path, "utf8"));

/** Ends this process when the command fails. */
export function run(command, args, cwd = root) {
  const { status, error } = spawnSync(command, args, {
    cwd,
    stdio: "inherit",
    shell: command === "npm" && process.platform === "win32",
  });
  if (error) console.error(error.message);
  if (status !== 0) process.exit(status ?? 1);
}

/** Where a release is, installed or not. */
export const cacheOf = (version) => `${root}.cache/openclaw${version === NEWEST ? "" : `-${version}`}`;

/** Older releases name a package of a git host, by which they speak WhatsApp's cryptography: this stands in for it. */
const ABSENT = {
  "package.json": JSON.stringify({ name: "absent", version: "0.0.0", type: "module", main: "index.js" }),
  "index.js": "export {};",
  "src/crypto.js": "export const [calculateMAC, deriveSecrets, encrypt, decrypt] = [];",
  "src/curve.js": "export const [calculateSignature, verifySignature, generateKeyPair] = [];",
};
/** Later versions of linkedom need a package that not every registry has. */
const OVERRIDES = { libsignal: "file:./absent", linkedom: "0.18.12" };

/** Installs a release unless it is there. @returns its folder */
export function install(version) {
  const cache = cacheOf(version);
  const folder = `${cache}/node_modules/openclaw`;
  const manifest = `${folder}/package.json`;
  if (existsSync(manifest) && readJson(manifest).version === version) return folder;
  console.error(`Installing OpenClaw ${version} into ${cache}…`);
  mkdirSync(`${cache}/absent/src`, { recursive: true });
  for (const [name, text] of Object.entries(ABSENT)) writeFileSync(`${cache}/absent/${name}`, text);
  const overrides = version === NEWEST ? {} : OVERRIDES;
  writeFileSync(`${cache}/package.json`, JSON.stringify({ name: "openclaw-cache", private: true, overrides }));
  run("npm", ["install", `openclaw@${version}`, "--no-audit", "--no-fund", "--loglevel=error"], cache);
  return folder;
}

/** Builds the plugin, unless it is built, and lays out what `files` names, its dependencies beside it, where openclaw.ts looks for it. */
export function layOutPackage() {
  build();
  const target = `${root}.cache/openclaw/package`;
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

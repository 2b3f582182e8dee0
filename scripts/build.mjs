// Compiles src/ to dist/ and lays beside it what OpenClaw loads, the manifest and the skills, and what the inspector's page is made of.
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
rmSync(`${root}dist`, { recursive: true, force: true });
const tsc = `${root}node_modules/typescript/bin/tsc`;
function run(...words) {
  const { status } = spawnSync(process.execPath, words, { cwd: root, stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}
run(tsc, "-p", "tsconfig.build.json");
run(tsc, "-p", "tsconfig.page.json");
run("scripts/page.mjs");
for (const name of ["index.html", "style.css"]) cpSync(`${root}src/page/${name}`, `${root}dist/page/${name}`);
run("--disable-warning=ExperimentalWarning", "scripts/charts.ts");
for (const name of ["openclaw.plugin.json", "skills"]) {
  if (existsSync(root + name)) cpSync(root + name, `${root}dist/${name}`, { recursive: true });
}
for (const name of ["kars-mesh", "kars-local"]) {
  const bin = `${root}dist/cli/${name}.js`;
  if (existsSync(bin)) chmodSync(bin, 0o755);
}

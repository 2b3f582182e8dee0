import { spawnSync } from "node:child_process";
import { globSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";

// The command lines are tested as they are shipped: what is in dist/ is built anew when a source is younger.

const root = fileURLToPath(new URL("..", import.meta.url));
const entry = (program: string) => `${root}dist/cli/${program}.js`;

/** What runs as `kars-mesh`, and as `kars-local`. */
export const PROGRAMS = { "kars-mesh": entry("kars-mesh"), "kars-local": entry("kars-local") } as const;

const SOURCES = [
  "src/**/*.ts",
  "src/page/*",
  "scripts/*",
  "skills/**",
  "openclaw.plugin.json",
  "tsconfig*.json",
  "package.json",
];

function isBuilt(): boolean {
  const built = statSync(PROGRAMS["kars-local"], { throwIfNoEntry: false });
  if (!built) return false;
  return globSync(SOURCES, { cwd: root }).every((path) => statSync(root + path).mtimeMs < built.mtimeMs);
}

/** Before any test, once. */
export function setup(): void {
  if (isBuilt()) return;
  const { status } = spawnSync(process.execPath, [`${root}scripts/build.mjs`], { stdio: "inherit" });
  if (status !== 0) throw new Error("the build failed");
}

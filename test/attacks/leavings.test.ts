/** What a task leaves so that nobody can take it away: its slot is free all the same, and then it is taken away. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it, vi } from "vitest";
import { removeTree } from "../../src/cluster/runner/removal.ts";
import { folder, isLinux } from "../cluster/tasks.ts";
import { openTenancy } from "./tenant.ts";

const onLinux = isLinux ? it : it.skip;
const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;
const SLOWLY = { timeout: 40_000, interval: 100 };

/** A tree that is deeper than a path may be long, made in its place by a shell. It ends in the deepest folder. */
const DEEP = `node -e 'const { mkdirSync, chmodSync, writeFileSync } = require("node:fs");
  for (let i = 0; i < 3000; i++) { mkdirSync("dddddddddd"); process.chdir("dddddddddd"); }
  writeFileSync("bottom", "x"); chmodSync(".", 0)' || exit 1`;

/** Runs a program, as an ordinary user where this is root. */
async function asAnybody(program: string, args: readonly string[], cwd: string): Promise<string> {
  if (isRoot) chownSync(cwd, NOBODY, NOBODY);
  const child = spawn(program, args, {
    cwd,
    stdio: ["ignore", "pipe", "pipe"],
    ...(isRoot && { uid: NOBODY, gid: NOBODY }),
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk: Buffer) => {
      said += chunk.toString("utf8");
    });
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(said);
  return said;
}

it("a tree of 3,000 folders in each other costs neither the slot nor the sandbox that stands, and the record has its end", async () => {
  const { begin, ended, settled, ending, cluster, sandboxes } = await openTenancy();
  await cluster().call("sandbox_start", { name: "box" });
  const script = { "deep.sh": `(cd out; ${DEEP})\nexit 0\n` };
  const first = await ended(await begin("run deep.sh", script, { to: "box" }));
  await settled();
  expect(await ending(first.offload_id)).toMatchObject({ request: first.offload_id });
  const second = await ended(await begin("run next.sh", { "next.sh": "echo next" }, { to: "box" }));
  expect(second).toMatchObject({ status: "done", summary: expect.stringContaining("next") });
  await settled();
  // Nothing is left but the sandbox that stands.
  await vi.waitFor(() => expect(readdirSync(sandboxes)).toEqual([expect.stringMatching(/^standing-/)]), SLOWLY);
}, 60_000);

it("what an earlier process of the cluster could not take away is taken away by the next", async () => {
  const { sandboxes, restart } = await openTenancy();
  const left = join(sandboxes, "left", "work");
  mkdirSync(left, { recursive: true });
  await asAnybody("sh", ["-c", DEEP], left);
  await restart();
  await vi.waitFor(() => expect(readdirSync(sandboxes)).toEqual([]), SLOWLY);
}, 60_000);

onLinux(
  "an ordinary user takes away what is closed, deep, oddly named and linked, and nothing behind a link",
  async () => {
    const place = folder();
    chmodSync(place, 0o711);
    const host = join(place, "host");
    mkdirSync(host);
    writeFileSync(join(host, "kept"), "kept");
    const inner = join(place, "user");
    mkdirSync(inner);
    const make = `
    mkdir tree; cd tree
    ln -s ${host} link; ln -s ${host}/kept file; mkfifo pipe; : > "$(printf 'odd\\377')"; mkdir "$(printf 'odder\\377')"
    mkdir closed; echo x > closed/x; mkdir closed/in; ln -s ${host} closed/in/link; chmod 000 closed/in closed
    mkdir readonly; mkdir readonly/in; echo x > readonly/in/x; chmod 555 readonly/in readonly
    (${DEEP})
    chmod 000 .`;
    await asAnybody("sh", ["-c", make], inner);
    const removal = new URL("../../src/cluster/runner/removal.ts", import.meta.url).href;
    const remove = `const { removeTree } = await import(${JSON.stringify(removal)}); await removeTree("tree"); await removeTree("tree");`;
    await asAnybody(
      process.execPath,
      ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", remove],
      inner,
    );
    expect(readdirSync(inner)).toEqual([]);
    expect(readFileSync(join(host, "kept"), "utf8")).toBe("kept");
  },
);

it("a link in the place of the folder is taken away, and not what it leads to", async () => {
  const place = folder();
  mkdirSync(join(place, "host"));
  await asAnybody("ln", ["-s", join(place, "host"), "link"], place);
  await removeTree(join(place, "link"));
  expect(readdirSync(place)).toEqual(["host"]);
  expect(existsSync(join(place, "host"))).toBe(true);
});

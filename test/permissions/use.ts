/**
 * A process with the umask that it is given, which uses a cluster and a laptop for real and looks, all along, at every file
 * and directory that comes to be below the directory it is given. It says what it saw, and of what not the owner alone is.
 */
import { lstatSync, readdirSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { openMesh } from "../../src/actors/mesh.ts";
import { MeshNode } from "../../src/actors/node.ts";
import { openCluster } from "../../src/cluster/local.ts";

const [directory = "", umask = ""] = process.argv.slice(2);
process.umask(Number.parseInt(umask, 8));

const seen = new Set<string>();
const wrong = new Set<string>();

function look(): void {
  for (const name of readdirSync(directory, { recursive: true, encoding: "utf8" })) {
    const path = join(directory, name);
    // What is gone by now is looked at where it went.
    const info = lstatSync(path, { throwIfNoEntry: false });
    if (!info) continue;
    const what = relative(directory, path).replaceAll(/[0-9a-f-]{12,}/g, "…");
    seen.add(what);
    const mode = info.mode & 0o777;
    if (mode !== (info.isDirectory() ? 0o700 : 0o600)) wrong.add(`${what} ${mode.toString(8)}`);
  }
}

const input = (name: string, content: string) => {
  const path = join(directory, "..", `${umask}-${name}`);
  writeFileSync(path, content);
  return path;
};
const TASK = `import { mkdirSync, writeFileSync } from "node:fs";
mkdirSync("out/deep", { recursive: true });
console.log("50 % half"); console.error("to the log");
writeFileSync("out/result.txt", "result");`;

const cluster = await openCluster({ directory: join(directory, "cluster"), port: 0 });
let laptop = await openMesh({ home: join(directory, "deeper", "laptop") });
const { token } = await cluster.call("grant_issue", { name: "laptop", expires_ms: 600_000 });
await laptop.call("pair", { token });
look();
const files = [input("task.mjs", TASK), input("large.txt", "large ".repeat(100_000))];
// Its name is the umask's, so that both processes find their own.
const { offload_id } = await laptop.call("offload", { task: `run ${umask}-task.mjs`, files });
const stop = new AbortController();
const watching = laptop.call("watch", {}, { signal: stop.signal, onProgress: look });
const over = await laptop.call("offload_status", { id: offload_id, wait_ms: 60_000, until_over: true });
look();
stop.abort();
await watching;
await laptop.call("change_key", { protection: "passphrase", passphrase: "correct horse battery" });
look();
await laptop.close();
process.env.KARS_MESH_PASSPHRASE = "correct horse battery";
laptop = await openMesh({ home: join(directory, "deeper", "laptop") });
look();
await laptop.close();
await cluster.close();
look();
// A home of its own whose blobs stay, since nothing can be sent.
const alone = await MeshNode.open({ home: join(directory, "alone") });
const { before } = alone.core.bodies.seal("a", "large ".repeat(10_000), true);
await before?.();
look();
await alone.close();
process.stdout.write(`${JSON.stringify({ over, seen: [...seen].sort(), wrong: [...wrong].sort() })}\n`);

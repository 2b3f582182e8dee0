/**
 * Ten offloads at once, 30 MB there and 30 MB back each, over connections that are cut every few seconds: all end, every byte is
 * right. With the memory of each process at its most. `node test/offload/heavy.ts [offloads] [bytes]`, after a build.
 */
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { createReadStream, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { z } from "zod";
import { openMesh } from "../../src/actors/mesh.ts";

const OFFLOADS = Number(process.argv[2] ?? 10);
const SIZE = Number(process.argv[3] ?? 30_000_000);
const CUT_EVERY_MS = 3_000;
const PATIENCE_MS = 600_000;

const folder = mkdtempSync(join(tmpdir(), "kars-heavy-"));
const program = join(import.meta.dirname, "../../dist/cli/kars-local.js");

/** What a process had resident at the most, in MB; undefined when it is gone, or on a system that does not tell. */
function peakOf(pid: number): number | undefined {
  try {
    const [, kB] = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
    return kB === undefined ? undefined : Math.round(Number(kB) / 1000);
  } catch {
    return undefined;
  }
}

async function hashOf(path: string): Promise<string> {
  const digest = createHash("sha256");
  for await (const chunk of createReadStream(path)) digest.update(chunk);
  return digest.digest("hex");
}

/** A way to the cluster that is cut again and again. */
async function brittleWay() {
  const sockets = new Set<Socket>();
  let [target, cuts] = [0, 0];
  const server = createServer((from) => {
    const to = connect(target, "127.0.0.1");
    for (const [one, other] of [
      [from, to],
      [to, from],
    ] as const) {
      sockets.add(one);
      one.on("error", () => undefined);
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cutting = setInterval(() => {
    if (sockets.size > 0) cuts++;
    for (const socket of sockets) socket.destroy();
  }, CUT_EVERY_MS);
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    leadTo: (port: number) => {
      target = port;
    },
    cuts: () => cuts,
    close: () => {
      clearInterval(cutting);
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

const Sandboxes = z.object({ sandboxes: z.array(z.looseObject({ pid: z.number().nullable() })) });

async function main(): Promise<void> {
  const way = await brittleWay();
  const cluster = join(folder, "cluster");
  const port = await new Promise<number>((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port: free } = probe.address() as AddressInfo;
      probe.close(() => resolve(free));
    });
  });
  way.leadTo(port);
  const up = spawn(
    process.execPath,
    [program, "up", "--dir", cluster, "--port", String(port), "--public-url", way.url],
    { stdio: ["ignore", "pipe", "ignore"] },
  );
  const local = async (...words: string[]): Promise<unknown> => {
    const child = spawn(process.execPath, [program, ...words, "--dir", cluster, "--json"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    return JSON.parse((await Array.fromAsync(child.stdout.setEncoding("utf8"))).join(""));
  };
  await new Promise((resolve) => createInterface(up.stdout).once("line", resolve));
  const laptop = await openMesh({ home: join(folder, "laptop") });
  const peaks = new Map<number, number>();
  let looking = true;
  try {
    const token = z
      .object({ token: z.string() })
      .parse(await local("pair", "generate", "--name", "laptop", "--slots", String(OFFLOADS)));
    await laptop.call("pair", { token: token.token });
    const script = join(folder, "copy.mjs");
    writeFileSync(script, `import { copyFileSync } from "node:fs"; copyFileSync("data.bin", "out/back.bin");`);
    const begun = performance.now();
    const watching = (async () => {
      while (looking) {
        const { sandboxes } = Sandboxes.parse(await local("sandboxes"));
        for (const { pid } of sandboxes) if (pid !== null) peaks.set(pid, peakOf(pid) ?? peaks.get(pid) ?? 0);
      }
    })();
    const results = await Promise.all(
      Array.from({ length: OFFLOADS }, async (_, index) => {
        const data = join(folder, `${index}`, "data.bin");
        mkdirSync(join(folder, `${index}`));
        writeFileSync(data, randomBytes(SIZE));
        const { offload_id: id } = await laptop.call("offload", { task: "run copy.mjs", files: [script, data] });
        const view = await laptop.call("offload_status", { id, wait_ms: PATIENCE_MS, until_over: true });
        if (!("offload_id" in view)) throw new Error("no such offload");
        const [file] = view.files;
        const isRight = file !== undefined && (await hashOf(file.path)) === (await hashOf(data));
        return { status: view.status, error: view.error?.message, isRight };
      }),
    );
    const seconds = Math.round((performance.now() - begun) / 1000);
    looking = false;
    await watching;
    const wrong = results.filter(({ status, isRight }) => status !== "done" || !isRight);
    const most = { laptop: peakOf(process.pid), cluster: peakOf(up.pid ?? 0), sandboxes: Math.max(...peaks.values()) };
    console.log(
      JSON.stringify({ offloads: OFFLOADS, bytes: SIZE, seconds, cuts: way.cuts(), memory_mb: most, wrong }, null, 2),
    );
    if (wrong.length > 0) process.exitCode = 1;
  } finally {
    looking = false;
    await laptop.close();
    const ended = new Promise((resolve) => up.once("exit", resolve));
    up.kill("SIGTERM");
    await ended;
    way.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

await main();

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { openMesh } from "../src/actors/mesh.ts";
import { MeshNode } from "../src/actors/node.ts";
import { type Subject, summary, withDirectory } from "./harness.ts";
import { call, ports } from "./laptop.ts";

// From a request to the hello of its sandbox, on a local cluster that is up.

const ROUNDS = 15;
const GOAL_MS = 500;
/** As it is installed: what is compiled needs no compiling when a sandbox starts. */
const program = fileURLToPath(new URL("../dist/cli/kars-local.js", import.meta.url));

const operator = (...args: readonly string[]): ChildProcess =>
  spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "inherit"] });

/** The first line that a process prints. */
async function firstLine(child: ChildProcess): Promise<string> {
  if (!child.stdout) throw new Error("its output is not read");
  const [line] = await once(createInterface(child.stdout), "line");
  return String(line);
}

/** Milliseconds from the request to the hello; resolves when the offload is over. */
async function greeted(node: MeshNode): Promise<number> {
  const hello = Promise.withResolvers<number>();
  const over = Promise.withResolvers<void>();
  const unsubscribe = node.core.system.subscribe(({ stream, event }) => {
    if (!stream.startsWith("offload/")) return;
    if (event.type === "GREETED") hello.resolve(performance.now());
    if (event.type === "CLEANED_UP") over.resolve();
    if (event.type === "FAILED") hello.reject(new Error(`${stream} failed: ${JSON.stringify(event)}`));
  });
  const asked = performance.now();
  await call(node, "offload", { task: "say hello", force: true });
  const answered = await hello.promise;
  await over.promise;
  unsubscribe();
  return answered - asked;
}

export const hello: Subject = {
  name: "hello",
  about: "time from a request to the hello of its sandbox, on a local cluster that is up",
  measure: (tell) =>
    withDirectory(async (directory) => {
      tell("hello: a request and the hello of its sandbox");
      const at = ["--dir", join(directory, "cluster")];
      const cluster = operator("up", ...at, "--port", "0", "--json");
      const ended = once(cluster, "close");
      try {
        await firstLine(cluster);
        const token = await firstLine(operator("pair", "generate", ...at, "--name", "alice", "--slots", "10"));
        const mesh = await openMesh({ home: join(directory, "alice") });
        await mesh.call("pair", { token });
        await mesh.close();
        const node = await MeshNode.open({ home: join(directory, "alice"), ports });
        node.start();
        const figures: number[] = [];
        for (let round = 0; round <= ROUNDS; round++) {
          const figure = await greeted(node);
          if (round > 0) figures.push(figure);
        }
        await node.close();
        return [
          {
            work: "from a request to the hello of its sandbox",
            unit: "ms",
            ours: summary(figures),
            goal: { atMost: GOAL_MS },
          },
        ];
      } finally {
        cluster.kill("SIGINT");
        await ended;
      }
    }),
};

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import type { Servers } from "./laptop.ts";

// Servers in processes of their own, which say in one line of JSON where they listen and end with their input.

export interface Process<T> {
  /** What it said at its start. */
  readonly said: T;
  /** Its answer to a line. */
  ask(line: string): Promise<unknown>;
  /** Ends its input, and so itself. */
  end(): Promise<void>;
  /** Ends it at once, as a power cut would. */
  kill(): Promise<void>;
}

/** Starts a script of this folder; what it says is of that schema. */
export async function startProcess<T>(
  script: string,
  args: readonly string[],
  schema: z.ZodType<T>,
): Promise<Process<T>> {
  const path = fileURLToPath(new URL(script, import.meta.url));
  const child = spawn(process.execPath, [path, ...args], { stdio: ["pipe", "pipe", "inherit"] });
  // It may have ended when it is told to.
  child.stdin.on("error", () => undefined);
  let hasEnded = false;
  const ended = once(child, "close").then(() => {
    hasEnded = true;
  });
  const lines = createInterface(child.stdout);
  const next = () =>
    Promise.race([
      once(lines, "line").then(([line]): unknown => JSON.parse(String(line))),
      ended.then(() => Promise.reject(new Error(`${script} has ended.`))),
    ]);
  const said = schema.parse(await next());
  return {
    said,
    ask(line) {
      const answer = next();
      child.stdin.write(`${line}\n`);
      return answer;
    },
    async end() {
      child.stdin.end();
      await ended;
    },
    async kill() {
      if (!hasEnded) child.kill("SIGKILL");
      await ended;
    },
  };
}

export const Addresses = z.object({ relayUrl: z.string(), registryUrl: z.string() });

/** Gives `work` a relay and a registry in a process of their own, which ends afterwards. */
export async function withServers<T>(directory: string, work: (servers: Servers) => Promise<T>): Promise<T> {
  await mkdir(directory, { recursive: true });
  const server = await startProcess("relay-process.ts", [directory], Addresses);
  try {
    return await work(server.said);
  } finally {
    await server.end();
  }
}

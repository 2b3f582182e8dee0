import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Real servers of NATS, on free ports of this machine, whose files go when they are done.

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (typeof address !== "object" || !address) throw new Error("no port");
  return address.port;
}

export interface NatsNode {
  readonly url: string;
  readonly port: number;
  readonly pid: number | undefined;
  /** Starts it, again, and resolves when it takes connections. */
  start(): Promise<void>;
  /** Ends it at once, as a power cut would. */
  kill(): Promise<void>;
  /** Asks it to end, and waits until it has. */
  stop(): Promise<void>;
}

/** @param args what else is said to it */
export function natsNode(port: number, args: readonly string[], host = "127.0.0.1", advertised = host): NatsNode {
  let process: ChildProcess | undefined;
  async function end(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    const child = process;
    process = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await ended;
  }
  return {
    url: `nats://127.0.0.1:${port}`,
    port,
    get pid() {
      return process?.pid;
    },
    async start() {
      const child = spawn(
        "nats-server",
        ["-a", host, "-p", String(port), "--client_advertise", `${advertised}:${port}`, ...args],
        {
          stdio: ["ignore", "ignore", "pipe"],
        },
      );
      process = child;
      await new Promise<void>((resolve, reject) => {
        let said = "";
        child.stderr.on("data", (data: Buffer) => {
          if (said.length < 100_000) said += data.toString();
          if (said.includes("Server is ready")) resolve();
        });
        child.once("error", reject);
        child.once("exit", (code) => reject(new Error(`nats-server ended with ${code}: ${said}`)));
      });
    },
    kill: () => end("SIGKILL"),
    stop: () => end("SIGTERM"),
  };
}

/**
 * Nodes with JetStream in one folder: one alone, or a cluster of three.
 * @param parent where the folder lies, since a temporary one may be memory
 * @param host where they listen to clients
 * @param advertised where they tell clients that they listen
 */
export async function natsNodes(
  count: 1 | 3,
  parent = tmpdir(),
  host = "127.0.0.1",
  advertised = host,
): Promise<{ readonly nodes: NatsNode[]; close(): Promise<void> }> {
  const directory = await mkdtemp(join(parent, "kars-nats-"));
  const ports = await Promise.all(Array.from({ length: count }, freePort));
  const routes = await Promise.all(Array.from({ length: count }, freePort));
  const nodes = ports.map((port, n) =>
    natsNode(
      port,
      [
        ...["-js", "-sd", join(directory, String(n)), "-n", `n${n}`],
        ...(count === 1 ? [] : ["--cluster_name", "kars", "--cluster", `nats://127.0.0.1:${routes[n]}`]),
        ...(count === 1 ? [] : ["--routes", routes.map((route) => `nats://127.0.0.1:${route}`).join(",")]),
      ],
      host,
      advertised,
    ),
  );
  await Promise.all(nodes.map((node) => node.start()));
  return {
    nodes,
    async close() {
      await Promise.all(nodes.map((node) => node.kill()));
      await rm(directory, { recursive: true, force: true });
    },
  };
}

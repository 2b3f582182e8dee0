import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

// A replica of a cluster as an operator starts it: `kars-local up --nats …`, in a process of its own.

const program = fileURLToPath(new URL("../../dist/cli/kars-local.js", import.meta.url));

export interface Replica {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** Starts it, again, and resolves when it says where it listens. */
  start(): Promise<void>;
  /** Ends it at once. */
  kill(): Promise<void>;
  /** Asks it to end, and waits until it has. Gives how long that took, in milliseconds. */
  stop(): Promise<number>;
  /** What it said last, for when something is wrong. */
  said(): string;
  remove(): Promise<void>;
}

export interface ReplicaOptions {
  readonly name: string;
  readonly host?: string;
  readonly port: number;
  readonly nats: string;
  readonly publicUrl: string;
  /** Runs it inside of a network namespace. */
  readonly namespace?: string;
}

export async function replica(options: ReplicaOptions): Promise<Replica> {
  const { name, host = "127.0.0.1", port, nats, publicUrl, namespace } = options;
  const directory = await mkdtemp(join(tmpdir(), `kars-replica-${name}-`));
  let child: ChildProcess | undefined;
  let said = "";
  const args = [
    ...["--disable-warning=ExperimentalWarning", program, "up", "--dir", directory, "--name", "chaos"],
    ...["--nats", nats, "--host", host, "--port", String(port), "--public-url", publicUrl, "--allow-unproven"],
  ];
  async function end(signal: "SIGKILL" | "SIGTERM"): Promise<number> {
    const begun = Date.now();
    const ending = child;
    child = undefined;
    if (!ending || ending.exitCode !== null || ending.signalCode !== null) return 0;
    const ended = new Promise((resolve) => ending.once("exit", resolve));
    ending.kill(signal);
    await ended;
    return Date.now() - begun;
  }
  return {
    name,
    host,
    port,
    async start() {
      const command = namespace === undefined ? process.execPath : "ip";
      const inside = namespace === undefined ? [] : ["netns", "exec", namespace, process.execPath];
      const started = spawn(command, [...inside, ...args], { stdio: ["ignore", "pipe", "pipe"] });
      child = started;
      const tell = (data: Buffer) => {
        said = (said + data.toString()).slice(-20_000);
      };
      started.stdout.on("data", tell);
      started.stderr.on("data", tell);
      await new Promise<void>((resolve, reject) => {
        started.stdout.once("data", () => resolve());
        started.once("error", reject);
        started.once("exit", (code) => reject(new Error(`${name} ended with ${code}:\n${said}`)));
      });
    },
    kill: async () => void (await end("SIGKILL")),
    stop: () => end("SIGTERM"),
    said: () => said,
    async remove() {
      await end("SIGKILL");
      await rm(directory, { recursive: true, force: true });
    },
  };
}

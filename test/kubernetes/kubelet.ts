/**
 * A node beside the test API server: a Job that may run gets a pod, its Secret becomes files, and its container is the real
 * entry of a sandbox as a child process of the test, whose status is told truthfully. What a container would mount at /sandbox
 * and /tmp are folders of the test, so the paths in what the sandbox is told lead there.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import type { ApiServer } from "./api-server.ts";

const ENTRY = fileURLToPath(new URL("../../src/cluster/sandbox-main.ts", import.meta.url));

const Template = z.object({
  spec: z.object({
    suspend: z.boolean().optional(),
    template: z.object({
      spec: z.object({
        containers: z.tuple([z.object({ env: z.array(z.object({ name: z.string(), value: z.string() })) })]),
        volumes: z.array(z.object({ secret: z.object({ secretName: z.string() }).optional() })),
      }),
    }),
  }),
});

export class Kubelet {
  readonly #server: ApiServer;
  readonly #folder = mkdtempSync(join(tmpdir(), "kars-node-"));
  readonly #children = new Map<string, ChildProcess>();
  readonly #killed = new Map<string, string>();
  #isClosed = false;
  /** Whether it has no room for another pod. */
  isFull = false;

  constructor(server: ApiServer) {
    this.#server = server;
    void this.#watch();
  }

  /** Jobs whose container runs. */
  get running(): string[] {
    return [...this.#children.keys()];
  }

  /** Kills a container as the kernel does when it takes too much memory. */
  outOfMemory(job: string): void {
    this.#killed.set(job, "OOMKilled");
    this.#children.get(job)?.kill("SIGKILL");
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const ended = [...this.#children.values()].map((child) => new Promise((resolve) => child.once("close", resolve)));
    for (const child of this.#children.values()) child.kill("SIGKILL");
    await Promise.all(ended);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #watch(): Promise<void> {
    const started = new Set<string>();
    const stopped = new Set<string>();
    const refused = new Set<string>();
    while (!this.#isClosed) {
      const job = await this.#server.until(() => {
        if (this.#isClosed) return { metadata: { name: "" } };
        return this.#server
          .all("jobs")
          .find(({ metadata, spec }) =>
            metadata.deletionTimestamp === undefined
              ? !started.has(metadata.name) &&
                !(this.isFull && refused.has(metadata.name)) &&
                (spec as { suspend?: boolean }).suspend === false
              : started.has(metadata.name) && !stopped.has(metadata.name),
          );
      });
      const { name } = job.metadata;
      if (this.#isClosed) return;
      if (started.has(name)) {
        stopped.add(name);
        const child = this.#children.get(name);
        if (child) child.kill("SIGTERM");
        else this.#server.collect(name);
      } else if (this.isFull) {
        refused.add(name);
        const message = "0/1 nodes are available: 1 Insufficient memory.";
        const unscheduled = { type: "PodScheduled", status: "False", reason: "Unschedulable", message };
        this.#server.pod(name, { phase: "Pending", conditions: [unscheduled] });
      } else {
        started.add(name);
        this.#start(name, Template.parse(job));
      }
    }
  }

  #start(job: string, { spec }: z.infer<typeof Template>): void {
    const server = this.#server;
    const conditions = [{ type: "PodScheduled", status: "True" }];
    const told = (phase: string, state: object) =>
      server.pod(job, { phase, conditions, containerStatuses: [{ name: "sandbox", state }] }, { nodeName: "node-1" });
    told("Pending", { waiting: { reason: "ContainerCreating" } });
    const place = (path: string) => join(this.#folder, job, path);
    for (const path of ["/sandbox", "/tmp", "/etc/kars-sandbox"]) mkdirSync(place(path), { recursive: true });
    for (const { secret } of spec.template.spec.volumes)
      for (const [key, data] of Object.entries(
        (server.get("secrets", secret?.secretName ?? "")?.data ?? {}) as object,
      )) {
        const file = JSON.parse(Buffer.from(String(data), "base64").toString("utf8"));
        writeFileSync(place(`/etc/kars-sandbox/${key}`), JSON.stringify({ ...file, directory: place(file.directory) }));
      }
    const env = spec.template.spec.containers[0].env.map(({ name, value }) => [name, place(value)]);
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", ENTRY], {
      cwd: place("/"),
      env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, ...Object.fromEntries(env) },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#children.set(job, child);
    const { name } = told("Running", { running: {} }).metadata;
    let log = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (chunk: Buffer) => {
        log += chunk.toString("utf8");
        server.log(name, log);
      });
    child.once("close", (code, signal) => {
      this.#children.delete(job);
      if (this.#isClosed) return;
      const exitCode = code ?? (signal === "SIGKILL" ? 137 : 143);
      const reason = this.#killed.get(job) ?? (exitCode === 0 ? "Completed" : "Error");
      told(exitCode === 0 ? "Succeeded" : "Failed", { terminated: { exitCode, reason } });
      if (server.get("jobs", job)?.metadata.deletionTimestamp !== undefined) server.collect(job);
      else if (exitCode === 0) server.condition(job, "Complete", "", "");
      else server.condition(job, "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit");
    });
  }
}

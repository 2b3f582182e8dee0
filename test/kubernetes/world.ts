/** A backend before a test API server, with hooks that write down what they are told. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished, vi } from "vitest";
import { type Clock, realClock, realRandom } from "../../src/actors/ports.ts";
import { openApi } from "../../src/cluster/kubernetes/api.ts";
import { KubernetesBackend } from "../../src/cluster/kubernetes/backend.ts";
import { nameOf, type Placement, resourcesFor } from "../../src/cluster/kubernetes/manifests.ts";
import { DEFAULT_RULES, JOB_LIMITS } from "../../src/cluster/runner/rules.ts";
import type { SandboxConfig, SandboxHooks } from "../../src/cluster/sandboxes.ts";
import { realDisk } from "../../src/store/disk.ts";
import { ApiServer, type Asked } from "./api-server.ts";

export const CONTROLLER = "did:mesh:0123456789abcdef0123456789abcdef";
export const IMAGE = "registry.example.org/kars-sandbox:0.1.0";
export const PLACEMENT: Placement = { namespace: "kars-sandboxes", image: IMAGE, resources: resourcesFor(JOB_LIMITS) };

export const config = (more: Partial<SandboxConfig> = {}): SandboxConfig => ({
  directory: "/nowhere",
  run: "run-1",
  name: "box",
  laptop: "did:mesh:ffffffffffffffffffffffffffffffff",
  controller: CONTROLLER,
  cluster: "test",
  relay_url: "ws://192.0.2.7:7780",
  registry_url: "http://192.0.2.7:7780",
  capabilities: ["offload"],
  timeout_minutes: 10,
  runner: null,
  grant: "laptop",
  task_sha256: null,
  policy: null,
  rules: DEFAULT_RULES,
  ...more,
});

/** A clock whose time passes so many times as fast: what is waited for is still waited for. */
export function hasty(factor = 500): Clock {
  const begun = realClock.now();
  const now = () => begun + (realClock.now() - begun) * factor;
  return {
    now,
    at(time, callback) {
      const timer = setTimeout(callback, Math.max(0, time - now()) / factor);
      return () => clearTimeout(timer);
    },
  };
}

export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "kars-kubernetes-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A server that goes when the test ends. */
export async function apiServer(): Promise<ApiServer> {
  const server = new ApiServer();
  await server.open();
  onTestFinished(() => server.close());
  return server;
}

/** The kubeconfig of the process leads to a server, as long as the test runs. */
export function leadTo(server: ApiServer, token?: string): void {
  const path = join(folder(), "config");
  writeFileSync(path, server.kubeconfig(token));
  vi.stubEnv("KUBECONFIG", path);
  onTestFinished(() => void vi.unstubAllEnvs());
}

export interface Told {
  readonly lines: string[];
  readonly hooks: SandboxHooks;
  /** Resolves when something like it was told. */
  until(pattern: RegExp): Promise<string>;
}

export function told(): Told {
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  const tell = (line: string) => {
    lines.push(line);
    for (const look of [...waiting]) look();
  };
  return {
    lines,
    hooks: {
      starting: (phase, words) => tell(`starting ${phase}: ${words}`),
      ready: (did) => tell(`ready ${did}`),
      failed: (detail) => tell(`failed: ${detail}`),
      told: (news) => tell(`told: ${news.type}`),
      exited: (code) => tell(`exited ${code}`),
    },
    until: (pattern) =>
      new Promise((resolve) => {
        const look = () => {
          const found = lines.find((line) => pattern.test(line));
          if (found === undefined) return;
          waiting.delete(look);
          resolve(found);
        };
        waiting.add(look);
        look();
      }),
  };
}

export interface World {
  readonly server: ApiServer;
  readonly backend: KubernetesBackend;
  readonly notes: string[];
  /** An agent comes to the relay. */
  arrive(did: string): void;
}

/** @param timeoutMs of one request, for those that are never answered */
export async function backendOf(
  server: ApiServer,
  options: { timeoutMs?: number; clock?: Clock } = {},
): Promise<World> {
  leadTo(server);
  const notes: string[] = [];
  const here = new Set<string>();
  const waiting = new Map<string, () => void>();
  const { clock = hasty(), timeoutMs } = options;
  const backend = new KubernetesBackend({
    api: await openApi({ namespace: PLACEMENT.namespace, timeoutMs }),
    placement: PLACEMENT,
    clock,
    disk: realDisk,
    random: realRandom,
    note: (text) => notes.push(text),
    onArrival(did, arrived) {
      if (here.has(did)) arrived();
      else waiting.set(did, arrived);
      return () => waiting.delete(did);
    },
  });
  onTestFinished(() => backend.close());
  return {
    server,
    backend,
    notes,
    arrive(did) {
      here.add(did);
      waiting.get(did)?.();
    },
  };
}

/** A backend that watches. */
export async function world(options: Parameters<typeof backendOf>[1] = {}): Promise<World> {
  const made = await backendOf(await apiServer(), options);
  await made.backend.start(CONTROLLER);
  return made;
}

export const JOB = nameOf(config());

/** A sandbox that may run, and whose Job has no pod yet. */
export async function spawned({ backend }: World, more: Partial<SandboxConfig> = {}) {
  const report = told();
  const given = config({ directory: folder(), ...more });
  const process = await backend.spawn(given, report.hooks);
  return { ...report, process, directory: given.directory, job: nameOf(given) };
}

export const verbs = (asked: readonly Asked[]): string[] => asked.map(({ verb, resource }) => `${verb} ${resource}`);

// Status as a kubelet tells it

export const running = { phase: "Running", containerStatuses: [{ name: "sandbox", state: { running: {} } }] };
export const waiting = (reason: string, message = "") => ({
  phase: "Pending",
  conditions: [{ type: "PodScheduled", status: "True" }],
  containerStatuses: [{ name: "sandbox", state: { waiting: { reason, message } } }],
});
export const ended = (exitCode: number, reason = "Error", more: object = {}) => ({
  phase: exitCode === 0 ? "Succeeded" : "Failed",
  containerStatuses: [{ name: "sandbox", state: { terminated: { exitCode, reason } } }],
  ...more,
});

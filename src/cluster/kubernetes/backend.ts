import { MeshError } from "../../errors.ts";
import { safeParse } from "../../parse.ts";
import type { Random } from "../../store/seal.ts";
import type { SandboxBackend, SandboxConfig, SandboxHooks, SandboxProcess } from "../sandboxes.ts";
import { ApiError } from "./api.ts";
import { makeSandbox } from "./creation.ts";
import { ANNOTATION, jobOfLabels, nameOf, selectorOf } from "./manifests.ts";
import { SeenJob, SeenPod } from "./observed.ts";
import { Reflector } from "./reflector.ts";
import { insistOn, SandboxJob, type Surroundings } from "./sandbox-job.ts";

// Sandboxes as Kubernetes Jobs. They outlive their controller: one that starts again takes them up by the name of their run, and
// removes those of runs that it does not know.

export type KubernetesOptions = Omit<Surroundings, "signal"> & { readonly random: Random };

interface Watched {
  readonly controller: string;
  readonly jobs: Reflector<SeenJob>;
  readonly pods: Reflector<SeenPod>;
}

export class KubernetesBackend implements SandboxBackend {
  readonly #around: Surroundings;
  readonly #random: Random;
  readonly #closed = new AbortController();
  readonly #sandboxes = new Map<string, SandboxJob>();
  /** Jobs that were deleted, and are still seen. */
  readonly #leaving = new Set<string>();
  readonly #watched = Promise.withResolvers<Watched>();

  constructor({ random, ...around }: KubernetesOptions) {
    this.#around = { ...around, signal: this.#closed.signal };
    this.#random = random;
    // A cluster may close before anything waits for it.
    this.#watched.promise.catch(() => undefined);
  }

  /**
   * Begins to watch what belongs to a controller. Until then everything waits.
   * @throws MeshError `kubernetes_unavailable` when the API server refuses; when it is only away it is asked again
   */
  async start(controller: string): Promise<void> {
    const { api, clock, note, placement } = this.#around;
    const options = { api, clock, note, selector: selectorOf(controller) };
    const jobs = new Reflector<SeenJob>({
      ...options,
      kind: "jobs",
      parse: (object) => safeParse(SeenJob, object).data,
      nameOf: ({ metadata }) => metadata.name,
      changed: (job, isGone) => {
        const sandbox = this.#sandboxes.get(job.metadata.name);
        if (!isGone) return sandbox?.seeJob(job);
        this.#leaving.delete(job.metadata.name);
        sandbox?.missJob();
      },
    });
    const pods = new Reflector<SeenPod>({
      ...options,
      kind: "pods",
      parse: (object) => safeParse(SeenPod, object).data,
      nameOf: ({ metadata }) => metadata.name,
      changed: (pod, isGone) => this.#sandboxes.get(jobOfLabels(pod.metadata.labels) ?? "")?.seePod(pod, isGone),
    });
    this.#closed.signal.addEventListener("abort", () => {
      jobs.stop();
      pods.stop();
    });
    try {
      await Promise.all([jobs.start(), pods.start()]);
    } catch (error) {
      this.#closed.abort();
      if (!(error instanceof ApiError)) throw error;
      throw new MeshError(
        "kubernetes_unavailable",
        `The Kubernetes API at ${api.server} refuses to list Jobs and pods in the namespace ${placement.namespace} (${error.status}): ${error.message}.`,
      );
    }
    this.#watched.resolve({ controller, jobs, pods });
  }

  async spawn(config: SandboxConfig, hooks: SandboxHooks): Promise<SandboxProcess> {
    const watched = await this.#untilClosed(this.#watched.promise);
    const name = nameOf(config);
    const making = {
      ...this.#around,
      random: this.#random,
      told: (words: string) => hooks.starting("spawning", words),
    };
    try {
      const { did, job } = await this.#untilClosed(makeSandbox(config, making));
      watched.jobs.expect(job);
      return this.#live(watched, { name, did, directory: config.directory, hooks });
    } catch (error) {
      // Half of it may be there, and its run has failed.
      if (!this.#closed.signal.aborted) void this.#delete(name);
      throw error;
    }
  }

  async adopt(
    { run, directory }: Pick<SandboxConfig, "run" | "directory">,
    hooks: SandboxHooks,
  ): Promise<SandboxProcess | undefined> {
    const watched = await this.#untilClosed(this.#watched.promise);
    const { jobs, pods, controller } = watched;
    await this.#untilClosed(Promise.all([jobs.synced, pods.synced]));
    const name = nameOf({ controller, run });
    const job = jobs.get(name);
    if (!job || job.metadata.deletionTimestamp || this.#leaving.has(name)) return undefined;
    const did = job.metadata.annotations[ANNOTATION.did];
    if (did === undefined) {
      // It was never let run, and nobody knows who it would have been.
      void this.#delete(name);
      return undefined;
    }
    return this.#live(watched, { name, did, directory, hooks });
  }

  async sweep(isKnown: (run: string) => boolean): Promise<void> {
    const { jobs } = await this.#untilClosed(this.#watched.promise);
    await this.#untilClosed(jobs.synced);
    const left = [...jobs.values()].filter(({ metadata }) => !isKnown(metadata.annotations[ANNOTATION.run] ?? ""));
    for (const { metadata } of left) {
      if (metadata.deletionTimestamp) continue;
      this.#around.note(`The Job ${metadata.name} belongs to no run that goes on; it is removed.`);
      await this.#delete(metadata.name);
    }
  }

  /** Nothing is watched, asked for or told any more. The Jobs go on. */
  async close(): Promise<void> {
    this.#closed.abort();
  }

  #live({ jobs, pods }: Watched, options: ConstructorParameters<typeof SandboxJob>[1]): SandboxJob {
    const { hooks, name } = options;
    const sandbox = new SandboxJob(this.#around, {
      ...options,
      hooks: {
        ...hooks,
        exited: (code) => {
          this.#sandboxes.delete(name);
          if (jobs.get(name)) this.#leaving.add(name);
          hooks.exited(code);
        },
      },
    });
    this.#sandboxes.set(name, sandbox);
    // Whoever asked for it is told that it runs before it is told how it goes.
    setImmediate(() => {
      const pod = [...pods.values()].find(({ metadata }) => jobOfLabels(metadata.labels) === name);
      sandbox.begin(jobs.get(name), pod);
    });
    return sandbox;
  }

  #delete(name: string): Promise<boolean> {
    return insistOn("delete the Job", name, () => this.#around.api.deleteJob(name), this.#around, true);
  }

  /** @throws MeshError `closed` when the cluster closes first */
  #untilClosed<T>(awaited: Promise<T>): Promise<T> {
    const { signal } = this.#closed;
    if (signal.aborted) return Promise.reject(new MeshError("closed"));
    return new Promise((resolve, reject) => {
      const abort = () => reject(new MeshError("closed"));
      signal.addEventListener("abort", abort, { once: true });
      awaited.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
    });
  }
}

import type { KubeConfig, V1Job, V1NetworkPolicy, V1Secret } from "@kubernetes/client-node";
import { MeshError } from "../../errors.ts";
import { STATUS_CODES } from "../../http.ts";
import { safeParse } from "../../parse.ts";
import { API_TIMEOUT_MS, WATCH_MS } from "./limits.ts";
import { podSelectorOf } from "./manifests.ts";
import { SeenJob, SeenStatus } from "./observed.ts";

// The API server, by its official client: an optional package, loaded only by who has chosen this backend.

/** What the API server did not do. */
export class ApiError extends Error {
  /** The HTTP status; undefined when there was no answer. */
  readonly status: number | undefined;
  constructor(status: number | undefined, message: string, options?: ErrorOptions) {
    super(message, options);
    this.status = status;
  }
  /** Whether the same may be done later: the answer was no refusal. */
  get isPassing(): boolean {
    return this.status === undefined || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** The two kinds that are watched. */
export type Kind = "jobs" | "pods";

export interface Listed {
  readonly items: readonly unknown[];
  readonly resourceVersion: string;
}

/** All that is asked of the API server, in one namespace. Every request @throws ApiError */
export interface Api {
  readonly server: string;
  list(kind: Kind, selector: string): Promise<Listed>;
  /** Resolves when the watch has ended in peace. */
  watch(
    kind: Kind,
    options: { readonly selector: string; readonly resourceVersion: string; readonly signal: AbortSignal },
    told: (type: string, object: unknown) => void,
  ): Promise<void>;
  createJob(job: V1Job): Promise<SeenJob>;
  readJob(name: string): Promise<SeenJob>;
  patchJob(name: string, patch: object): Promise<void>;
  /** The Job stays until all that it owns is gone. */
  deleteJob(name: string): Promise<void>;
  createSecret(secret: V1Secret): Promise<void>;
  deleteSecret(name: string): Promise<void>;
  createNetworkPolicy(policy: V1NetworkPolicy): Promise<void>;
  pods(job: string): Promise<Listed>;
  /** The beginning of a container's log. */
  log(pod: string, container: string, sizeMax: number): Promise<string>;
}

export interface ApiOptions {
  readonly namespace: string;
  /** Of the kubeconfig; the current one unless given. */
  readonly context?: string | undefined;
  readonly timeoutMs?: number | undefined;
}

type Client = typeof import("@kubernetes/client-node");

async function loadClient(): Promise<Client> {
  try {
    return await import("@kubernetes/client-node");
  } catch (cause) {
    throw new MeshError(
      "kubernetes_unavailable",
      "The package @kubernetes/client-node cannot be loaded. Install it where kars-local is installed, on Node.js 22.19 or newer: npm install @kubernetes/client-node@2 (with -g beside a global kars-local).",
      { cause },
    );
  }
}

/** `$KUBECONFIG`, `~/.kube/config`, or the pod's own service account, whichever is there first. */
function configOf({ KubeConfig }: Client, context: string | undefined): KubeConfig {
  const config = new KubeConfig();
  try {
    config.loadFromDefault();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new MeshError("kubernetes_unavailable", `The kubeconfig cannot be read: ${reason}.`, { cause });
  }
  if (context !== undefined) {
    const known = config.getContexts().map(({ name }) => name);
    if (!known.includes(context))
      throw new MeshError("input_invalid", `The kubeconfig has no context "${context}" (it has: ${known.join(", ")}).`);
    config.setCurrentContext(context);
  }
  return config;
}

/** The reason of a failure that a network or a parser gives lies in its causes. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error && error.cause.message !== "" ? error.cause.message : error.message;
}

function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  // A refusal of the client has a body, maybe an empty one; a timeout has a code too.
  if (!(error instanceof Error && "body" in error && "code" in error && typeof error.code === "number"))
    return new ApiError(undefined, reasonOf(error), { cause: error });
  const { code: status, body } = error;
  let answer: unknown = body;
  if (typeof body === "string") {
    try {
      answer = JSON.parse(body);
    } catch {
      // A proxy's page says nothing that a status does not.
    }
  }
  const said = safeParse(SeenStatus, answer).data;
  return new ApiError(status, said?.message || said?.reason || (STATUS_CODES[status] ?? "refused"), { cause: error });
}

const asSeenJob = (job: unknown): SeenJob => {
  const { data, error } = safeParse(SeenJob, job);
  if (!data) throw new ApiError(undefined, `a Job that cannot be read (${error?.issues[0]?.message ?? "unknown"})`);
  return data;
};

/** @throws MeshError `kubernetes_unavailable`, `input_invalid` */
export async function openApi({ namespace, context, timeoutMs = API_TIMEOUT_MS }: ApiOptions): Promise<Api> {
  const client = await loadClient();
  const config = configOf(client, context);
  const server = config.getCurrentCluster()?.server;
  if (server === undefined) throw new MeshError("kubernetes_unavailable", "The kubeconfig names no cluster.");
  const configuration = client.createConfiguration({
    baseServer: new client.ServerConfiguration(server, {}),
    authMethods: { default: config },
    promiseMiddleware: [
      {
        async pre(request) {
          request.setSignal(AbortSignal.timeout(timeoutMs));
          return request;
        },
        post: async (response) => response,
      },
    ],
  });
  const batch = new client.BatchV1Api(configuration);
  const core = new client.CoreV1Api(configuration);
  const networking = new client.NetworkingV1Api(configuration);
  const watching = new client.Watch(config);
  const mergePatch = client.setHeaderOptions("Content-Type", client.PatchStrategy.MergePatch);

  const ask = async <T>(request: Promise<T>): Promise<T> => {
    try {
      return await request;
    } catch (error) {
      throw asApiError(error);
    }
  };
  const list = async (kind: Kind, labelSelector: string): Promise<Listed> => {
    const asked = { namespace, labelSelector };
    const { items, metadata } = await ask<{ items: readonly unknown[]; metadata?: { resourceVersion?: string } }>(
      kind === "jobs" ? batch.listNamespacedJob(asked) : core.listNamespacedPod(asked),
    );
    return { items, resourceVersion: metadata?.resourceVersion ?? "" };
  };

  return {
    server,
    list,
    pods: (job) => list("pods", podSelectorOf(job)),
    createJob: async (body) => asSeenJob(await ask(batch.createNamespacedJob({ namespace, body }))),
    readJob: async (name) => asSeenJob(await ask(batch.readNamespacedJob({ namespace, name }))),
    patchJob: async (name, body) => void (await ask(batch.patchNamespacedJob({ namespace, name, body }, mergePatch))),
    deleteJob: async (name) =>
      void (await ask(batch.deleteNamespacedJob({ namespace, name, body: { propagationPolicy: "Foreground" } }))),
    createSecret: async (body) => void (await ask(core.createNamespacedSecret({ namespace, body }))),
    deleteSecret: async (name) => void (await ask(core.deleteNamespacedSecret({ namespace, name }))),
    createNetworkPolicy: async (body) =>
      void (await ask(networking.createNamespacedNetworkPolicy({ namespace, body }))),
    log: (name, container, limitBytes) => ask(core.readNamespacedPodLog({ namespace, name, container, limitBytes })),
    async watch(kind, { selector, resourceVersion, signal }, told) {
      const ended = Promise.withResolvers<void>();
      const path = `${kind === "jobs" ? "/apis/batch/v1" : "/api/v1"}/namespaces/${namespace}/${kind}`;
      const query = {
        labelSelector: selector,
        resourceVersion,
        allowWatchBookmarks: true,
        timeoutSeconds: WATCH_MS / 1000,
      };
      const request = await ask(
        watching.watch(
          path,
          query,
          (type: string, object: unknown) => {
            if (type !== "ERROR") return told(type, object);
            const { code, message } = safeParse(SeenStatus, object).data ?? {};
            ended.reject(new ApiError(code ?? undefined, message ?? "the watch failed"));
          },
          (error: unknown) => {
            if (error === null || error === undefined) ended.resolve();
            else ended.reject(watchError(error));
          },
        ),
      );
      const abort = () => request.abort();
      signal.addEventListener("abort", abort, { once: true });
      if (signal.aborted) abort();
      await ended.promise.finally(() => {
        signal.removeEventListener("abort", abort);
        request.abort();
      });
    },
  };
}

/** The watch tells its status in a field of its own. */
function watchError(error: unknown): ApiError {
  const status = error instanceof Error && "statusCode" in error ? error.statusCode : undefined;
  return typeof status === "number" ? new ApiError(status, reasonOf(error), { cause: error }) : asApiError(error);
}

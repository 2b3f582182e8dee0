/**
 * An API server of Kubernetes as far as the backend asks for one: it stores objects with resource versions, lists and watches by
 * label, collects what a deleted Job owned, records every request, and does wrong what a test tells it to. Beside it stands what
 * a scheduler and a kubelet would do: nothing, until the test plays it.
 */
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { z } from "zod";
import { certificate } from "../actors/certificate.ts";

type Plain = Record<string, unknown>;

const Stored = z.looseObject({
  metadata: z.looseObject({
    name: z.string(),
    uid: z.string().optional(),
    resourceVersion: z.string().optional(),
    deletionTimestamp: z.string().optional(),
    labels: z.record(z.string(), z.string()).optional(),
    annotations: z.record(z.string(), z.string()).optional(),
    ownerReferences: z.array(z.looseObject({ uid: z.string() })).optional(),
  }),
});
export type Stored = z.infer<typeof Stored>;

/** One request, in the words of RBAC. */
export interface Asked {
  readonly verb: string;
  readonly group: string;
  /** With its subresource: `pods/log`. */
  readonly resource: string;
  readonly namespace: string;
  readonly name: string | undefined;
  readonly query: Readonly<Record<string, string>>;
  readonly body: unknown;
}

/** What a request is answered with in place of the truth. */
export type Wrong =
  | { readonly status: number; readonly message: string }
  /** It is done, and the answer is lost. */
  | "lost"
  /** Never answered, and not done. */
  | "silent";

interface Watcher {
  readonly resource: string;
  readonly selector: string;
  readonly response: ServerResponse;
}

const KINDS: Readonly<Record<string, string>> = {
  jobs: "Job",
  pods: "Pod",
  secrets: "Secret",
  networkpolicies: "NetworkPolicy",
};

const selects = (selector: string, object: Stored) =>
  selector === "" ||
  selector.split(",").every((term) => {
    const [key = "", value] = term.split("=");
    return object.metadata.labels?.[key] === value;
  });

/** A JSON merge patch (RFC 7386). */
function merged(target: unknown, patch: unknown): unknown {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const result: Plain = { ...(typeof target === "object" && target !== null ? target : {}) };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = merged(result[key], value);
  }
  return result;
}

export class ApiServer {
  readonly asked: Asked[] = [];
  readonly namespace = "kars-sandboxes";
  readonly token = "the-service-account-of-the-controller";
  readonly #objects = new Map<string, Map<string, Stored>>();
  readonly #watchers = new Set<Watcher>();
  /** What was told to watchers, for those that come back. */
  #told: { readonly version: number; readonly resource: string; readonly type: string; readonly object: Stored }[] = [];
  readonly #logs = new Map<string, string>();
  readonly #wrongs: { readonly matches: (asked: Asked) => boolean; readonly wrong: Wrong; left: number }[] = [];
  readonly #listeners = new Set<() => void>();
  #version = 100;
  /** Versions up to here are forgotten. */
  #compacted = 0;
  #uids = 0;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  port = 0;

  get url(): string {
    return `https://127.0.0.1:${this.port}`;
  }

  /** A kubeconfig that leads here. */
  kubeconfig(token = this.token): string {
    const authority = Buffer.from(certificate.cert).toString("base64");
    return JSON.stringify({
      apiVersion: "v1",
      kind: "Config",
      "current-context": "test",
      clusters: [{ name: "test", cluster: { server: this.url, "certificate-authority-data": authority } }],
      users: [{ name: "test", user: { token } }],
      contexts: [{ name: "test", context: { cluster: "test", user: "test" } }],
    });
  }

  async open(): Promise<void> {
    const sockets = this.#sockets;
    this.#server = createServer(certificate, (request, response) => {
      this.#answer(request, response).catch((error: unknown) => response.destroy(error as Error));
    });
    this.#server.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
    });
    this.#server.listen(this.port, "127.0.0.1");
    await once(this.#server, "listening");
    this.port = (this.#server.address() as AddressInfo).port;
  }

  /** It goes away, with every connection. What it stores stays. */
  async close(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    this.#watchers.clear();
    server.close();
    for (const socket of this.#sockets) socket.destroy();
    await once(server, "close");
  }

  // What a test does to it

  /** The next requests that match are answered so. */
  wrong(verb: string, resource: string, wrong: Wrong, times = 1): void {
    const matches = (asked: Asked) => asked.verb === verb && asked.resource === resource;
    this.#wrongs.push({ matches, wrong, left: times });
  }
  right(): void {
    this.#wrongs.length = 0;
  }
  /** Every watch is cut. */
  cut(): void {
    for (const { response } of this.#watchers) response.destroy();
    this.#watchers.clear();
  }
  /** Whoever watches from before now is told 410 Gone. */
  forget(): void {
    this.#compacted = ++this.#version;
    this.#told = [];
  }
  log(pod: string, text: string): void {
    this.#logs.set(pod, text);
  }

  all(resource: string): Stored[] {
    return [...(this.#objects.get(resource)?.values() ?? [])];
  }
  get(resource: string, name: string): Stored | undefined {
    return this.#objects.get(resource)?.get(name);
  }
  get watching(): number {
    return this.#watchers.size;
  }

  /** Resolves with what is found, as soon as it is: it is looked for after every request and every change. */
  async until<T>(find: () => T | undefined | false): Promise<T> {
    const look = () => {
      const found = find();
      return found === undefined || found === false ? undefined : { found };
    };
    const first = look();
    if (first) return first.found;
    return new Promise<T>((resolve, reject) => {
      const listener = () => {
        try {
          const later = look();
          if (!later) return;
          this.#listeners.delete(listener);
          resolve(later.found);
        } catch (error) {
          this.#listeners.delete(listener);
          reject(error);
        }
      };
      this.#listeners.add(listener);
    });
  }
  /** Those who wait look again. */
  look(): void {
    this.#happened();
  }
  #happened(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  // Objects

  put(resource: string, object: Plain): Stored {
    const known = this.#objects.get(resource) ?? new Map<string, Stored>();
    this.#objects.set(resource, known);
    const parsed = Stored.parse(object);
    const before = known.get(parsed.metadata.name);
    const stored: Stored = {
      ...parsed,
      metadata: {
        ...parsed.metadata,
        uid: before?.metadata.uid ?? `uid-${++this.#uids}`,
        namespace: this.namespace,
        resourceVersion: String(++this.#version),
      },
    };
    known.set(stored.metadata.name, stored);
    this.#tell(resource, before ? "MODIFIED" : "ADDED", stored);
    return stored;
  }

  /** An object is gone, and all that it owned. */
  remove(resource: string, name: string): void {
    const object = this.#objects.get(resource)?.get(name);
    if (!object) return;
    this.#objects.get(resource)?.delete(name);
    this.#tell(resource, "DELETED", {
      ...object,
      metadata: { ...object.metadata, resourceVersion: String(++this.#version) },
    });
    for (const [kind, objects] of this.#objects)
      for (const owned of [...objects.values()])
        if (owned.metadata.ownerReferences?.some(({ uid }) => uid === object.metadata.uid))
          this.remove(kind, owned.metadata.name);
  }

  #tell(resource: string, type: string, object: Stored): void {
    const told = { version: this.#version, resource, type, object };
    this.#told.push(told);
    for (const watcher of this.#watchers) this.#pass(watcher, told);
    this.#happened();
  }

  #pass({ resource, selector, response }: Watcher, told: { resource: string; type: string; object: Stored }): void {
    if (resource !== told.resource || !selects(selector, told.object)) return;
    response.write(`${JSON.stringify({ type: told.type, object: told.object })}\n`);
  }

  // Requests

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "", this.url);
    const [, group = "", namespace = "", resource = "", name, sub] =
      /^\/(?:api\/v1|apis\/([^/]+)\/v1)\/namespaces\/([^/]+)\/([^/]+)(?:\/([^/]+))?(?:\/([^/]+))?$/.exec(
        url.pathname,
      ) ?? [];
    const text = await new Response(request as unknown as ReadableStream).text();
    const body: unknown = text === "" ? undefined : JSON.parse(text);
    const query = Object.fromEntries(url.searchParams);
    const reads = query.watch === "true" ? "watch" : name === undefined ? "list" : "get";
    const verb =
      { GET: reads, POST: "create", PATCH: "patch", PUT: "update", DELETE: "delete" }[request.method ?? ""] ?? "";
    const asked: Asked = {
      verb,
      group,
      resource: sub === undefined ? resource : `${resource}/${sub}`,
      namespace,
      name,
      query,
      body,
    };
    this.asked.push(asked);
    const refuse = (status: number, message: string) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify({ kind: "Status", status: "Failure", code: status, message }));
    };
    if (request.headers.authorization !== `Bearer ${this.token}`) refuse(401, "Unauthorized");
    else {
      const found = this.#wrongs.find(({ matches, left }) => left > 0 && matches(asked));
      if (found) found.left--;
      const wrong = found?.wrong;
      if (wrong === "silent") response.on("close", () => this.#happened());
      else if (typeof wrong === "object") refuse(wrong.status, wrong.message);
      else {
        const done = this.#perform(asked, request.headers["content-type"] ?? "", response, refuse);
        if (done !== undefined && wrong !== "lost") {
          response.writeHead(asked.verb === "create" ? 201 : 200, {
            "content-type": typeof done === "string" ? "text/plain" : "application/json",
          });
          response.end(typeof done === "string" ? done : JSON.stringify(done));
        }
      }
    }
    this.#happened();
  }

  /** Does what was asked. Undefined when it has answered itself. */
  #perform(
    { verb, resource, name = "", query, body, namespace }: Asked,
    contentType: string,
    response: ServerResponse,
    refuse: (status: number, message: string) => void,
  ): unknown {
    if (namespace !== this.namespace) return refuse(404, `namespaces "${namespace}" not found`);
    const known = this.#objects.get(resource.replace(/\/.*/, ""));
    const selector = query.labelSelector ?? "";
    if (verb === "list")
      return {
        kind: `${KINDS[resource]}List`,
        metadata: { resourceVersion: String(this.#version) },
        items: this.all(resource).filter((object) => selects(selector, object)),
      };
    if (verb === "watch") return this.#watch(resource, selector, query, response);
    if (verb === "create") {
      const object = Stored.parse(body);
      if (known?.has(object.metadata.name)) return refuse(409, `${resource} "${object.metadata.name}" already exists`);
      return this.put(resource, withData(object));
    }
    const object = known?.get(name);
    if (!object) return refuse(404, `${resource} "${name}" not found`);
    if (resource === "pods/log") {
      const log = this.#logs.get(name) ?? "";
      return log.slice(0, Number(query.limitBytes ?? log.length)) || " ";
    }
    if (verb === "get") return object;
    if (verb === "patch") {
      if (contentType !== "application/merge-patch+json") return refuse(415, `no patch: ${contentType}`);
      return this.put(resource, merged(object, body) as Plain);
    }
    if (verb !== "delete") return refuse(405, `${verb} is not offered`);
    if (resource !== "jobs") {
      this.remove(resource, name);
      return { kind: "Status", status: "Success" };
    }
    if (z.object({ propagationPolicy: z.literal("Foreground") }).safeParse(body).error)
      return refuse(400, "not in the foreground");
    // Its pods are asked to end, and it goes when they have: `ended` says so.
    const time = new Date(0).toISOString();
    this.put("jobs", { ...object, metadata: { ...object.metadata, deletionTimestamp: time } });
    const pods = this.podsOf(name);
    for (const pod of pods) this.put("pods", { ...pod, metadata: { ...pod.metadata, deletionTimestamp: time } });
    if (pods.every((pod) => isOver(pod))) this.remove("jobs", name);
    return { kind: "Status", status: "Success" };
  }

  #watch(resource: string, selector: string, query: Asked["query"], response: ServerResponse): undefined {
    const from = Number(query.resourceVersion ?? 0);
    response.writeHead(200, { "content-type": "application/json" });
    if (from < this.#compacted) {
      const object = { kind: "Status", code: 410, reason: "Expired", message: "too old resource version" };
      response.end(`${JSON.stringify({ type: "ERROR", object })}\n`);
      return;
    }
    response.flushHeaders();
    const watcher: Watcher = { resource, selector, response };
    for (const told of this.#told) if (told.version > from) this.#pass(watcher, told);
    this.#watchers.add(watcher);
    response.on("close", () => this.#watchers.delete(watcher));
  }

  // What a scheduler, a kubelet and the Job's controller would do

  podsOf(job: string): Stored[] {
    return this.all("pods").filter(({ metadata }) => metadata.labels?.["kars-mesh/job"] === job);
  }

  /** The pod of a Job, made of its template. */
  pod(job: string, status: Plain = { phase: "Pending" }, more: { nodeName?: string } = {}): Stored {
    const name = `${job}-x1`;
    const template = z
      .looseObject({ metadata: z.looseObject({}), spec: z.looseObject({}) })
      .parse(merged({}, (this.get("jobs", job)?.spec as Plain | undefined)?.template ?? { metadata: {}, spec: {} }));
    const owner = { apiVersion: "batch/v1", kind: "Job", name: job, uid: this.get("jobs", job)?.metadata.uid ?? "" };
    const before = this.get("pods", name);
    return this.put("pods", {
      ...template,
      ...(before ?? {}),
      metadata: { ...template.metadata, ...(before?.metadata ?? {}), name, ownerReferences: [owner] },
      spec: { ...template.spec, ...more },
      status,
    });
  }

  /** A condition of a Job comes true. */
  condition(job: string, type: string, reason: string, message: string): void {
    const object = this.get("jobs", job);
    if (!object) throw new Error(`no Job ${job}`);
    this.put("jobs", { ...object, status: { conditions: [{ type, status: "True", reason, message }] } });
  }

  /** The pods of a Job that is being deleted have ended: it goes, and what it owned. */
  collect(job: string): void {
    if (this.get("jobs", job)?.metadata.deletionTimestamp !== undefined) this.remove("jobs", job);
  }
}

const isOver = ({ status }: Stored) => ["Succeeded", "Failed"].includes(String((status as Plain | undefined)?.phase));

/** A Secret's `stringData` is only written: it is read as `data`. */
function withData(object: Stored): Plain {
  const { stringData, ...rest } = object;
  const texts = z.record(z.string(), z.string()).optional().parse(stringData);
  if (!texts) return rest;
  const data = Object.entries(texts).map(([key, text]) => [key, Buffer.from(text).toString("base64")]);
  return { ...rest, data: Object.fromEntries(data) };
}

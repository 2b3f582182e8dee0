/** What the inspector's tests share: a cluster's server, laptops on it that talk, viewers that collect every byte. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { type ClientOptions, WebSocket } from "ws";
import { type Mesh, serveNode } from "../../src/actors/mesh.ts";
import { MeshNode } from "../../src/actors/node.ts";
import { operations } from "../../src/actors/operations.ts";
import { claimOwnership } from "../../src/actors/owner.ts";
import { type ClusterServer, startServer } from "../../src/cluster/server.ts";
import { MeshError } from "../../src/errors.ts";
import type { StatelyMessage } from "../../src/inspect/stately.ts";

export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "kars-inspect-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

export async function cluster(): Promise<ClusterServer> {
  const server = await startServer({
    host: "127.0.0.1",
    port: 0,
    directory: await temporaryDirectory(),
    pair: () => Promise.reject(new MeshError("token_invalid")),
  });
  onTestFinished(() => server.close());
  return server;
}

export interface Laptop {
  readonly home: string;
  readonly node: MeshNode;
  readonly mesh: Mesh;
  readonly did: string;
}

/** A laptop that is a member of the cluster and on the mesh. It is closed when the test ends. */
export async function laptop(server: ClusterServer, name: string, controller: string | null = null): Promise<Laptop> {
  const home = join(await temporaryDirectory(), name);
  const ownership = await claimOwnership(home);
  if (!ownership) throw new Error("somebody owns a fresh directory");
  const node = await MeshNode.open({ home });
  const mesh = await serveNode(node, ownership, operations);
  onTestFinished(() => mesh.close());
  node.start();
  await node.membership.join({
    controller,
    cluster: "test",
    relayUrl: server.relayUrl,
    registryUrl: server.url,
    name,
    capabilities: ["chat"],
  });
  return { home, node, mesh, did: node.core.keyring.identity.did };
}

/** `from` says something to `to`, who reads it. */
export async function say(from: Laptop, to: Laptop, message: string): Promise<void> {
  await from.mesh.call("send", { to: to.did, message });
  const { status } = await to.mesh.call("await", { from: [from.did], timeout_ms: 20_000 });
  if (status !== "received") throw new Error("the message did not come");
}

/** A list that can be waited on. */
export class Collected<T> {
  readonly all: T[] = [];
  readonly #waiting = new Set<{ readonly isIt: (one: T) => boolean; readonly resolve: (one: T) => void }>();

  add(one: T): void {
    this.all.push(one);
    for (const waiting of this.#waiting) {
      if (!waiting.isIt(one)) continue;
      this.#waiting.delete(waiting);
      waiting.resolve(one);
    }
  }

  /** The first that is it, come or to come. */
  first(isIt: (one: T) => boolean): Promise<T> {
    const found = this.all.find(isIt);
    return found === undefined
      ? new Promise((resolve) => this.#waiting.add({ isIt, resolve }))
      : Promise.resolve(found);
  }
}

export interface Viewer {
  readonly socket: WebSocket;
  readonly messages: Collected<StatelyMessage>;
  /** Every byte received. */
  text(): string;
  /** The close code. */
  readonly closed: Promise<number>;
}

export async function view(url: string, options?: ClientOptions): Promise<Viewer> {
  const socket = new WebSocket(url, options);
  onTestFinished(() => socket.terminate());
  const messages = new Collected<StatelyMessage>();
  const received: string[] = [];
  socket.on("message", (data) => {
    const text = String(data);
    received.push(text);
    messages.add(JSON.parse(text));
  });
  const closed = new Promise<number>((resolve) => socket.once("close", resolve));
  await once(socket, "open");
  return { socket, messages, text: () => received.join("\n"), closed };
}

/** The HTTP status with which a viewer is refused; undefined when it was let in. */
export async function refused(url: string, options?: ClientOptions): Promise<number | undefined> {
  const socket = new WebSocket(url, options);
  onTestFinished(() => socket.terminate());
  // The refusal is reported as such; the error that follows it says nothing more.
  socket.on("error", () => undefined);
  const refusal = once(socket, "unexpected-response").then(([, response]): number | undefined => response.statusCode);
  const opened = once(socket, "open").then(() => undefined);
  return Promise.race([refusal, opened]);
}

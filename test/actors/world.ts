/** Whole nodes and a relay with its registry, in one process and in directories of their own. */
import { join } from "node:path";
import { realNetwork } from "../../src/actors/network.ts";
import { MeshNode, type NodeOptions } from "../../src/actors/node.ts";
import { type ParamsOf, type ResultOf, runOperation } from "../../src/actors/operation.ts";
import { type Operations, operations } from "../../src/actors/operations.ts";
import { type Network, type Ports, realPorts } from "../../src/actors/ports.ts";
import { type ClusterServer, type ServerOptions, startServer } from "../../src/cluster/server.ts";
import { MeshError } from "../../src/errors.ts";
import { atTheEnd } from "../ending.ts";
import type { Places } from "../reference/servers.ts";
import { temporaryDirectory } from "../store/disks.ts";

/** What a test of whole nodes may take. */
const PATIENCE_MS = 20_000;

/** Asks a node for one of its operations. */
export const call = async <N extends keyof Operations>(
  node: MeshNode,
  name: N,
  params: ParamsOf<Operations, N>,
): Promise<ResultOf<Operations, N>> => {
  const answer = await runOperation(operations, name, params, {
    node,
    signal: AbortSignal.timeout(PATIENCE_MS),
    progress: () => undefined,
  });
  return answer as ResultOf<Operations, N>;
};

/** A node that is closed when the test ends. */
export async function openNode(options: NodeOptions): Promise<MeshNode> {
  const node = await MeshNode.open(options);
  atTheEnd(() => node.close());
  return node;
}

/** Where nothing can be reached. */
const nowhere: Network = {
  dial: (_, events) => {
    queueMicrotask(() => events.closed(1006, "no network"));
    return { send: () => undefined, ping: () => undefined, buffered: 0, close: () => undefined };
  },
  fetch: () => Promise.reject(new TypeError("fetch failed")),
};
export const offline = (): Ports => realPorts(nowhere);

type Frame = Readonly<Record<string, unknown>>;

/** The real network, where only those frames get through that `passes` lets. It sees every frame, both ways. */
export const filtered = (passes: (frame: Frame, direction: "in" | "out") => boolean): Ports =>
  realPorts({
    ...realNetwork,
    dial(url, events) {
      const socket = realNetwork.dial(url, {
        ...events,
        received: (text) => {
          if (passes(JSON.parse(text.toString()), "in")) events.received(text);
        },
      });
      return {
        send: (text) => {
          if (passes(JSON.parse(text.toString()), "out")) socket.send(text);
        },
        ping: () => socket.ping(),
        get buffered() {
          return socket.buffered;
        },
        close: () => socket.close(),
      };
    },
  });

export interface World {
  readonly directory: string;
  readonly server: ClusterServer;
  /** Where its relay and its registry are. */
  readonly places: Places;
  /** Opens the node of that name; the first time it joins the mesh. */
  open(name: string, ports?: Ports, onNote?: (text: string) => void): Promise<MeshNode>;
  home(name: string): string;
}

/** @param options of the relay and the registry */
export async function openWorld(
  options: Pick<ServerOptions, "allowUnproven" | "disk" | "now" | "every"> = {},
): Promise<World> {
  const directory = await temporaryDirectory();
  const server = await startServer({
    host: "127.0.0.1",
    port: 0,
    directory: join(directory, "server"),
    pair: () => Promise.reject(new MeshError("token_invalid")),
    ...options,
  });
  atTheEnd(() => server.close());
  const home = (name: string) => join(directory, name);
  return {
    directory,
    server,
    places: { relayUrl: server.relayUrl, registryUrl: server.url },
    home,
    async open(name, ports = realPorts(realNetwork), onNote = () => undefined) {
      const node = await openNode({ home: home(name), ports, onNote });
      node.start();
      if (!node.membership.current) {
        await node.membership.join({
          controller: null,
          cluster: "test",
          relayUrl: server.relayUrl,
          registryUrl: server.url,
          name,
          capabilities: ["chat"],
        });
      }
      return node;
    },
  };
}

/** All ways in which bytes may stand in a file. */
export function encodingsOf(secret: Uint8Array | string): Buffer[] {
  const bytes = Buffer.from(secret);
  const base64 = bytes.toString("base64").replace(/=+$/, "");
  return [
    bytes,
    Buffer.from(base64),
    Buffer.from(bytes.toString("base64url")),
    Buffer.from(bytes.toString("hex")),
    Buffer.from(bytes.toString("hex").toUpperCase()),
    // In the middle of longer text base64 depends on where it starts: of every three places, one of these.
    ...[0, 1, 2].map((skip) => {
      const whole = Math.floor((bytes.length - skip) / 3) * 3;
      return Buffer.from(bytes.subarray(skip, skip + whole).toString("base64"));
    }),
  ].filter(({ length }) => length >= 8);
}

import { once } from "node:events";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { WebSocket } from "ws";
import { z } from "zod";
import type { Nats } from "./relays.ts";
import { frameWriter, type Lane, numberOf } from "./scale/lanes.ts";
import { startProcess } from "./servers.ts";

// What a relay is measured against: a socket that answers with what it gets, and NATS that says that it has it.

/** Lanes of a peer, and what ends them. */
export interface Lanes {
  readonly lanes: readonly Lane[];
  close(): Promise<void>;
}

const NOBODY = "did:mesh:00000000000000000000000000000000";

/** A socket each to a bare `ws` server in a process of its own, which sends every frame back. */
export async function echoLanes(count: number, size: number): Promise<Lanes> {
  const server = await startProcess("echo-process.ts", [], z.object({ url: z.string() }));
  const sockets = await Promise.all(
    Array.from({ length: count }, async () => {
      const socket = new WebSocket(server.said.url, { perMessageDeflate: false });
      await once(socket, "open");
      return socket;
    }),
  );
  const lane = (socket: WebSocket): Lane => {
    const write = frameWriter(NOBODY, NOBODY, size, "echo");
    let [heard, failed]: Parameters<Lane["listen"]> = [() => undefined, () => undefined];
    socket.on("message", (data) => heard(numberOf(JSON.parse(data.toString()).id)));
    socket.on("close", () => failed("its socket ended"));
    return {
      say: (number) => socket.send(write(number)),
      listen: (...told) => {
        [heard, failed] = told;
      },
    };
  };
  return {
    lanes: sockets.map(lane),
    async close() {
      for (const socket of sockets) socket.terminate();
      await server.end();
    },
  };
}

/** A subject each in a stream on disk; a frame is heard when NATS has answered that it is stored. */
export async function natsLanes({ servers, nodes }: Nats, count: number, size: number): Promise<Lanes> {
  const nats = await connect({ servers: servers.split(",") });
  const js = jetstream(nats);
  const jsm = await jetstreamManager(nats);
  await jsm.streams.add({ name: "bare", subjects: ["bare.*"], num_replicas: nodes, max_msgs: 100_000 });
  const lane = (_: unknown, index: number): Lane => {
    const write = frameWriter(NOBODY, NOBODY, size, "bare");
    let [heard, failed]: Parameters<Lane["listen"]> = [() => undefined, () => undefined];
    return {
      say: (number) => {
        js.publish(`bare.${index}`, write(number)).then(
          () => heard(number),
          (error: unknown) => failed(String(error)),
        );
      },
      listen: (...told) => {
        [heard, failed] = told;
      },
    };
  };
  return { lanes: Array.from({ length: count }, lane), close: () => nats.close() };
}

import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { connectBus } from "../src/cluster/jetstream/bus.ts";
import { openJetStreamState } from "../src/cluster/jetstream/state.ts";
import { startServer } from "../src/cluster/server.ts";
import { MeshError } from "../src/errors.ts";

// One process that is relay and registry: alone with its files, or a replica on NATS. It prints where it listens, answers the
// line `memory` with what it has resident, and ends with its input.

const { values } = parseArgs({
  options: {
    directory: { type: "string" },
    port: { type: "string", default: "0" },
    nats: { type: "string" },
    cluster: { type: "string", default: "bench" },
    verbose: { type: "boolean", default: false },
  },
});
const { directory = "", nats, cluster } = values;
const log = values.verbose ? (line: string) => void process.stderr.write(`${line}\n`) : () => undefined;

const ANY = { burst: 1e12, perMinute: 1e12 };
const bus = nats === undefined ? undefined : await connectBus({ servers: nats, cluster, log });
const server = await startServer({
  host: "127.0.0.1",
  port: Number(values.port),
  directory,
  ...(bus && { state: await openJetStreamState(bus, { now: Date.now, log }) }),
  // What it bears is measured here, not what it allows.
  rates: { connects_per_address: ANY, frames_per_agent: ANY, bytes_per_agent: ANY },
  connectionsPerAddress: ANY.burst,
  pair: () => Promise.reject(new MeshError("token_invalid")),
  log,
});
const say = (said: object) => void process.stdout.write(`${JSON.stringify(said)}\n`);

setFlagsFromString("--expose-gc");
const collect: unknown = runInNewContext("gc");

function resident(): number {
  if (typeof collect === "function") collect();
  return process.memoryUsage.rss();
}

say({ relayUrl: server.relayUrl, registryUrl: server.url });
createInterface(process.stdin)
  .on("line", (line) => line === "memory" && say({ resident: resident() }))
  .on("close", () => void server.close().then(() => bus?.close()));

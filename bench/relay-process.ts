import { startServer } from "../src/cluster/server.ts";
import { MeshError } from "../src/errors.ts";

// One process that is relay and registry, also to clients that prove nothing: it prints where it listens and ends with its input.

const [directory = ""] = process.argv.slice(2);

const server = await startServer({
  host: "127.0.0.1",
  port: 0,
  directory,
  allowUnproven: true,
  pair: () => Promise.reject(new MeshError("token_invalid")),
});
process.stdout.write(`${JSON.stringify({ relayUrl: server.relayUrl, registryUrl: server.url })}\n`);
process.stdin.resume().on("end", () => void server.close());

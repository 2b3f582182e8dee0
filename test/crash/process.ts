/** A process to be killed: a laptop's node or a whole cluster, asked through its standard input, one JSON message a line. */
import { flushCompileCache } from "node:module";
import { createInterface } from "node:readline";
import { openMesh } from "../../src/actors/mesh.ts";
import { openCluster } from "../../src/cluster/local.ts";
import { asMeshError } from "../../src/errors.ts";

/** So small that pages are turned all the time. */
const LIMITS = { segmentSize: 12_000, epochCommits: 25, epochTimeMs: 3_600_000, snapshotCommits: 20 };

interface Node {
  readonly role: string;
  call(name: string, params: object): Promise<unknown>;
  close(): Promise<void>;
}
interface Question {
  readonly id: number;
  readonly call: string;
  readonly params: object;
}

const [role = "", place = "", port = "0"] = process.argv.slice(2);
const say = (message: object) => process.stdout.write(`${JSON.stringify(message)}\n`);

// What is asked is an operation of that node by the name that the test gives it: the node itself checks it.
const node: Node =
  role === "cluster"
    ? ((await openCluster({ directory: place, port: Number(port) })) as Node)
    : ((await openMesh({ home: place, limits: LIMITS })) as Node);
say({ ready: node.role });
// A process that is killed would not keep what it compiled for those after it.
flushCompileCache();

for await (const line of createInterface({ input: process.stdin })) {
  const { id, call, params }: Question = JSON.parse(line);
  if (call === "close") {
    await node.close();
    say({ id, result: null });
    break;
  }
  node.call(call, params).then(
    (result) => say({ id, result }),
    (error: unknown) => say({ id, error: asMeshError(error).code }),
  );
}
await node.close();
process.exit();

/** A laptop in a process of its own, to be killed: asked through its standard input, one JSON message a line. */
import { flushCompileCache } from "node:module";
import { createInterface } from "node:readline";
import { z } from "zod";
import { realNetwork } from "../../src/actors/network.ts";
import { MeshNode } from "../../src/actors/node.ts";
import { runOperation } from "../../src/actors/operation.ts";
import { operations } from "../../src/actors/operations.ts";
import { realPorts } from "../../src/actors/ports.ts";
import { asMeshError } from "../../src/errors.ts";
import { type Outcome, takerInto } from "../files/world.ts";

const Question = z.object({ id: z.int(), call: z.string(), params: z.unknown() });

const [home = "", inbox = ""] = process.argv.slice(2);
const say = (message: object) => process.stdout.write(`${JSON.stringify(message)}\n`);

const file = Promise.withResolvers<Outcome>();
const node = await MeshNode.open({ home, ports: realPorts(realNetwork), files: takerInto(inbox, file.resolve) });
node.start();
say({ ready: "owner" });
// A process that is killed would not keep what it compiled for those after it.
flushCompileCache();

const answers = async ({ call, params }: z.infer<typeof Question>): Promise<unknown> => {
  // What became of the first file.
  if (call === "file") return file.promise;
  return runOperation(operations, call, params, { node, signal: node.signal, progress: () => undefined });
};

for await (const line of createInterface({ input: process.stdin })) {
  const question = Question.parse(JSON.parse(line));
  if (question.call === "close") {
    await node.close();
    say({ id: question.id, result: null });
    break;
  }
  answers(question).then(
    (result) => say({ id: question.id, result }),
    (error: unknown) => say({ id: question.id, error: asMeshError(error).code }),
  );
}
await node.close();
process.exit();

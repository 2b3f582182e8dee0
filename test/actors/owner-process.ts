/** A process that opens the home it is given, says its role, and answers one call a line until its input ends. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { openMesh } from "../../src/actors/mesh.ts";
import { type Operations, operations } from "../../src/actors/operations.ts";
import { asMeshError } from "../../src/errors.ts";

const [home = ""] = process.argv.slice(2);
const say = (line: unknown) => process.stdout.write(`${JSON.stringify(line)}\n`);
const isOperation = (name: string): name is keyof Operations => name in operations;

const mesh = await openMesh({ home });
// A process of its own that outlives this one, and ends by itself when the test's pipe is gone.
if (process.env.OWNER_STARTS) {
  const child = spawn(process.execPath, ["-e", "setTimeout(() => undefined, 20_000)"], {
    detached: true,
    stdio: "ignore",
  });
  process.on("exit", () => child.kill());
  child.unref();
}
say({ role: mesh.role });
for await (const line of createInterface({ input: process.stdin })) {
  const { name, params }: { name: string; params: never } = JSON.parse(line);
  if (!isOperation(name)) throw new Error(`no operation ${name}`);
  await mesh.call(name, params).then(
    (result) => say({ result }),
    (error: unknown) => say(asMeshError(error).toJSON()),
  );
}
await mesh.close();
say({ role: "gone" });

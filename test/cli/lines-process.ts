/**
 * One process in which many command lines are done, one after the other: each evaluates its program's entry anew, as a process
 * of its own would. What it writes and the exit code it ends with go to the parent.
 */
import { pathToFileURL } from "node:url";
import { PROGRAMS } from "../build.ts";
import type { Asked, Done } from "./lines.ts";

const exit = process.exit.bind(process);
process.setMaxListeners(0);
process.stdout.setMaxListeners(0);
process.stderr.setMaxListeners(0);

let told = { stdout: "", stderr: "" };
let ended = Promise.withResolvers<number>();
for (const stream of ["stdout", "stderr"] as const)
  process[stream].write = (chunk: string | Uint8Array, ...rest: unknown[]) => {
    told[stream] += String(chunk);
    const done = rest.find((each) => typeof each === "function");
    if (done) queueMicrotask(() => done());
    return true;
  };
process.exit = (code) => {
  ended.resolve(Number(code ?? 0));
  // Nothing goes on after an exit.
  return undefined as never;
};

let lines = 0;
async function perform({ program, args }: Asked): Promise<Done> {
  told = { stdout: "", stderr: "" };
  ended = Promise.withResolvers();
  process.exitCode = undefined;
  process.argv = [process.execPath, PROGRAMS[program], ...args];
  // The module is another one each time.
  await import(`${pathToFileURL(PROGRAMS[program])}?${lines++}`);
  return { code: await ended.promise, ...told };
}

let last: Promise<unknown> = Promise.resolve();
process.on("message", (asked: Asked & { id: number }) => {
  last = last.then(() => perform(asked)).then((done) => process.send?.({ id: asked.id, done }));
});
process.on("disconnect", () => exit(0));

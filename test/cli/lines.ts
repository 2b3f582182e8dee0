/** Command lines of which only what they say and end with matters: many in one process, which is started with the first. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { type Program, quiet } from "./harness.ts";

export interface Asked {
  readonly program: Program;
  readonly args: readonly string[];
}
export interface Done {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

let child: ChildProcess | undefined;
let asked = 0;
const waiting = new Map<number, (done: Done) => void>();

function start(): ChildProcess {
  const started = fork(join(import.meta.dirname, "lines-process.ts"), [], {
    env: quiet,
    execArgv: ["--disable-warning=ExperimentalWarning"],
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  started.on("message", ({ id, done }: { id: number; done: Done }) => {
    waiting.get(id)?.(done);
    waiting.delete(id);
  });
  return started;
}

/** Does a command line as if in a process of its own, with nothing to read. */
export function runLine(program: Program, args: readonly string[]): Promise<Done> {
  child ??= start();
  const { promise, resolve } = Promise.withResolvers<Done>();
  const id = asked++;
  waiting.set(id, resolve);
  child.send({ id, program, args });
  return promise;
}

/** Ends the process. */
export async function endLines(): Promise<void> {
  if (!child) return;
  const ended = once(child, "exit");
  child.disconnect();
  child = undefined;
  await ended;
}

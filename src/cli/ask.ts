import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";
import { MeshError } from "../errors.ts";
import { interruption } from "./interruption.ts";

// Questions to a person at a terminal. They stand on stderr, so that stdout holds results alone.

/** Whether there is anyone to ask. */
export const someoneIsThere = (): boolean => process.stdin.isTTY && process.stderr.isTTY;

async function ask(question: string, output: NodeJS.WritableStream): Promise<string> {
  const reader = createInterface({ input: process.stdin, output, terminal: true, historySize: 0 });
  const stop = new AbortController();
  // Ctrl-C at the question, or an input that ends, is an answer too.
  reader.once("SIGINT", () => stop.abort());
  reader.once("close", () => stop.abort());
  try {
    return await reader.question(question, { signal: AbortSignal.any([stop.signal, interruption()]) });
  } catch (cause) {
    throw new MeshError("aborted", undefined, { cause });
  } finally {
    reader.close();
    process.stdin.pause();
  }
}

/** Words that are not shown while they are typed. @throws MeshError `aborted` */
export async function askSecretly(question: string): Promise<string> {
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  process.stderr.write(question);
  try {
    return await ask("", nowhere);
  } finally {
    process.stderr.write("\n");
  }
}

/** @throws MeshError `aborted` */
export const confirmed = async (question: string): Promise<boolean> =>
  /^y(es)?$/i.test((await ask(`${question} [y/N] `, process.stderr)).trim());

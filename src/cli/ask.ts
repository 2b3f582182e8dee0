import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";
import { MeshError } from "../errors.ts";
import { interruption } from "./interruption.ts";

// Questions to a person at a terminal. They stand on stderr, so that stdout holds results alone.

/** Whether there is anyone to ask. */
export const someoneIsThere = (): boolean => process.stdin.isTTY && process.stderr.isTTY;

/** @param isSecret nothing of what is typed is shown */
async function ask(question: string, isSecret: boolean): Promise<string> {
  let isShown = true;
  const output = new Writable({
    write: (chunk, _, done) => {
      if (isShown) process.stderr.write(chunk);
      done();
    },
  });
  // From here on the terminal shows nothing by itself: the question comes after.
  const reader = createInterface({ input: process.stdin, output, terminal: true, historySize: 0 });
  const stop = new AbortController();
  // Ctrl-C at the question, or an input that ends, is an answer too.
  reader.once("SIGINT", () => stop.abort());
  reader.once("close", () => stop.abort());
  try {
    const answer = reader.question(question, { signal: AbortSignal.any([stop.signal, interruption()]) });
    isShown = !isSecret;
    return await answer;
  } catch (cause) {
    throw new MeshError("aborted", undefined, { cause });
  } finally {
    reader.close();
    process.stdin.pause();
    if (isSecret) process.stderr.write("\n");
  }
}

/** Words that are not shown while they are typed. @throws MeshError `aborted` */
export const askSecretly = (question: string): Promise<string> => ask(question, true);

/** @throws MeshError `aborted` */
export const confirmed = async (question: string): Promise<boolean> =>
  /^y(es)?$/i.test((await ask(`${question} [y/N] `, false)).trim());

import { InvalidArgumentError } from "commander";
import { MeshError } from "../errors.ts";
import { interruption } from "./interruption.ts";

// Words from the command line, or from standard input where `-` stands for them.

/** Reads standard input to its end. @throws MeshError `limit_reached` above so many bytes, `aborted` */
async function readStandardInput(sizeMax: number, what: string): Promise<string> {
  const { stdin } = process;
  if (stdin.isTTY) process.stderr.write(`Write the ${what}, then Ctrl-D on a line of its own.\n`);
  const signal = interruption();
  const stop = () => stdin.destroy();
  signal.addEventListener("abort", stop, { once: true });
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of stdin) {
      const bytes = Buffer.from(chunk);
      size += bytes.length;
      if (size > sizeMax) throw new MeshError("limit_reached", `A ${what} has at most ${sizeMax} bytes.`);
      chunks.push(bytes);
    }
  } catch (error) {
    if (signal.aborted) throw new MeshError("aborted", undefined, { cause: error });
    throw error;
  } finally {
    signal.removeEventListener("abort", stop);
  }
  return Buffer.concat(chunks)
    .toString("utf8")
    .replace(/\r?\n$/, "");
}

/**
 * The words that are meant: what was typed, or standard input for a single `-`.
 * @param what names it in messages: "message", "task"
 */
export async function wordsOf(typed: readonly string[], sizeMax: number, what: string): Promise<string> {
  const isPiped = typed.length === 1 && typed[0] === "-";
  const words = isPiped ? await readStandardInput(sizeMax, what) : typed.join(" ");
  if (words.trim() === "") throw new InvalidArgumentError(`The ${what} is empty.`);
  return words;
}

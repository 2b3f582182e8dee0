import { z } from "zod";
import { safeParse } from "../../parse.ts";
import { type Held, holdEntry, readText } from "./held.ts";
import { USAGE_SIZE_MAX } from "./limits.ts";

// Tokens of a language model, as whoever runs the task counts them: a preset from what its agent prints, any other program
// in the file that KARS_USAGE_FILE names.

/** The variable that names the file. */
export const USAGE_VARIABLE = "KARS_USAGE_FILE";
/** The file, in the task's folder for what is to be forgotten. */
export const USAGE_FILE = "usage.json";

const Count = z.int().min(0).default(0);
/** `{"prompt":n,"completion":n}`: what was used so far, each time anew. */
export const TokensUsed = z.object({ prompt: Count, completion: Count });
export type TokensUsed = z.infer<typeof TokensUsed>;

export const NO_TOKENS: TokensUsed = { prompt: 0, completion: 0 };

export const totalOf = ({ prompt, completion }: TokensUsed): number => prompt + completion;

/** The larger of each: what was told once was used. */
export const atLeast = (a: TokensUsed, b: TokensUsed): TokensUsed => ({
  prompt: Math.max(a.prompt, b.prompt),
  completion: Math.max(a.completion, b.completion),
});

/** What the file says, or undefined when it says nothing (yet). */
export async function readUsage(scratch: Held): Promise<TokensUsed | undefined> {
  try {
    const file = await holdEntry(scratch, USAGE_FILE);
    try {
      const text = await readText(file, USAGE_SIZE_MAX);
      return text === undefined ? undefined : safeParse(TokensUsed, JSON.parse(text)).data;
    } finally {
      await file.close();
    }
  } catch {
    // There is none, or it is just being written.
    return undefined;
  }
}

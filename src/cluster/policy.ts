import { spawn } from "node:child_process";
import { z } from "zod";
import { POLICY_OUTPUT_SIZE_MAX, POLICY_REASON_LENGTH_MAX, POLICY_WAIT_MS } from "./limits.ts";

// The operator's own program that says of each task, before it begins, and of each result, before it leaves, whether it may.
// It runs beside the task, not with it: in the sandbox's process, which has the files and what came of them.
//
// It gets one JSON document on standard input. Exit 0 allows; any other end refuses, with the first line that it printed as the
// reason. One that hangs, crashes or is missing refuses too.

export const PolicyHook = z.object({
  /** A shell command. */
  command: z.string().min(1),
  /** Where the operator started the cluster, so that a path means the same. */
  directory: z.string(),
});
export type PolicyHook = z.infer<typeof PolicyHook>;

export interface PolicyFile {
  readonly name: string;
  readonly path: string;
  readonly size: number;
  readonly sha256: string;
}

/** Whose task it is. */
export interface PolicySubject {
  readonly grant: string;
  readonly laptop: string;
  readonly request_id: string;
}

export type PolicyQuestion = PolicySubject & { readonly files: readonly PolicyFile[] } & (
    | { readonly stage: "task"; readonly task: string }
    | {
        readonly stage: "result";
        readonly ok: boolean;
        readonly exit: number | null;
        readonly summary: string;
      }
  );

const firstLine = (text: string): string | undefined =>
  text
    .split("\n")
    .map((line) => line.trim())
    .find((line) => line !== "")
    ?.slice(0, POLICY_REASON_LENGTH_MAX);

/** Asks the operator's program. Resolves with the reason of a refusal, or undefined when it allows. */
export async function refusalOf(
  { command, directory }: PolicyHook,
  question: PolicyQuestion,
  waitMs = POLICY_WAIT_MS,
): Promise<string | undefined> {
  const shell = process.platform === "win32" ? { shell: true } : { shell: "/bin/sh", detached: true };
  const child = spawn(command, { cwd: directory, ...shell, stdio: ["pipe", "pipe", "pipe"] });
  const said = { out: "", err: "" };
  const keep = (stream: "out" | "err") => (chunk: Buffer) => {
    if (said[stream].length < POLICY_OUTPUT_SIZE_MAX) said[stream] += chunk.toString("utf8");
  };
  child.stdout.on("data", keep("out"));
  child.stderr.on("data", keep("err"));
  // It need not read what it is not interested in.
  child.stdin.on("error", () => undefined);
  child.stdin.end(`${JSON.stringify(question)}\n`);
  let isLate = false;
  const kill = () => {
    try {
      if (child.pid !== undefined) process.kill(process.platform === "win32" ? child.pid : -child.pid, "SIGKILL");
    } catch {
      // It has just ended.
    }
  };
  const alarm = setTimeout(() => {
    isLate = true;
    kill();
  }, waitMs);
  try {
    const end = await new Promise<number | string>((resolve) => {
      child.once("error", (error) => resolve(`it could not be started: ${error.message}`));
      child.once("exit", (code, signal) => resolve(code ?? `it was ended by ${signal}`));
    });
    if (isLate) return `the program that decides did not answer within ${waitMs / 1000} s`;
    if (typeof end === "string") return `the program that decides failed: ${end}`;
    if (end === 0) return undefined;
    return firstLine(said.out) ?? firstLine(said.err) ?? `no reason was given (exit ${end})`;
  } finally {
    clearTimeout(alarm);
    // What it left running is not to outlive its answer.
    kill();
  }
}

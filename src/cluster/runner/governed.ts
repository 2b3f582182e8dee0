import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { MeshError } from "../../errors.ts";
import type { TaskNews } from "../../wire/payload.ts";
import { type PolicyFile, type PolicyHook, type PolicyQuestion, type PolicySubject, refusalOf } from "../policy.ts";
import { UNJUDGED_PROGRESS_STEP_MIN } from "./limits.ts";
import type { TaskOptions, TaskResult } from "./task.ts";
import { NO_TOKENS, totalOf } from "./usage.ts";

// A task as its cluster wants it: the one that was allowed and no other, asked about before it begins and before anything of
// it leaves, and accounted for.

export type RunTask = (options: TaskOptions) => Promise<TaskResult>;

export interface Governance {
  readonly subject: PolicySubject;
  /** SHA-256 of the task that was allowed, hex; null when that was not written down. */
  readonly allowed: string | null;
  readonly policy: PolicyHook | null;
  /** Tells the cluster. */
  readonly tell: (news: TaskNews) => void;
}

async function described(path: string): Promise<PolicyFile> {
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of createReadStream(path)) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { name: basename(path), path, size, sha256: hash.digest("hex") };
}

const describeAll = async (paths: readonly string[]): Promise<PolicyFile[]> => {
  const files: PolicyFile[] = [];
  for (const path of paths) files.push(await described(path));
  return files;
};

/**
 * Progress that may leave before anybody has looked at the result: how far the task is, in steps that only grow, each told once. No
 * words, and nothing any more when the task is over.
 */
function unjudged(onProgress: TaskOptions["onProgress"]): { readonly tell: TaskOptions["onProgress"]; end(): void } {
  let [told, stage, isOver] = [0, "", false];
  return {
    tell(news) {
      const step = Math.floor((news.pct ?? 0) / UNJUDGED_PROGRESS_STEP_MIN) * UNJUDGED_PROGRESS_STEP_MIN;
      if (isOver || (step <= told && news.stage === stage)) return;
      stage = news.stage;
      told = Math.max(told, step);
      onProgress({ stage, message: "at work", ...(told > 0 && { pct: told }) });
    },
    end() {
      isOver = true;
    },
  };
}

/** A task that threw has said something, too: a policy judges it like all else. */
const thrown = (error: unknown): TaskResult => ({
  ok: false,
  exit: null,
  summary: error instanceof Error ? error.message : String(error),
  files: [],
  ...(error instanceof MeshError && { code: error.code }),
});

export const governed =
  ({ subject, allowed, policy, tell }: Governance, run: RunTask): RunTask =>
  async (given) => {
    let used = NO_TOKENS;
    const onUsage: TaskOptions["onUsage"] = (tokens) => {
      used = tokens;
      tell({ type: "used", tokens: totalOf(tokens) });
      given.onUsage(tokens);
    };
    const options: TaskOptions = { ...given, onUsage };
    // The task chose its exit code as it chose its words: the audit record has it, the laptop does not get it.
    let exitOfTask: number | null = null;
    const refused = (reason: string, result?: TaskResult): TaskResult => ({
      ok: false,
      exit: null,
      summary: `Refused by the cluster's policy: ${reason}`,
      files: [],
      code: "policy_refused",
      reason,
      ...(result?.tokens && { tokens: result.tokens }),
    });
    const asked = async (question: PolicyQuestion, result?: TaskResult): Promise<TaskResult | undefined> => {
      const reason = policy === null ? undefined : await refusalOf(policy, question);
      return reason === undefined ? undefined : refused(reason, result);
    };

    const perform = async (): Promise<TaskResult> => {
      const { task, files, directory, onProgress } = options;
      if (allowed !== null && createHash("sha256").update(task).digest("hex") !== allowed)
        return { ok: false, exit: null, summary: "This is not the task that was asked for.", files: [] };
      const paths = files.map((name) => join(directory, name));
      const sizes = await Promise.all(paths.map(async (path) => (await stat(path)).size));
      tell({ type: "begun", files: files.length, bytes: sizes.reduce((sum, size) => sum + size, 0) });
      if (policy === null) return run(options);
      const before = await asked({ stage: "task", ...subject, task, files: await describeAll(paths) });
      if (before) return before;
      const progress = unjudged(onProgress);
      const result = await run({ ...options, onProgress: progress.tell })
        .catch(thrown)
        .finally(progress.end);
      const { ok, exit, summary, log } = result;
      exitOfTask = exit;
      const leaving = await describeAll([...result.files, ...(log === undefined ? [] : [log])]);
      return (await asked({ stage: "result", ...subject, ok, exit, summary, files: leaving }, result)) ?? result;
    };

    try {
      const result = await perform();
      const { ok, exit, code = null, reason = null } = result;
      tell({ type: "ended", ok, exit: exit ?? exitOfTask, code, reason });
      return totalOf(used) > 0 ? { ...result, tokens: used } : result;
    } catch (error) {
      // What came of it may be more than can be sent, say.
      const code = error instanceof MeshError ? error.code : null;
      tell({ type: "ended", ok: false, exit: null, code, reason: null });
      throw error;
    }
  };

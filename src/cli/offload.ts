import { randomUUID } from "node:crypto";
import { resolve } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { Mesh } from "../actors/mesh.ts";
import type { OffloadView } from "../actors/offloads.ts";
import { MeshError } from "../errors.ts";
import {
  OFFLOAD_TIMEOUT_MINUTES,
  OFFLOAD_TIMEOUT_MINUTES_MAX,
  SETTLE_MS,
  TASK_SIZE_MAX,
  WAIT_MAX_MS,
} from "../limits.ts";
import { duration, repeated } from "./arguments.ts";
import { atHome, fetchFirst, type Visit } from "./home.ts";
import { wordsOf } from "./input.ts";
import { describe, document, isOver, overview, type Progress, progressOf, said, shortOf } from "./offload-text.ts";
import { cut } from "./output.ts";
import { action, type Io } from "./program.ts";

// Work that is handed to the cluster.

export function addOffloads(program: Command): void {
  program
    .command("offload")
    .description("hand a task to a sandbox of the cluster")
    .argument("<task>", "the task, in quotes; - reads it from standard input")
    .argument("[more...]", "more files, after --file")
    .option("--file <path>", "send a file along; may be given several times", repeated)
    .addOption(new Option("--to <name>", "to the sandbox that stands under that name").conflicts("capability"))
    .option("--capability <capability>", "to a fresh sandbox that may do that")
    .option(
      "--timeout <min>",
      `the time it may take, in minutes or as 2h (default: ${OFFLOAD_TIMEOUT_MINUTES})`,
      duration({ unit: "m", max: `${OFFLOAD_TIMEOUT_MINUTES_MAX}m` }),
    )
    .option("--force", "also when the same runs already")
    .option("--allow-secret", "also files that look like secrets")
    .option("--wait", "stay until it has ended; Ctrl-C leaves it running")
    .addHelpText("after", '\nExample: kars-mesh offload "run train.py --epochs 3" --file train.py data.csv --wait')
    .action(action(offload));
  program
    .command("status")
    .description("show the offloads, or one of them")
    .argument("[id]", "the id that offload gave, or the beginning of it")
    .option("--watch", "stay until it has ended, or all have")
    .addHelpText(
      "after",
      "\nWith --watch and an id it exits with 0 when the offload was done, with 1 when it ended otherwise.",
    )
    .action(action(status));
  program
    .command("cancel")
    .description("end an offload")
    .argument("<id>", "the id that offload gave, or the beginning of it")
    .action(action(cancel));
}

const isProgress = (news: unknown): news is Progress =>
  typeof news === "object" && news !== null && "phase" in news && "progress" in news;

// Commands

interface OffloadOptions {
  readonly file?: readonly string[];
  readonly to?: string;
  readonly capability?: string;
  readonly timeout?: number;
  readonly force?: true;
  readonly allowSecret?: true;
  readonly wait?: true;
}

async function offload(io: Io, typed: string, more: readonly string[], options: OffloadOptions): Promise<void> {
  if (more.length > 0 && options.file === undefined)
    throw new InvalidArgumentError("The task has several words: put it in quotes.");
  const task = await wordsOf([typed], TASK_SIZE_MAX, "task");
  // The process that owns the home may stand in another directory.
  const files = [...(options.file ?? []), ...more].map((path) => resolve(path));
  const request = {
    // The same id when the command is repeated: it is the same offload.
    id: randomUUID(),
    task,
    files,
    ...(options.force && { force: true }),
    ...(options.allowSecret && { secrets: files }),
    ...(options.to === undefined ? {} : { to: options.to }),
    ...(options.capability === undefined ? {} : { capability: options.capability }),
    ...(options.timeout === undefined ? {} : { timeout_minutes: options.timeout / 60_000 }),
  };
  await atHome(io, async (visit) => {
    const { mesh, signal } = visit;
    const { offload_id: id, duplicate } = await mesh.call("offload", request, { signal });
    if (duplicate) io.note(`The same goes on already, so nothing new was begun. --force begins it once more.`);
    if (options.wait) {
      io.note(`Offload ${id}. Ctrl-C leaves it running.`);
      return followToTheEnd(io, visit, id);
    }
    const first = await mesh.call("offload_status", { id });
    // Its next state is the one in which the request waits to be sent, or is answered.
    if ("offload_id" in first && first.position === null)
      await mesh.call("offload_status", { id, wait_ms: SETTLE_MS }, { signal });
    await visit.settle();
    const view = await mesh.call("offload_status", { id });
    if (!("offload_id" in view)) return;
    const problem = view.phase === "requested" || view.phase === "accepted" ? await visit.offline() : undefined;
    if (problem !== undefined)
      io.note(`${problem} The request goes out when it is back and a process has this home open.`);
    io.result(
      document(view),
      `Offload ${id} is ${view.position === null ? view.phase : `number ${view.position} in the queue`}. Follow it with kars-mesh status ${shortOf(id)} --watch.`,
    );
  });
}

/** The offload that is meant by its id or the beginning of it. */
async function idOf(mesh: Mesh, text: string): Promise<string> {
  const all = await mesh.call("offload_status", {});
  const ids = "offloads" in all ? all.offloads.map(({ offload_id }) => offload_id) : [];
  const [found, ...others] = ids.includes(text) ? [text] : ids.filter((id) => id.startsWith(text));
  return found === undefined || others.length > 0 ? text : found;
}

async function status(io: Io, typed: string | undefined, { watch }: { watch?: true }): Promise<void> {
  await atHome(io, async (visit) => {
    await fetchFirst(io, visit);
    const id = typed === undefined ? undefined : await idOf(visit.mesh, typed);
    if (id !== undefined && watch) return followToTheEnd(io, visit, id);
    if (watch) await followAll(io, visit);
    const found = await visit.mesh.call("offload_status", id === undefined ? {} : { id });
    if ("offload_id" in found) io.result(document(found), describe(found));
    else io.result({ offloads: found.offloads.map(document) }, overview(found.offloads));
  });
}

async function cancel(io: Io, typed: string): Promise<void> {
  await atHome(io, async ({ mesh, signal, offline }) => {
    const id = await idOf(mesh, typed);
    await mesh.call("offload_cancel", { id }, { signal });
    // The cluster confirms it as soon as it has heard of it.
    const view = await mesh.call("offload_status", { id, wait_ms: SETTLE_MS, until_over: true }, { signal });
    if (!("offload_id" in view)) return;
    const problem = isOver(view) ? undefined : await offline();
    if (problem !== undefined) io.note(`${problem} The cluster is told when it is back.`);
    io.result(
      document(view),
      isOver(view)
        ? `Offload ${id} ${said(view.status)}.`
        : `Offload ${id} is being cancelled; the cluster has not confirmed it yet.`,
    );
  });
}

// Following

/** Shows an offload's progress until it has ended, and then what came of it. */
async function followToTheEnd(io: Io, { mesh, signal, settle }: Visit, id: string): Promise<void> {
  const live = progressLines(io);
  let view: OffloadView;
  try {
    view = await untilOver({ mesh, signal }, id, live.isLive, (progress) => live.show(id, progress));
  } catch (error) {
    live.end();
    if (error instanceof MeshError && error.code === "aborted")
      io.note(
        `It goes on without this command. Follow it with kars-mesh status ${shortOf(id)} --watch, end it with kars-mesh cancel ${shortOf(id)}.`,
      );
    throw error;
  }
  live.end();
  // The cluster is told that it is over.
  await settle();
  io.result(document(view), describe(view));
  if (view.status !== "done") process.exitCode = 1;
}

async function followAll(io: Io, { mesh, signal }: Visit): Promise<void> {
  const all = await mesh.call("offload_status", {});
  const running = "offloads" in all ? all.offloads.filter((view) => !isOver(view)) : [];
  const live = progressLines(io);
  try {
    await Promise.all(
      running.map(({ offload_id: id }) =>
        untilOver({ mesh, signal }, id, live.isLive, (progress) => live.show(id, `${shortOf(id)}  ${progress}`)),
      ),
    );
  } finally {
    live.end();
  }
}

/** Follows one offload to its end. Each state that looks different from the one before is shown, the first and the last too. */
async function untilOver(
  { mesh, signal }: Pick<Visit, "mesh" | "signal">,
  id: string,
  live: boolean,
  show: (progress: string) => void,
): Promise<OffloadView> {
  let shown = "";
  const showOnce = (view: Progress) => {
    const text = progressOf(view, live);
    if (text !== shown) show(text);
    shown = text;
  };
  const first = await mesh.call("offload_status", { id });
  if ("offload_id" in first) showOnce(first);
  for (;;) {
    const view = await mesh.call(
      "offload_status",
      { id, wait_ms: WAIT_MAX_MS, until_over: true },
      { signal, onProgress: (news) => isProgress(news) && showOnce(news) },
    );
    if (!("offload_id" in view)) throw new MeshError("offload_unknown", `${id}.`);
    showOnce(view);
    if (isOver(view)) return view;
  }
}

/** A line for each of some things, which are written over where a person looks, and follow each other elsewhere. */
function progressLines(io: Io) {
  const { stderr } = process;
  if (!stderr.isTTY) return { isLive: false, show: (_: string, text: string) => io.note(text), end: () => undefined };
  const lines = new Map<string, string>();
  let drawn = 0;
  /** To the first of the lines, and everything from there on gone. */
  const back = () => (drawn > 0 ? `\x1b[${drawn}A\r\x1b[J` : "");
  return {
    isLive: true,
    show: (key: string, text: string) => {
      lines.set(key, cut(text, stderr.columns - 1));
      const shown = [...lines.values()].slice(0, Math.max(1, stderr.rows - 1));
      stderr.write(`${back()}${shown.map((each) => `${each}\n`).join("")}`);
      drawn = shown.length;
    },
    end: () => {
      stderr.write(back());
      drawn = 0;
    },
  };
}

import { missingFiles, type OffloadStatus, type OffloadView } from "../actors/offloads.ts";
import { age, block, cut, facts, line, size, styled, table, time } from "./output.ts";

// Offloads as programs and people see them.

/** An offload in the form that is promised to programs. */
export const document = (view: OffloadView) => {
  const { offload_id, status, phase, position, progress, summary, files, files_missing, error } = view;
  const { exit, tokens, duration_seconds, log, folder } = view;
  const result = { summary, files, files_missing, exit, tokens, duration_seconds, log, folder, error };
  return { offload_id, status, phase, position, progress, ...result };
};

/** The part of an offload that is shown while it goes on. */
export type Progress = Pick<OffloadView, "phase" | "position" | "progress">;

/** Whether nothing more will happen to it. */
export const isOver = (view: OffloadView) => view.ended_at !== null;

const SHORT_ID = 8;
/** Enough of an id to be typed. */
export const shortOf = (id: string): string => line(id.slice(0, SHORT_ID));

const PHASE_WIDTH = "cancelling".length;
const PERCENT_WIDTH = "100%".length;
/** What a controller calls its steps: the phase and the message say the same. */
const CONTROLLER_STAGES: ReadonlySet<string | null> = new Set(["validating", "spawning", "scheduled", "ready"]);

const BAR_WIDTH = 20;
const bar = (part: number): string => {
  const full = Math.round(part * BAR_WIDTH);
  return `[${"#".repeat(full)}${"-".repeat(BAR_WIDTH - full)}]`;
};

/** In a log, files on their way are worth a line only so often. */
const STEP_PERCENT = 10;

/** How far an offload is, in one line. `live`: it is written over, so it may change with every byte. */
export function progressOf({ phase, position, progress }: Progress, live = false): string {
  if (ENDS.has(phase)) return phase;
  if (position !== null) return `${phase.padEnd(PHASE_WIDTH)}  number ${position}`;
  const { stage, message, bytes, bytes_total: total } = progress;
  const moves = bytes !== null && total !== null && total > 0 && bytes < total;
  const pct = moves ? (100 * bytes) / total : progress.pct;
  const shown = pct !== null && moves && !live ? pct - (pct % STEP_PERCENT) : pct;
  const percent = shown === null ? "" : `${Math.floor(shown)}%`;
  const finer = stage === null || stage === phase || CONTROLLER_STAGES.has(stage) ? "" : `${stage}: `;
  const words = moves
    ? live
      ? `${size(bytes)} of ${size(total)}`
      : `of ${size(total)}`
    : `${finer}${message ?? ""}`.replace(/: $/, "");
  const drawn = live && pct !== null ? `${bar(pct / 100)} ` : "";
  return line(`${phase.padEnd(PHASE_WIDTH)}  ${drawn}${percent.padStart(PERCENT_WIDTH)}  ${words}`.trimEnd());
}

const ENDS: ReadonlySet<string> = new Set(["done", "error", "cancelled", "lost"]);
const COLOURS = {
  pending: "dim",
  running: "bold",
  done: "green",
  error: "red",
  lost: "red",
  cancelled: "yellow",
} as const;
const SAID = {
  pending: "is pending",
  running: "is running",
  done: "is done",
  error: "failed",
  lost: "is lost",
  cancelled: "was cancelled",
} as const;
/** The status as the end of a sentence that begins with the offload. */
export const said = (status: OffloadStatus) => styled(COLOURS[status], SAID[status]);

/** All there is to say about one offload. */
export function describe(view: OffloadView): string {
  const { offload_id, status, task, sandbox, requested_at, ended_at, duration_seconds, summary, files, error } = view;
  const missing = missingFiles(view);
  const parts = [
    `Offload ${offload_id} ${said(status)}.`,
    facts([
      ["task", task === null ? null : cut(line(task), 200)],
      ["progress", isOver(view) ? null : progressOf(view)],
      ["sandbox", sandbox],
      ["asked", `${time(requested_at)} (${age(requested_at)})`],
      ["ended", ended_at === null ? null : `${time(ended_at)} (${age(ended_at)})`],
      ["took", duration_seconds === null ? null : `${duration_seconds} s`],
      ["exit", view.exit === null ? null : String(view.exit)],
      ["tokens", view.tokens === null ? null : `${view.tokens.prompt} in, ${view.tokens.completion} out`],
      ["log", view.log === null ? null : `${view.log.path} (${size(view.log.size)})`],
      ["folder", files.length === 0 ? null : view.folder],
    ]),
    ...(view.confirmed === false ? [block(view.progress.message ?? "", "")] : []),
    ...(missing === undefined ? [] : [block(missing, "")]),
    ...(error === null ? [] : [block(error.message)]),
    ...(summary === null ? [] : [block(summary)]),
    ...(files.length === 0
      ? []
      : [
          table(
            ["FILE", "SIZE", "PATH"],
            files.map((file) => [file.name, size(file.size), file.path]),
          ),
        ]),
  ];
  return parts.join("\n\n");
}

const TASK_COLUMNS = 40;
const MESSAGE_COLUMNS = 30;

/** A table of offloads. */
export function overview(offloads: readonly OffloadView[]): string {
  if (offloads.length === 0) return "No offloads. Begin one with kars-mesh offload <task>.";
  const progress = (view: OffloadView) => {
    const { status, phase, position } = view;
    const { pct, message } = view.progress;
    if (isOver(view)) return "";
    if (position !== null) return `${phase}, number ${position}`;
    const parts = [phase === status ? "" : phase, pct === null ? "" : `${Math.round(pct)}%`, line(message ?? "")];
    return cut(parts.filter((part) => part !== "").join("  "), MESSAGE_COLUMNS);
  };
  return table(
    ["ID", "STATUS", "PROGRESS", "ASKED", "TASK"],
    offloads.map((view) => [
      view.offload_id,
      view.status,
      progress(view),
      age(view.requested_at),
      cut(line(view.task ?? "(forgotten)"), TASK_COLUMNS),
    ]),
  );
}

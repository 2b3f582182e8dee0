import type { OffloadStatus, OffloadView } from "../actors/offloads.ts";
import { age, block, cut, facts, line, size, styled, table, time } from "./output.ts";

// Offloads as programs and people see them.

/** An offload in the form that is promised to programs. */
export const document = ({ offload_id, status, phase, position, progress, summary, files, error }: OffloadView) => ({
  offload_id,
  status,
  phase,
  position,
  progress,
  summary,
  files,
  error,
});

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

/** How far an offload is, in one line. */
export function progressOf({ phase, position, progress: { stage, pct, message } }: Progress): string {
  if (ENDS.has(phase)) return phase;
  if (position !== null) return `${phase.padEnd(PHASE_WIDTH)}  number ${position}`;
  const percent = pct === null ? "" : `${Math.round(pct)}%`;
  const finer = stage === null || stage === phase || CONTROLLER_STAGES.has(stage) ? "" : `${stage}: `;
  const words = `${finer}${message ?? ""}`.replace(/: $/, "");
  return line(`${phase.padEnd(PHASE_WIDTH)}  ${percent.padStart(PERCENT_WIDTH)}  ${words}`.trimEnd());
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
  const parts = [
    `Offload ${offload_id} ${said(status)}.`,
    facts([
      ["task", task === null ? null : cut(line(task), 200)],
      ["progress", isOver(view) ? null : progressOf(view)],
      ["sandbox", sandbox],
      ["asked", `${time(requested_at)} (${age(requested_at)})`],
      ["ended", ended_at === null ? null : `${time(ended_at)} (${age(ended_at)})`],
      ["took", duration_seconds === null ? null : `${duration_seconds} s`],
    ]),
    ...(view.confirmed === false ? [block(view.progress.message ?? "", "")] : []),
    ...(error === null ? [] : [block(error.message, "")]),
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

import { OVER_MARK } from "../../actors/news.ts";
import { type OffloadView, offloadOf } from "../../actors/offloads.ts";
import { MeshError } from "../../errors.ts";
import { WAIT_MAX_MS } from "../../limits.ts";
import { CloudOffloadParameters, OffloadCancelParameters, OffloadStatusParameters } from "../../wire/tool.ts";
import { resolveFiles } from "../files.ts";
import { OFFLOADS_ENDED_SHOWN_MAX } from "../limits.ts";
import type { PluginNode } from "../node.ts";
import { originOf } from "../origin.ts";
import { count, isRunning, paragraphs, renderOffload, renderOffloadLine } from "../render.ts";
import { type Answer, defineTool } from "../tool.ts";

/** An offload without the names that OpenClaw grades a call by. */
const detailsOf = ({ status, error, ...view }: OffloadView) => ({ ...view, offload_status: status, failure: error });

const answer = (view: OffloadView): Answer => ({ text: renderOffload(view), details: detailsOf(view) });

const isView = (news: unknown): news is OffloadView =>
  typeof news === "object" && news !== null && "offload_id" in news;

export const cloudOffload = defineTool({
  name: "cloud_offload",
  label: "Offload a task",
  description:
    "Use to hand a heavy or long task to the paired cluster (“offload this”, “run it in the cloud”, “ask my cluster”). Returns an offload_id at once; the task runs in a governed sandbox, follow it with offload_status. Never put secrets in the task.",
  parameters: CloudOffloadParameters,
  async run({ task, files: named = [], to, capability, timeout_minutes, force }, { node, config, context, signal }) {
    const origin = originOf(context);
    const { files, meant } = await resolveFiles(named, context, config);
    await requireRoom(node, config.limits.runningOffloads, signal);
    const view = await node.call(
      "offload",
      {
        task,
        files,
        secrets: meant,
        ...(force === undefined ? {} : { force }),
        ...(to === undefined ? {} : { to }),
        ...(capability === undefined ? {} : { capability }),
        ...(timeout_minutes === undefined ? {} : { timeout_minutes }),
        ...(origin === undefined ? {} : { origin }),
      },
      { signal },
    );
    const { text, details } = answer(view);
    const first = view.duplicate
      ? `The same task with the same files has not ended yet, so nothing new was begun. offload_id: ${view.offload_id}`
      : `Offloaded with ${count(files.length, "file")}. offload_id: ${view.offload_id}`;
    return { text: paragraphs(first, text), details };
  },
});

/** @throws MeshError `limit_reached` when as many run as the person allows */
async function requireRoom(node: PluginNode, most: number | undefined, signal: AbortSignal | undefined): Promise<void> {
  if (most === undefined) return;
  const running = (await listOf(node, signal)).filter(isRunning).length;
  if (running >= most)
    throw new MeshError(
      "limit_reached",
      `${count(running, "offload")} running, and the configuration of this plugin allows ${most} at once. Wait for one to end, or cancel one.`,
    );
}

/** Who has seen how these ended needs not to be told. */
async function seen(node: PluginNode, views: readonly OffloadView[]): Promise<void> {
  const told = views
    .filter((view) => !isRunning(view))
    .map(({ offload_id }) => ({ subject: offloadOf(offload_id), mark: OVER_MARK }));
  if (told.length > 0) await node.call("told", { told }, { repeatable: true });
}

const listOf = async (node: PluginNode, signal: AbortSignal | undefined): Promise<readonly OffloadView[]> => {
  const result = await node.call("offload_status", {}, { signal, repeatable: true });
  return "offloads" in result ? result.offloads : [result];
};

/** Ends at the first change of any of the offloads, or with the time. */
async function firstChange(
  node: PluginNode,
  offloads: readonly OffloadView[],
  wait_ms: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const enough = new AbortController();
  const either = signal ? AbortSignal.any([signal, enough.signal]) : enough.signal;
  const waits = offloads.map(({ offload_id }) =>
    node.call("offload_status", { id: offload_id, wait_ms }, { signal: either, repeatable: true }),
  );
  try {
    await Promise.race(waits);
  } finally {
    enough.abort();
    // The others end as aborted, which is what was asked of them.
    await Promise.allSettled(waits);
  }
}

function renderList(offloads: readonly OffloadView[]): string {
  if (offloads.length === 0) return "There are no offloads.";
  const newestFirst = offloads.toReversed();
  const running = newestFirst.filter(isRunning);
  const ended = newestFirst.filter((view) => !isRunning(view));
  const left = ended.length - OFFLOADS_ENDED_SHOWN_MAX;
  return paragraphs(
    `${count(offloads.length, "offload")}, ${running.length} not ended.`,
    ...[...running, ...ended.slice(0, OFFLOADS_ENDED_SHOWN_MAX)].map(renderOffloadLine),
    left > 0 ? `${left} older ones are left out; ask for one with its offload_id.` : undefined,
    "For summaries and result files ask with an offload_id.",
  );
}

export const offloadStatus = defineTool({
  name: "offload_status",
  label: "Offload status",
  description:
    "Use to see how an offload stands or to get its result (“is it done yet?”): status, phase, progress, summary and result files. Without offload_id it lists all offloads; wait_seconds waits for the next change, with until_done for the end.",
  parameters: OffloadStatusParameters,
  inbound: true,
  async run({ offload_id, wait_seconds, until_done }, { node, signal, update }) {
    const wait_ms = wait_seconds === undefined ? (until_done ? WAIT_MAX_MS : 0) : wait_seconds * 1000;
    if (offload_id !== undefined) {
      const params = { id: offload_id, wait_ms, until_over: until_done };
      const onProgress = (news: unknown) => isView(news) && update(answer(news));
      const view = await node.call("offload_status", params, { signal, repeatable: true, onProgress });
      if ("offloads" in view) return { text: renderList(view.offloads), details: view };
      await seen(node, [view]);
      return answer(view);
    }
    const deadline = Date.now() + wait_ms;
    for (;;) {
      const offloads = await listOf(node, signal);
      const running = offloads.filter(isRunning);
      const left = deadline - Date.now();
      if (running.length === 0 || left <= 0) return { text: renderList(offloads), details: { offloads } };
      await firstChange(node, running, left, signal);
      if (!until_done) {
        const changed = await listOf(node, signal);
        return { text: renderList(changed), details: { offloads: changed } };
      }
    }
  },
});

export const offloadCancel = defineTool({
  name: "offload_cancel",
  label: "Cancel an offload",
  description: "Use to stop an offload that is no longer wanted. What it has sent back so far stays.",
  parameters: OffloadCancelParameters,
  async run({ offload_id }, { node, signal }) {
    const view = await node.call("offload_cancel", { id: offload_id }, { signal });
    return answer(view);
  },
});

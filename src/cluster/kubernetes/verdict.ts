import { IMAGE_PULLS_MAX } from "./limits.ts";
import { CONTAINER, type Placement } from "./manifests.ts";
import type { SeenJob, SeenPod } from "./observed.ts";

// What the status of a pod and of its Job means for a run, in words that a laptop can use.

export type Verdict =
  /** It is on its way, or runs: `scheduled` when it has a node. */
  | { readonly kind: "going"; readonly phase: "spawning" | "scheduled"; readonly words: string }
  /** Waiting for it is in vain. */
  | { readonly kind: "failed"; readonly detail: string }
  | { readonly kind: "exited"; readonly code: number | null };

/** How often fetching its image failed so far: one pod's history, which its status does not tell. */
export interface Pulls {
  readonly failed: number;
  readonly isFailing: boolean;
  /** Why the last attempt failed. */
  readonly why: string;
}
export const NO_PULLS: Pulls = { failed: 0, isFailing: false, why: "" };

/** `what: words`, as far as there are any. */
const because = (what: string, words: string) => (words === "" ? what : `${what}: ${words.replace(/\.+$/, "")}`);

/** Waiting reasons of a container that no time heals. */
const HOPELESS = new Set(["InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"]);

const containerOf = ({ status }: SeenPod) => status.containerStatuses.find(({ name }) => name === CONTAINER)?.state;

const conditionOf = ({ status }: SeenPod | SeenJob, type: string) =>
  status.conditions.find((condition) => condition.type === type);

/** Whether its container began, so that there is a log. */
export function hasLog(pod: SeenPod): boolean {
  const state = containerOf(pod);
  return Boolean(state?.running ?? state?.terminated);
}

/** A node tells `ErrImagePull` once for each attempt, and `ImagePullBackOff` until the next. */
export function pullsAfter(before: Pulls, pod: SeenPod): Pulls {
  const waiting = containerOf(pod)?.waiting;
  const isAttempt = waiting?.reason === "ErrImagePull";
  if (!waiting || !(isAttempt || waiting.reason === "ImagePullBackOff")) return { ...before, isFailing: false };
  // An attempt that was not seen is told of by the pause after it.
  const failed = before.failed + (isAttempt ? Number(!before.isFailing) : Number(before.failed === 0));
  return { failed, isFailing: isAttempt, why: isAttempt || before.why === "" ? waiting.message : before.why };
}

/** Why a pod is taken from its node, or was lost with it. */
function disruptionOf(pod: SeenPod): string | undefined {
  const { reason, message } = pod.status;
  if (reason === "Evicted") return because("evicted", message);
  const target = conditionOf(pod, "DisruptionTarget");
  const isTarget = target?.status === "True";
  const cause = isTarget ? target.reason : "";
  const words = message || (isTarget ? target.message : "");
  if (reason === "NodeLost" || reason === "NodeShutdown" || reason === "Terminated")
    return because("its node went away", words);
  switch (cause) {
    case "DeletionByTaintManager":
    case "DeletionByPodGC":
      return because("its node went away", words);
    case "PreemptionByScheduler":
      return because("evicted: another pod needed its place", words);
    case "EvictionByEvictionAPI":
    case "TerminationByKubelet":
      return because("evicted", words);
    default:
      return undefined;
  }
}

const outOfMemory = ({ memory_mib }: Placement["resources"]) =>
  memory_mib === null
    ? "it was killed, since its node had no memory left"
    : `it was killed for using more than ${memory_mib} MiB of memory`;

export function podVerdict(pod: SeenPod, pulls: Pulls, { image, resources }: Placement): Verdict {
  const state = containerOf(pod);
  const { terminated, waiting } = state ?? {};
  // Above the rest, since a container that is taken away ends with an exit code too.
  const disruption = disruptionOf(pod);
  if (disruption !== undefined) return { kind: "failed", detail: disruption };
  if (terminated?.reason === "OOMKilled") return { kind: "failed", detail: outOfMemory(resources) };
  if (terminated?.reason === "ContainerCannotRun" || terminated?.reason === "StartError")
    return { kind: "failed", detail: because("its container could not be started", terminated.message) };
  if (terminated) return { kind: "exited", code: terminated.exitCode };
  if (pod.status.phase === "Failed")
    return { kind: "failed", detail: because("its pod failed", pod.status.message || pod.status.reason) };
  const unpulled = `the image ${image} could not be pulled`;
  if (
    waiting?.reason === "InvalidImageName" ||
    waiting?.reason === "ErrImageNeverPull" ||
    pulls.failed >= IMAGE_PULLS_MAX
  )
    return { kind: "failed", detail: because(unpulled, pulls.why || waiting?.message || waiting?.reason || "") };
  if (waiting && HOPELESS.has(waiting.reason))
    return { kind: "failed", detail: because("its container could not be made", waiting.message) };
  if (pulls.failed > 0 && waiting) return { kind: "going", phase: "scheduled", words: because(unpulled, pulls.why) };
  if (state?.running) return { kind: "going", phase: "scheduled", words: "its container runs, and joins the mesh" };
  const scheduled = conditionOf(pod, "PodScheduled");
  if (pod.spec.nodeName || scheduled?.status === "True")
    return {
      kind: "going",
      phase: "scheduled",
      // ContainerCreating and PodInitializing say nothing more.
      words: waiting?.message
        ? because("it has a node, which waits", waiting.message)
        : "it has a node, which fetches its image",
    };
  if (scheduled?.reason === "Unschedulable")
    return { kind: "going", phase: "spawning", words: because("no node has room", scheduled.message) };
  return { kind: "going", phase: "spawning", words: "it waits for a node" };
}

/** How a Job ended, as far as it says so itself; undefined while it has not. Its pod, where there is one, may know better. */
export function jobVerdict(job: SeenJob): Verdict | undefined {
  const failed = conditionOf(job, "Failed");
  if (failed?.status === "True")
    return failed.reason === "DeadlineExceeded"
      ? { kind: "failed", detail: `its time of ${(job.spec.activeDeadlineSeconds ?? 0) / 60} minutes was up` }
      : { kind: "failed", detail: because("its pod is gone", failed.message) };
  return conditionOf(job, "Complete")?.status === "True" ? { kind: "exited", code: 0 } : undefined;
}

/** Whether a Job was ended for its time, whatever its pod says then. */
export const isOutOfTime = (job: SeenJob): boolean => {
  const failed = conditionOf(job, "Failed");
  return failed?.status === "True" && failed.reason === "DeadlineExceeded";
};

import { describe, expect, it } from "vitest";
import { SeenJob, SeenPod } from "../../src/cluster/kubernetes/observed.ts";
import { jobVerdict, NO_PULLS, podVerdict, pullsAfter } from "../../src/cluster/kubernetes/verdict.ts";
import { IMAGE, PLACEMENT, running, waiting } from "./world.ts";

// What the status of a pod means, in the words that a laptop gets.

const pod = (status: object, spec: object = {}) => SeenPod.parse({ metadata: { name: "p" }, spec, status });
const verdict = (...[status, spec]: Parameters<typeof pod>) => {
  const seen = pod(status, spec);
  return podVerdict(seen, pullsAfter(NO_PULLS, seen), PLACEMENT);
};
const terminated = (exitCode: number, reason: string, message = "") => ({
  phase: "Failed",
  containerStatuses: [{ name: "sandbox", state: { terminated: { exitCode, reason, message } } }],
});
const disrupted = (reason: string, message: string) => ({
  phase: "Failed",
  conditions: [{ type: "DisruptionTarget", status: "True", reason, message }],
  containerStatuses: [{ name: "sandbox", state: { terminated: { exitCode: 137, reason: "Error" } } }],
});
const unscheduled = (reason: string, message: string) => ({
  phase: "Pending",
  conditions: [{ type: "PodScheduled", status: "False", reason, message }],
});

describe("a pod on its way", () => {
  it.each([
    [{}, {}, "spawning", "it waits for a node"],
    [
      unscheduled("Unschedulable", "0/3 nodes are available: 3 Insufficient memory."),
      {},
      "spawning",
      "no node has room: 0/3 nodes are available: 3 Insufficient memory",
    ],
    [{ phase: "Pending" }, { nodeName: "n1" }, "scheduled", "it has a node, which fetches its image"],
    [waiting("ContainerCreating"), {}, "scheduled", "it has a node, which fetches its image"],
    [
      waiting("CreateContainerError", "context deadline exceeded"),
      {},
      "scheduled",
      "it has a node, which waits: context deadline exceeded",
    ],
    [
      waiting("ErrImagePull", "connection refused"),
      {},
      "scheduled",
      `the image ${IMAGE} could not be pulled: connection refused`,
    ],
    [running, { nodeName: "n1" }, "scheduled", "its container runs, and joins the mesh"],
  ])("%j %j", (status, spec, phase, words) => {
    expect(verdict(status, spec)).toEqual({ kind: "going", phase, words });
  });
});

describe("a pod that waiting does not help", () => {
  it.each([
    [
      waiting("InvalidImageName", "couldn't parse image name"),
      `the image ${IMAGE} could not be pulled: couldn't parse image name`,
    ],
    [
      waiting("ErrImageNeverPull", "not present with pull policy of Never"),
      `the image ${IMAGE} could not be pulled: not present with pull policy of Never`,
    ],
    [
      waiting("CreateContainerConfigError", 'secret "kars-1" not found'),
      'its container could not be made: secret "kars-1" not found',
    ],
    [terminated(137, "OOMKilled"), "it was killed for using more than 1024 MiB of memory"],
    [terminated(128, "StartError", "exec: no such file"), "its container could not be started: exec: no such file"],
    [
      { phase: "Failed", reason: "Evicted", message: "The node was low on resource: ephemeral-storage. " },
      "evicted: The node was low on resource: ephemeral-storage",
    ],
    [
      disrupted("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"),
      "its node went away: Taint manager: deleting due to NoExecute taint",
    ],
    [disrupted("DeletionByPodGC", "PodGC: node no longer exists"), "its node went away: PodGC: node no longer exists"],
    [
      disrupted("PreemptionByScheduler", "preempting to accommodate a higher priority pod"),
      "evicted: another pod needed its place: preempting to accommodate a higher priority pod",
    ],
    [disrupted("EvictionByEvictionAPI", "Eviction API: evicting"), "evicted: Eviction API: evicting"],
    [
      { phase: "Failed", reason: "NodeLost", message: "Node n1 which was running pod p is unresponsive" },
      "its node went away: Node n1 which was running pod p is unresponsive",
    ],
    [
      { phase: "Failed", reason: "Terminated", message: "Pod was terminated in response to imminent node shutdown." },
      "its node went away: Pod was terminated in response to imminent node shutdown",
    ],
    [
      { phase: "Failed", reason: "UnexpectedAdmissionError", message: "no devices left" },
      "its pod failed: no devices left",
    ],
  ])("%j", (status, detail) => {
    expect(verdict(status)).toEqual({ kind: "failed", detail });
  });

  it("is told of with words that are cut, on one line", () => {
    const found = verdict(waiting("InvalidImageName", `a\n${"b".repeat(10_000)}`));
    expect(found.kind === "failed" && found.detail.length).toBeLessThan(1000);
    expect(found.kind === "failed" && found.detail).not.toContain("\n");
  });
});

describe("an image that cannot be fetched", () => {
  const verdictAfter = (...reasons: (readonly [string, string])[]) => {
    let pulls = NO_PULLS;
    let seen = pod({});
    for (const [reason, message] of reasons) {
      seen = pod(waiting(reason, message));
      pulls = pullsAfter(pulls, seen);
    }
    return podVerdict(seen, pulls, PLACEMENT);
  };
  const attempt = ["ErrImagePull", "manifest unknown"] as const;
  const pause = ["ImagePullBackOff", "Back-off pulling image"] as const;

  it("is hopeless after three attempts, with the reason of the last", () => {
    expect(verdictAfter(attempt, pause, attempt, pause)).toMatchObject({ kind: "going" });
    expect(verdictAfter(attempt, pause, attempt, pause, attempt)).toEqual({
      kind: "failed",
      detail: `the image ${IMAGE} could not be pulled: manifest unknown`,
    });
  });
  it("is not counted anew when the same is told again", () => {
    expect(verdictAfter(attempt, attempt, attempt, attempt, pause, pause, pause)).toMatchObject({ kind: "going" });
  });
  it("counts an attempt that was not seen", () => {
    expect(verdictAfter(pause, attempt, pause, attempt)).toMatchObject({ kind: "failed" });
  });
});

describe("the end of a container", () => {
  it.each([0, 1, 137])("with %d is its exit", (code) => {
    expect(verdict(terminated(code, code === 0 ? "Completed" : "Error"))).toEqual({ kind: "exited", code });
  });
});

describe("a Job", () => {
  const job = (type?: string, reason = "", message = "") =>
    SeenJob.parse({
      metadata: { name: "j" },
      spec: { activeDeadlineSeconds: 600 },
      status: type === undefined ? null : { conditions: [{ type, status: "True", reason, message }] },
    });
  it("says nothing while it goes on", () => {
    expect(jobVerdict(job())).toBeUndefined();
    expect(jobVerdict(job("Suspended"))).toBeUndefined();
  });
  it("says how it ended", () => {
    expect(jobVerdict(job("Failed", "DeadlineExceeded"))).toEqual({
      kind: "failed",
      detail: "its time of 10 minutes was up",
    });
    expect(jobVerdict(job("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"))).toEqual({
      kind: "failed",
      detail: "its pod is gone: Job has reached the specified backoff limit",
    });
    expect(jobVerdict(job("Complete"))).toEqual({ kind: "exited", code: 0 });
  });
});
